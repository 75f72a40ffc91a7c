"""Datasets of images with tags, VOC instances, and transforms for proposals."""

import projects.common.stack  # noqa: F401  first, to silence the libraries

from .base_tag_dataset import BaseTagDataset
from .coco_instances import COCOInstanceDataset
from .coco_tags import COCOTagDataset
from .tag_file import TagFileDataset
from .transforms import LoadStoredProposals, ProjectProposals, RandomExposureSaturation
from .voc_instances import VOCInstanceDataset
from .voc_tags import SBDTagDataset, VOCTagDataset

__all__ = [
    'BaseTagDataset',
    'COCOInstanceDataset',
    'COCOTagDataset',
    'LoadStoredProposals',
    'ProjectProposals',
    'RandomExposureSaturation',
    'SBDTagDataset',
    'TagFileDataset',
    'VOCInstanceDataset',
    'VOCTagDataset',
]
