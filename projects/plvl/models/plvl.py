"""PLVL predicts a box and a mask for one image and one sentence (paper, section 3.1)."""

from __future__ import annotations

from mmengine.registry import MODELS

from .grounding_detector import GroundingDetector


@MODELS.register_module()
class PLVL(GroundingDetector):
    """Implement Progressive Language-guided Visual Learning for REC and RES.

    Args:
        text_encoder: See :class:`projects.common.text.BERTTextEncoder`.
        backbone: See :class:`LanguageGuidedViT`.
        decoder: See :class:`LanguageFusionDecoder`.
        head: See :class:`CollaborativeHead`.
    """
