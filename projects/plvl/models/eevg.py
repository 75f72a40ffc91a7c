"""EEVG (Chen et al., ECCV 2024), the alternative host model in Table 7 of the paper."""

from __future__ import annotations

from mmengine.registry import MODELS
from torch import Tensor

from .elimination_decoder import KeptTokens
from .grounding_detector import GroundingDetector


@MODELS.register_module()
class EEVG(GroundingDetector):
    """Implement Efficient and Effective decoder-based Visual Grounding.

    The model combines a backbone without language, a decoder that eliminates visual tokens, and two
    MLPs for box and mask. With :class:`CollaborativeHead` in place of the MLPs it is 'EEVG w.
    CMTH', with language in the backbone 'EEVG w. PLVL' (Table 7).

    Args:
        text_encoder: See :class:`projects.common.text.BERTTextEncoder`.
        backbone: See :class:`LanguageGuidedViT`; ``language_indexes=()`` is the original EEVG.
        decoder: See :class:`TokenEliminationDecoder`.
        head: See :class:`TokenMLPHead`. A head without ``reads_tokens`` receives a feature map with
            zeros in place of eliminated tokens.
    """

    def extract_feat(
        self,
        images: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
        repeats: Tensor | None = None,
    ) -> KeptTokens | Tensor:
        """Compute the decoder's tokens or their feature map, depending on the head.

        Args:
            images: (B, 3, H, W), normalized.
            input_ids: (B, L).
            attention_mask: (B, L), 0 on padding.
            repeats: See :meth:`GroundingDetector.extract_feat`.

        Returns:
            The decoder's tokens, or their map (B, C, H / P, W / P) for a convolutional head.
        """
        tokens = super().extract_feat(images, input_ids, attention_mask, repeats)
        return tokens if getattr(self.head, 'reads_tokens', False) else tokens.to_map()
