"""Grounding datasets in several annotation formats, and their augmentations."""

import projects.common.stack  # noqa: F401  first, to silence the libraries

from .checks import Invalid
from .color_jitter import LookupColorJitter
from .dataset import GroundingDataset
from .flickr30k_entities import Flickr30kEntitiesDataset
from .generalized_refer import GRefCOCODataset, RefZOMDataset
from .json_lines import JSONLinesGroundingDataset
from .mixed import MixedGroundingDataset
from .refer import ReferGroundingDataset
from .reference import Reference, Sentence, Target
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
    'Flickr30kEntitiesDataset',
    'GRefCOCODataset',
    'GroundingDataset',
    'GroundingResize',
    'Invalid',
    'JSONLinesGroundingDataset',
    'LoadGroundingAnnotations',
    'LookupColorJitter',
    'MixedGroundingDataset',
    'RandomFlipWithWords',
    'RandomSafeCrop',
    'Reference',
    'RefZOMDataset',
    'ReferGroundingDataset',
    'Sentence',
    'SeqTRGroundingDataset',
    'Target',
    'TransVGGroundingDataset',
    'VisualGenomeRegionDataset',
]
