"""Object proposals: generating, reading, converting and storing them."""

from .formats import FORMATS, open_proposals, read_proposals, write_detectron2, write_mmdet
from .generate import generate_proposals
from .identity import ImageIdentity
from .images import list_images, map_unordered, of_this_rank
from .selective_search import selective_search
from .store import ProposalStore, in_view, tidy, write_store

__all__ = [
    'FORMATS',
    'ImageIdentity',
    'ProposalStore',
    'generate_proposals',
    'in_view',
    'list_images',
    'map_unordered',
    'of_this_rank',
    'open_proposals',
    'read_proposals',
    'selective_search',
    'tidy',
    'write_detectron2',
    'write_mmdet',
    'write_store',
]
