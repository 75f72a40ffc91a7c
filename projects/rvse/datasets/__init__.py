"""Data sets of images or region features with captions, in published layouts."""

from .base import BaseMatchingDataset
from .collate import stack_pairs
from .images import (
    CaptionFileMatchingDataset,
    COCOCaptionsMatchingDataset,
    KarpathyMatchingDataset,
)
from .offline_negatives import OfflineNegativesDataset, fingerprint, pairs_then_negatives
from .precomp import PrecompMatchingDataset, precomputed_lines, write_precomputed
from .regions import LoadRegions, RegionStore, write_regions

__all__ = [
    'BaseMatchingDataset',
    'CaptionFileMatchingDataset',
    'COCOCaptionsMatchingDataset',
    'KarpathyMatchingDataset',
    'LoadRegions',
    'OfflineNegativesDataset',
    'PrecompMatchingDataset',
    'RegionStore',
    'fingerprint',
    'pairs_then_negatives',
    'precomputed_lines',
    'stack_pairs',
    'write_precomputed',
    'write_regions',
]
