"""A hook that draws predictions during evaluation."""

from .visualization_hook import RefVisualizationHook

__all__ = ['RefVisualizationHook']
