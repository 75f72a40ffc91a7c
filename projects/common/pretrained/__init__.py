"""Pretrained models of other makers: where their weights come from, and image classifiers.

Importing this package registers its classes; a config names it in ``custom_imports``.
"""

from .efficientnet_lite import EfficientNetLite

__all__ = ['EfficientNetLite']
