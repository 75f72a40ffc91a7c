from .visualization_hook import GroundingVisualizationHook

__all__ = ['GroundingVisualizationHook']
