"""Object proposals: generating, reading, converting and storing them."""

from .formats import FORMATS, read_proposals, write_detectron2, write_mmdet
from .generate import generate_proposals
from .pictures import list_pictures, map_unordered, of_this_rank
from .selective_search import selective_search
from .store import ProposalStore, names_of_picture, tidy, write_store

__all__ = [
    'FORMATS',
    'ProposalStore',
    'generate_proposals',
    'list_pictures',
    'map_unordered',
    'names_of_picture',
    'of_this_rank',
    'read_proposals',
    'selective_search',
    'tidy',
    'write_detectron2',
    'write_mmdet',
    'write_store',
]
