"""Matchers, encoders, pooling and similarities; importing this package registers them."""

from .bert_encoder import BERTCaptionEncoder
from .bfan import BFANSimilarity
from .bigru_encoder import BiGRUTextEncoder
from .blockwise import BlockwiseSimilarity
from .co_trained import CoTrainedMatcher
from .cosine import CosineSimilarity
from .gpo import GPO
from .matcher import ImageTextMatcher, captions_of
from .meta_weighted import MetaWeightedMatcher
from .offline_negatives_matcher import OfflineNegativesMatcher
from .pretrained import (
    ClassNameMatcher,
    EfficientNetLite,
    RegionMean,
    TorchvisionBackbone,
    TransformersImageEncoder,
    TransformersTextEncoder,
)
from .region_encoder import (
    RegionEncoder,
    RegionFC,
    RegionFCMLP,
    RegionMLP,
    RegionParallelMLP,
    RegionResidualMLP,
)
from .scan import SCANSimilarity
from .sgraf import SAFSimilarity, SGRAFSimilarity, SGRSimilarity
from .simple_pools import LastPool, MeanPool
from .size_augmentation import augment_words, drop_regions

__all__ = [
    'GPO',
    'BERTCaptionEncoder',
    'BFANSimilarity',
    'BiGRUTextEncoder',
    'BlockwiseSimilarity',
    'ClassNameMatcher',
    'CoTrainedMatcher',
    'CosineSimilarity',
    'EfficientNetLite',
    'ImageTextMatcher',
    'LastPool',
    'MeanPool',
    'MetaWeightedMatcher',
    'OfflineNegativesMatcher',
    'RegionEncoder',
    'RegionFC',
    'RegionFCMLP',
    'RegionMLP',
    'RegionMean',
    'RegionParallelMLP',
    'RegionResidualMLP',
    'SAFSimilarity',
    'SCANSimilarity',
    'SGRAFSimilarity',
    'SGRSimilarity',
    'TorchvisionBackbone',
    'TransformersImageEncoder',
    'TransformersTextEncoder',
    'augment_words',
    'captions_of',
    'drop_regions',
]
