"""Grounding datasets in several annotation formats, and their augmentations."""

from .base import BaseGroundingDataset
from .flickr30k_entities import Flickr30kEntitiesDataset
from .json_lines import JSONLinesGroundingDataset
from .mixed import MixedGroundingDataset
from .refer import ReferGroundingDataset
from .seqtr import SeqTRGroundingDataset
from .transforms import (
    GroundingResize,
    LoadGroundingAnnotations,
    RandomFlipWithWords,
    RandomSafeCrop,
)
from .transvg import TransVGGroundingDataset
from .visual_genome import VisualGenomeRegionDataset

__all__ = [
    'BaseGroundingDataset',
    'Flickr30kEntitiesDataset',
    'GroundingResize',
    'JSONLinesGroundingDataset',
    'LoadGroundingAnnotations',
    'MixedGroundingDataset',
    'RandomFlipWithWords',
    'RandomSafeCrop',
    'ReferGroundingDataset',
    'SeqTRGroundingDataset',
    'TransVGGroundingDataset',
    'VisualGenomeRegionDataset',
]
