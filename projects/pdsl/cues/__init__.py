"""Bottom-up cues: pseudo masks of boxes from the picture alone, and their cache."""

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
