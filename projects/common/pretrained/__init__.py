"""Pretrained models of other makers: image classifiers.

Importing this package registers its classes; a config names it in ``custom_imports``.
"""

from .efficientnet_lite import EfficientNetLite

__all__ = ['EfficientNetLite']
