"""Search and ground: a sentence finds pictures, and what it names is cut out in each of them."""

from .inferencer import SearchAndGround
from .visualization import draw_hits

__all__ = ['SearchAndGround', 'draw_hits']
