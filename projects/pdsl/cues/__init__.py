"""Cues: pseudo masks of boxes from the image, from files or by a segmenter; a cache for them."""

from .base import BottomUpCue
from .cached import CachedCue
from .grabcut import GrabCutCue
from .roi_targets import crop_masks, threshold_in_roi
from .segmenter import PromptedSegmenterCue
from .segments import SegmentFileCue
from .store import MaskStore

__all__ = [
    'BottomUpCue',
    'CachedCue',
    'GrabCutCue',
    'MaskStore',
    'PromptedSegmenterCue',
    'SegmentFileCue',
    'crop_masks',
    'threshold_in_roi',
]
