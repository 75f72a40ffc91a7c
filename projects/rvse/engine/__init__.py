"""Hooks: vocabulary, gradient norm, mining, clean split, warm-up of the loss."""

from .build_vocabulary_hook import BuildVocabularyHook
from .clean_split_hook import CleanSplitHook
from .gradient_norm_hook import GradientNormHook
from .loss_warm_up_hook import LossWarmUpHook
from .offline_mining_hook import OfflineMiningHook

__all__ = [
    'BuildVocabularyHook',
    'CleanSplitHook',
    'GradientNormHook',
    'LossWarmUpHook',
    'OfflineMiningHook',
]
