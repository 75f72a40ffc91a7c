"""Datasets of images with tags, VOC instances, and transforms for proposals."""

from .coco_instances import COCOInstanceDataset
from .tag_datasets import (
    BaseTagDataset,
    COCOTagDataset,
    SBDTagDataset,
    TagFileDataset,
    VOCTagDataset,
)
from .transforms import LoadStoredProposals, ProjectProposals, RandomExposureSaturation
from .voc_instances import VOCInstanceDataset

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
