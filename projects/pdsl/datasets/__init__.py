"""Datasets of images with tags, VOC instances, and transforms for proposals."""

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
    'COCOTagDataset',
    'LoadStoredProposals',
    'ProjectProposals',
    'RandomExposureSaturation',
    'SBDTagDataset',
    'TagFileDataset',
    'VOCInstanceDataset',
    'VOCTagDataset',
]
