from .base import BaseGroundingDataset
from .json_lines import JSONLinesGroundingDataset
from .refer import ReferGroundingDataset
from .transforms import (
    GroundingResize,
    LoadGroundingAnnotations,
    RandomFlipWithWords,
    RandomSafeCrop,
)
from .transvg import TransVGGroundingDataset

__all__ = [
    'BaseGroundingDataset',
    'GroundingResize',
    'JSONLinesGroundingDataset',
    'LoadGroundingAnnotations',
    'RandomFlipWithWords',
    'RandomSafeCrop',
    'ReferGroundingDataset',
    'TransVGGroundingDataset',
]
