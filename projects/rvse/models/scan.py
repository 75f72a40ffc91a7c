"""SCAN: Stacked Cross Attention."""

from __future__ import annotations

import torch
from mmengine.registry import MODELS
from torch import Tensor

from projects.common.errors import InputError

from .blockwise import BlockwiseSimilarity
from .sequences import length_mask
from .stacked_attention import context_cosines, gram_matrices, pair_products

# lambda and lambda_2 of the released commands for Flickr30K; on COCO, i2t uses lambda_2 = 20
DEFAULTS = {'t2i': (9.0, 6.0), 'i2t': (4.0, 5.0)}


def pool_cosines(cosines: Tensor, lengths: Tensor, aggregation: str, lambda_lse: float) -> Tensor:
    """Aggregate the cosines of the vectors of a set into one score.

    Args:
        cosines: (K, M, Q), 0 at padding.
        lengths: (M,), true sizes of the sets.
        aggregation: ``AVG``, ``LSE``, ``max`` or ``sum``.
        lambda_lse: lambda_2 of LSE: log(sum exp(lambda_2 cos)) / lambda_2.
    """
    if aggregation in ('AVG', 'sum'):
        total = cosines.sum(dim=2)
        return total / lengths if aggregation == 'AVG' else total
    cosines = cosines.masked_fill(~length_mask(lengths, cosines.shape[2]), -torch.inf)
    if aggregation == 'max':
        return cosines.max(dim=2).values
    return torch.logsumexp(lambda_lse * cosines, dim=2) / lambda_lse


@MODELS.register_module()
class SCANSimilarity(BlockwiseSimilarity):
    """Compute SCAN's similarity: words attend to regions (t2i), or regions to words (i2t).

    Args:
        direction: ``t2i`` or ``i2t``.
        aggregation: ``AVG`` or ``LSE``, or ``max`` and ``sum`` of the released code.
        smooth: lambda, inverse temperature of the attention. None uses the released value: 9 for
            t2i, 4 for i2t.
        lambda_lse: lambda_2 of LSE. None uses 6 for t2i and 5 for i2t (20 on COCO).
        workspace: See :class:`BlockwiseSimilarity`.

    Raises:
        ValueError: ``direction`` or ``aggregation`` is unknown.
    """

    semantic_arguments = ('direction', 'aggregation')

    def __init__(
        self,
        direction: str = 't2i',
        aggregation: str = 'AVG',
        smooth: float | None = None,
        lambda_lse: float | None = None,
        workspace: int | None = None,
    ) -> None:
        super().__init__(workspace)
        if direction not in DEFAULTS:
            raise InputError(f'SCANSimilarity: direction={direction!r}, expected t2i or i2t')
        if aggregation not in ('AVG', 'LSE', 'max', 'sum'):
            raise InputError(
                f'SCANSimilarity: aggregation={aggregation!r}, expected AVG, LSE, max or sum'
            )
        self.direction = direction
        self.aggregation = aggregation
        self.smooth = DEFAULTS[direction][0] if smooth is None else smooth
        self.lambda_lse = DEFAULTS[direction][1] if lambda_lse is None else lambda_lse

    def pair_elements(self, regions: int, words: int, channels: int) -> int:
        """Return the size of the matrix of products between regions and words."""
        return regions * words

    def image_terms(self, images: Tensor) -> Tensor:
        """Compute Gram matrices of the context (t2i) or norms of the queries (i2t)."""
        if self.direction == 't2i':
            return gram_matrices(images)
        return torch.linalg.vector_norm(images, dim=2)

    def score_block(
        self,
        images: Tensor,
        image_lengths: Tensor,
        terms: Tensor,
        captions: Tensor,
        caption_lengths: Tensor,
    ) -> Tensor:
        """Pool the attention of one direction; see :meth:`BlockwiseSimilarity.score_block`."""
        if self.direction == 't2i':
            products = pair_products(images, captions)
            norms = torch.linalg.vector_norm(captions, dim=2)
            cosines = context_cosines(products, terms, image_lengths, norms, self.smooth)
            return pool_cosines(cosines, caption_lengths, self.aggregation, self.lambda_lse)
        products = pair_products(captions, images)
        gram = gram_matrices(captions)
        cosines = context_cosines(products, gram, caption_lengths, terms, self.smooth)
        return pool_cosines(cosines, image_lengths, self.aggregation, self.lambda_lse).T
