"""A hook that draws predictions while a run evaluates."""

from .visualization_hook import RefVisualizationHook

__all__ = ['RefVisualizationHook']
