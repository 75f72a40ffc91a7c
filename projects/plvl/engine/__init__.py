"""Hooks of training and evaluation."""

from .progressive_resize_hook import ProgressiveResizeHook

__all__ = ['ProgressiveResizeHook']
