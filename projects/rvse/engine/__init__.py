"""Hooks and loops for training: vocabulary, gradient norm, mining, NCR, warm-up, visualization."""

from .build_vocabulary_hook import BuildVocabularyHook
from .clean_split_hook import CleanSplitHook
from .co_train_loop import CoTrainLoop
from .gradient_norm_hook import GradientNormHook
from .loss_warm_up_hook import LossWarmUpHook
from .offline_mining_hook import OfflineMiningHook
from .tokenize_hook import TokenizeInLoaderHook
from .visualization_hook import MatchingVisualizationHook

__all__ = [
    'BuildVocabularyHook',
    'CleanSplitHook',
    'CoTrainLoop',
    'GradientNormHook',
    'LossWarmUpHook',
    'MatchingVisualizationHook',
    'OfflineMiningHook',
    'TokenizeInLoaderHook',
]
