"""Detectors, backbones, decoders, heads and losses; importing this module registers them."""

import projects.common.stack  # noqa: F401  first, to silence the libraries

from .center_targets import center_heatmaps, gaussian_radius
from .collaborative_head import CollaborativeHead
from .data_preprocessor import GroundingDataPreprocessor
from .eevg import EEVG
from .elimination_decoder import KeptTokens, TokenEliminationDecoder
from .florence_grounder import FlorenceGrounder
from .fusion_decoder import LanguageFusionDecoder
from .generalized_head import GeneralizedHead, PresenceHead
from .generalized_plvl import GeneralizedPLVL
from .grounding_detector import GroundingDetector
from .language_free_backbone import LanguageFreeBackbone
from .language_guided_vit import LanguageGuidedViT
from .losses import CenterFocalLoss, DoubleSigmoidFocalLoss, center_focal_loss, mask_losses
from .plvl import PLVL
from .token_elimination import TokenElimination
from .token_mlp_head import TokenMLPHead
from .zero_shot_grounder import ZeroShotGrounder

__all__ = [
    'EEVG',
    'PLVL',
    'CenterFocalLoss',
    'CollaborativeHead',
    'DoubleSigmoidFocalLoss',
    'FlorenceGrounder',
    'GeneralizedHead',
    'GeneralizedPLVL',
    'GroundingDataPreprocessor',
    'GroundingDetector',
    'KeptTokens',
    'LanguageFreeBackbone',
    'LanguageFusionDecoder',
    'LanguageGuidedViT',
    'PresenceHead',
    'TokenElimination',
    'TokenEliminationDecoder',
    'TokenMLPHead',
    'ZeroShotGrounder',
    'center_focal_loss',
    'center_heatmaps',
    'gaussian_radius',
    'mask_losses',
]
