from .center_targets import center_heatmaps, gaussian_radius
from .collaborative_head import CollaborativeHead
from .fusion_decoder import LanguageFusionDecoder
from .language_guided_vit import LanguageGuidedViT
from .losses import CenterFocalLoss, DoubleSigmoidFocalLoss, center_focal_loss
from .plvl import PLVL

__all__ = [
    'PLVL',
    'CenterFocalLoss',
    'CollaborativeHead',
    'DoubleSigmoidFocalLoss',
    'LanguageFusionDecoder',
    'LanguageGuidedViT',
    'center_focal_loss',
    'center_heatmaps',
    'gaussian_radius',
]
