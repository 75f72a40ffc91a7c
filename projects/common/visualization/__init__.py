"""Drawing with OpenCV and Pillow, shared by the visualizers of the projects."""

from .objects import PRED_COLOR, TRUTH_COLOR, color_of, draw_objects
from .pages import INK, PAPER, Panel, draw_page, resize_to, tile
from .text import load_font, wrap
from .visualizer import ArrayVisualizer, check_image

__all__ = [
    'INK',
    'PAPER',
    'PRED_COLOR',
    'TRUTH_COLOR',
    'ArrayVisualizer',
    'Panel',
    'check_image',
    'color_of',
    'draw_objects',
    'draw_page',
    'load_font',
    'resize_to',
    'tile',
    'wrap',
]
