"""BFAN: Bidirectional Focal Attention Network."""

from __future__ import annotations

import torch
from mmengine.registry import MODELS
from torch import Tensor

from projects.common.errors import InputError

from .blockwise import BlockwiseSimilarity
from .scan import pool_cosines
from .stacked_attention import context_cosines, gram_matrices, pair_products


def _or_all(kept: Tensor) -> Tensor:
    """Where a query keeps nothing, as with equal weights, it keeps everything."""
    return kept | ~kept.any(dim=1, keepdim=True)


def focus_equal(weights: Tensor, lengths: Tensor) -> Tensor:
    """Keeps weights above the mean: n a_p > sum a, n being the set's true size."""
    size = lengths.to(weights.dtype)[:, None, None, None]
    return _or_all(size * weights > weights.sum(dim=1, keepdim=True))


def focus_prob(weights: Tensor, lengths: Tensor) -> Tensor:
    """Keeps a_p sum_j sqrt(a_j) > sum_j a_j^1.5; padded places have weight 0."""
    root = weights.sqrt()
    total = root.sum(dim=1, keepdim=True)
    return _or_all(weights * total > (weights * root).sum(dim=1, keepdim=True))


FOCUS = {'equal': focus_equal, 'prob': focus_prob}


@MODELS.register_module()
class BFANSimilarity(BlockwiseSimilarity):
    """Similarity of BFAN: mean cosine of words plus mean cosine of regions, in [-2, 2].

    Attention is SCAN's, in both directions, over the fragments that ``focus`` keeps.

    Args:
        focus: ``equal`` or ``prob``.
        smooth: lambda, inverse temperature of the attention.
        workspace: See :class:`BlockwiseSimilarity`.

    Raises:
        ValueError: ``focus`` is unknown.
    """

    semantic_arguments = ('focus',)

    def __init__(
        self, focus: str = 'equal', smooth: float = 20.0, workspace: int | None = None
    ) -> None:
        super().__init__(workspace)
        if focus not in FOCUS:
            raise InputError(f'BFANSimilarity: focus={focus!r}, expected equal or prob')
        self.focus_name = focus
        self.focus = FOCUS[focus]
        self.smooth = smooth

    def pair_elements(self, regions: int, words: int, channels: int) -> int:
        """The matrix of products of regions and words."""
        return regions * words

    def image_terms(self, images: Tensor) -> Tensor:
        """Gram matrices, whose diagonals are the squared lengths."""
        return gram_matrices(images)

    def score_block(
        self,
        images: Tensor,
        image_lengths: Tensor,
        terms: Tensor,
        captions: Tensor,
        caption_lengths: Tensor,
    ) -> Tensor:
        """Both directions, added; see :meth:`BlockwiseSimilarity.score_block`."""
        products = pair_products(images, captions)
        norms = torch.linalg.vector_norm(captions, dim=2)
        attend = (self.smooth, self.focus)
        words = context_cosines(products, terms, image_lengths, norms, *attend)
        products = products.permute(2, 3, 0, 1).contiguous()
        norms = torch.linalg.vector_norm(images, dim=2)
        gram = gram_matrices(captions)
        regions = context_cosines(products, gram, caption_lengths, norms, *attend)
        return (
            pool_cosines(words, caption_lengths, 'AVG', 0)
            + pool_cosines(regions, image_lengths, 'AVG', 0).T
        )
