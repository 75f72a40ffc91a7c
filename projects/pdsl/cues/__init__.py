"""Bottom-up cues: pseudo masks of boxes from the image alone, and a cache for them."""

from .base import BottomUpCue
from .cached import CachedCue
from .grabcut import GrabCutCue
from .roi_targets import crop_masks, threshold_in_roi
from .segments import SegmentFileCue
from .store import MaskStore

__all__ = [
    'BottomUpCue',
    'CachedCue',
    'GrabCutCue',
    'MaskStore',
    'SegmentFileCue',
    'crop_masks',
    'threshold_in_roi',
]
