"""Check a training recipe before it is run (tools/preflight.py)."""

from .like_pretrained import RELEASED_RESNET18, LikePretrained, LikePretrainedHook
from .made_up import MadeUp, makes_up, prepares, write_instances

__all__ = [
    'RELEASED_RESNET18',
    'LikePretrained',
    'LikePretrainedHook',
    'MadeUp',
    'makes_up',
    'prepares',
    'write_instances',
]
