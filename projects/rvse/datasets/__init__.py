from .base import BaseMatchingDataset
from .pictures import (
    CaptionFileMatchingDataset,
    COCOCaptionsMatchingDataset,
    KarpathyMatchingDataset,
)
from .precomp import PrecompMatchingDataset
from .regions import LoadRegions, RegionStore, write_regions

__all__ = [
    'BaseMatchingDataset',
    'CaptionFileMatchingDataset',
    'COCOCaptionsMatchingDataset',
    'KarpathyMatchingDataset',
    'LoadRegions',
    'PrecompMatchingDataset',
    'RegionStore',
    'write_regions',
]
