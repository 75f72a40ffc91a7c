from .tag_datasets import (
    BaseTagDataset,
    COCOTagDataset,
    SBDTagDataset,
    TagFileDataset,
    VOCTagDataset,
)
from .transforms import LoadStoredProposals, ProjectProposals

__all__ = [
    'BaseTagDataset',
    'COCOTagDataset',
    'LoadStoredProposals',
    'ProjectProposals',
    'SBDTagDataset',
    'TagFileDataset',
    'VOCTagDataset',
]
