from .build_vocabulary_hook import BuildVocabularyHook
from .gradient_norm_hook import GradientNormHook
from .loss_warm_up_hook import LossWarmUpHook

__all__ = ['BuildVocabularyHook', 'GradientNormHook', 'LossWarmUpHook']
