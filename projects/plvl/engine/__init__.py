from .visualization_hook import RefVisualizationHook

__all__ = ['RefVisualizationHook']
