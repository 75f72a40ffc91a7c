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
    """Keep everything for queries that would keep nothing, as with equal weights."""
    return kept | ~kept.any(dim=1, keepdim=True)


def focus_equal(weights: Tensor, lengths: Tensor) -> Tensor:
    """Keep weights above the mean: n a_p > sum a, where n is the true size of the set."""
    size = lengths.to(weights.dtype)[:, None, None, None]
    return _or_all(size * weights > weights.sum(dim=1, keepdim=True))


def focus_prob(weights: Tensor, lengths: Tensor) -> Tensor:
    """Keep a_p sum_j sqrt(a_j) > sum_j a_j^1.5; the weights of padding are 0."""
    root = weights.sqrt()
    total = root.sum(dim=1, keepdim=True)
    return _or_all(weights * total > (weights * root).sum(dim=1, keepdim=True))


FOCUS = {'equal': focus_equal, 'prob': focus_prob}


@MODELS.register_module()
class BFANSimilarity(BlockwiseSimilarity):
    """Compute BFAN's similarity: mean cosine of words plus mean cosine of regions, in [-2, 2].

    The attention is that of SCAN, in both directions, restricted to the fragments that ``focus``
    keeps.

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
        """Return the size of the matrix of products between regions and words."""
        return regions * words

    def image_terms(self, images: Tensor) -> Tensor:
        """Compute the Gram matrices, whose diagonals are the squared norms."""
        return gram_matrices(images)

    def score_block(
        self,
        images: Tensor,
        image_lengths: Tensor,
        terms: Tensor,
        captions: Tensor,
        caption_lengths: Tensor,
    ) -> Tensor:
        """Add the scores of both directions; see :meth:`BlockwiseSimilarity.score_block`."""
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
