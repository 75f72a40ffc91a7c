"""Measure the colors of objects, in words."""

from __future__ import annotations

import cv2
import numpy as np

from .description import CLOTHED
from .photo import PhotoObject

__all__ = ['COLORS', 'NEIGHBORS', 'color_shares', 'has_cast']

COLORS = (
    'red', 'orange', 'yellow', 'green', 'blue', 'purple', 'pink', 'brown', 'black', 'white', 'gray',
)  # fmt: skip
"""The eleven basic color terms of English (Berlin and Kay, 1969)."""
NEIGHBORS = {
    'red': ('orange', 'pink', 'brown', 'purple'),
    'orange': ('red', 'yellow', 'brown', 'pink'),
    'yellow': ('orange', 'brown', 'green', 'white'),
    'green': ('yellow', 'blue'),
    'blue': ('green', 'purple'),
    'purple': ('blue', 'pink', 'red'),
    'pink': ('red', 'purple', 'orange', 'white'),
    'brown': ('orange', 'red', 'yellow', 'black', 'gray'),
    'black': ('gray', 'brown'),
    'white': ('gray', 'yellow', 'pink'),
    'gray': ('black', 'white', 'brown', 'blue'),
}
"""Colors that one person calls one way and the next person another."""
# Between these ranges of saturation and value, and between those of hues, the light decides what a
# color is called.
_DULL, _VIVID = 0.14, 0.32
_BLACK, _DARK, _WHITE = 0.2, 0.3, 0.75
_MAX_CHROMA = 0.06  # of black, in HSV: a dark brown has more
_MAX_CAST = 16.0
"""Largest distance of an image's mean color from gray, in units of CIE L*a*b*."""
_MIN_PIXELS = 60
UPRIGHT = 1.5
"""Least ratio of height and width of a person whose clothes are measured."""
_CHEST = (0.2, 0.45)  # of the height of a person's box
# Ranges of hues in degrees.
_HUES = {'red': (345, 372), 'orange': (20, 34), 'yellow': (43, 66), 'green': (80, 160),
         'blue': (195, 250), 'purple': (262, 295), 'pink': (305, 338)}  # fmt: skip


def has_cast(image: np.ndarray) -> bool:
    """Return whether an image as a whole has a color, as under a colored light.

    Args:
        image: Image (H, W, 3) uint8, BGR.
    """
    small = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    _, a, b = cv2.cvtColor(small, cv2.COLOR_BGR2LAB).reshape(-1, 3).mean(axis=0)
    return float(np.hypot(a, b)) > _MAX_CAST


def color_shares(image: np.ndarray, obj: PhotoObject) -> dict[str, float]:
    """Measure the share of an object's pixels that has each color.

    The pixels are those of the mask without its border, or without a mask those of an ellipse that
    covers the middle of the box. Of a person, they are those of the chest of somebody upright.

    Args:
        image: Image (H, W, 3) uint8, BGR.
        obj: The object.

    Returns:
        Shares of the colors that occur. They add up to at most 1, because many pixels are between
        colors. Empty for an object with few pixels.
    """
    inside = _inner_pixels(obj, *image.shape[:2])
    if obj.noun in CLOTHED:
        x1, y1, x2, y2 = obj.box
        if obj.target.mask is None or y2 - y1 < UPRIGHT * (x2 - x1):
            return {}
        top, bottom = (round(y1 + share * (y2 - y1)) for share in _CHEST)
        inside[:top] = inside[bottom:] = False
    pixels = image[inside].astype(np.float32) / 255
    if len(pixels) < _MIN_PIXELS:
        return {}
    hsv = cv2.cvtColor(pixels[None], cv2.COLOR_BGR2HSV)[0]
    found = _colors_of(*hsv.T)
    return {name: float(share) for name, share in zip(COLORS, found.mean(axis=1)) if share > 0}


def _inner_pixels(obj: PhotoObject, height: int, width: int) -> np.ndarray:
    mask = obj.mask(height, width)
    if mask is not None:
        border = max(1, round(0.02 * min(obj.box[2] - obj.box[0], obj.box[3] - obj.box[1])))
        kernel = np.ones((2 * border + 1,) * 2, np.uint8)
        return cv2.erode(mask.astype(np.uint8), kernel).astype(bool)
    x1, y1, x2, y2 = obj.box
    inside = np.zeros((height, width), np.uint8)
    center = round((x1 + x2) / 2), round((y1 + y2) / 2)
    axes = round(0.3 * (x2 - x1)), round(0.3 * (y2 - y1))
    cv2.ellipse(inside, center, axes, 0, 0, 360, 1, -1)
    return inside.astype(bool)


def _colors_of(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Return which pixels have which of COLORS (11, N); arguments are (N,), the hue in degrees."""
    dull, vivid = saturation < _DULL, (saturation > _VIVID) & (value > _DARK)
    found = {
        'black': (value < _BLACK) & (saturation * value < _MAX_CHROMA),
        'white': dull & (value > _WHITE),
        'gray': dull & (value >= _DARK) & (value < 0.65),
    }
    for name, (low, high) in _HUES.items():
        found[name] = vivid & ((hue - low) % 360 < high - low)
    warm = (hue < 40) | (hue > 350)
    found['brown'] = vivid & warm & (value < 0.6) & (saturation < 0.75) & (hue > 8)
    found['orange'] &= (value > 0.75) & (saturation > 0.55)
    found['yellow'] &= value > 0.6
    found['red'] &= saturation > 0.5
    found['pink'] |= (
        (value > 0.75) & (saturation > 0.2) & (saturation < 0.45) & ((hue < 10) | (hue > 320))
    )
    found['green'] &= (saturation > 0.35) | (value < 0.6)
    return np.stack([found[name] for name in COLORS])
