"""Hooks of training and evaluation."""

from .progressive_resize_hook import ProgressiveResizeHook
from .visualization_hook import RefVisualizationHook

__all__ = ['ProgressiveResizeHook', 'RefVisualizationHook']
