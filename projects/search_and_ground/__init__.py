"""Search and ground: find images for a sentence, and segment what it names in each of them."""

from .inferencer import SearchAndGround
from .visualization import draw_hits

__all__ = ['SearchAndGround', 'draw_hits']
