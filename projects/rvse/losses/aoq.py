"""AOQ: the Adaptive Offline Quintuplet loss and the mining of its offline negatives."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from projects.common.errors import InputError
from projects.common.registry import MODELS

from .anchors import Anchors, both_directions
from .base import MatchingLoss
from .triplet import hard_negative


@MODELS.register_module()
class AOQLoss(MatchingLoss):
    """Compute the Adaptive Offline Quintuplet loss of Table 4, following its released code.

    Every pair contributes six terms. Two are the hinges of the hardest online negatives, each
    weighted by beta - (s_off - s_on) / alpha. Four are hinges with margin ``offline_margin``
    between the score of the pair and the score of the image with the mined caption, of the mined
    image with the caption, of the two mined samples, and of their owners (the image of the mined
    caption with a caption of the mined image). The weight has a gradient and may be negative.

    Args:
        margin: Margin of the online hinges.
        beta: Weight of an online hinge when both negatives have the same score.
        alpha: Divisor of the score difference in the weight.
        offline_margin: Margin of the offline hinges.
        terms: 6, or 5 to omit the owners.
        clamp_weight: Detach the weight and clamp it to at least 0.
        reduction: See :class:`MatchingLoss`.
        loss_weight: Factor applied to the result.
        patience: See :class:`MatchingLoss`.

    Raises:
        ValueError: ``terms`` is neither 5 nor 6.
    """

    def __init__(
        self,
        margin: float = 0.2,
        beta: float = 1.5,
        alpha: float = 0.3,
        offline_margin: float = 0.0,
        terms: int = 6,
        clamp_weight: bool = False,
        reduction: str = 'sum',
        loss_weight: float = 1.0,
        patience: int = 500,
    ) -> None:
        super().__init__(margin, reduction, loss_weight, patience)
        if terms not in (5, 6):
            raise InputError(f'AOQLoss: terms={terms!r}, expected 5 or 6')
        self.beta = beta
        self.alpha = alpha
        self.offline_margin = offline_margin
        self.terms = terms
        self.clamp_weight = clamp_weight

    def anchor_loss(self, anchors: Anchors) -> Tensor:
        """Compute the loss (B,) without offline scores.

        It assumes that offline negatives score like the hardest online one and below the pair.
        """
        return self.beta * hard_negative(anchors, self.margin)

    def forward(
        self,
        S: Tensor,
        positives: Tensor | None = None,
        offline: Tensor | None = None,
        *,
        captions: Tensor | None = None,
        offset: int = 0,
    ) -> Tensor:
        """Compute the loss of a batch and its offline negatives.

        Args:
            S: (b, B), see :meth:`MatchingLoss.forward`.
            positives: (b, B) bool, see :meth:`MatchingLoss.forward`.
            offline: (terms - 2, b), scores of image i with the caption mined for it, of the image
                mined for caption i with caption i, of these two mined samples, and (six terms) of
                the mined caption's image with a caption of the mined image.
            captions: See :meth:`MatchingLoss.forward`.
            offset: See :meth:`MatchingLoss.forward`.

        Raises:
            ValueError: ``offline`` is missing or has the wrong shape.
        """
        expected = (self.terms - 2, len(S))
        if offline is None or offline.shape != expected:
            found = None if offline is None else tuple(offline.shape)
            raise InputError(
                f'AOQLoss: offline scores of shape {found}, expected {expected}; '
                'OfflineNegativesMatcher computes them'
            )
        pairs = both_directions(S, positives, captions, offset)
        self._watch(pairs)
        positive = pairs[0].positive
        offline = offline.to(positive)
        hinges = (offline - positive + self.offline_margin).relu()
        apart = (hinges[2], hinges[3]) if self.terms == 6 else (hinges[2] / 2, hinges[2] / 2)
        losses = []
        for anchors, negative, together, without in zip(pairs, offline, hinges, apart):
            # without online negatives the hinge is 0, so any finite weight works
            hardest = anchors.hardest.masked_fill(anchors.hardest.isneginf(), 0)
            weight = self.beta - (negative - hardest) / self.alpha
            if self.clamp_weight:
                weight = weight.detach().clamp(min=0)
            losses.append(weight * hard_negative(anchors, self.margin) + together + without)
        return self.reduce(losses)


def mine_offline_negatives(
    blocks: Iterable[Tensor],
    image_of_caption: Tensor,
    top_captions: int = 300,
    top_images: int = 60,
) -> tuple[Tensor, Tensor]:
    """Find the hardest negatives in the whole training set, for :class:`AOQLoss`.

    Args:
        blocks: Rows of the similarity matrix (I, T) of the training set, scored by a trained model.
            A block holds a few images; blocks are in order.
        image_of_caption: (T,) int64, index of the image of each caption.
        top_captions: Number of negatives to keep per image.
        top_images: Number of negatives to keep per caption.

    Returns:
        The highest-scoring captions of other images for every image, (I, top_captions), and the
        highest-scoring other images for every caption, (T, top_images), both int64 and hardest
        first.

    Raises:
        ValueError: There are no blocks, their shape does not match the captions, or an image or a
            caption has too few negatives.
    """
    captions, start = [], 0
    best: tuple[Tensor, Tensor] | None = None  # scores and images (T, top_images), for captions
    for block in blocks:
        if block.shape[1] != len(image_of_caption):
            raise InputError(
                f'mine_offline_negatives: scores of {block.shape[1]:,} captions, expected '
                f'{len(image_of_caption):,}'
            )
        images = torch.arange(start, start + len(block), device=block.device)
        start += len(block)
        own = images[:, None] == image_of_caption.to(block.device)
        scores = block.masked_fill(own, -torch.inf)
        captions.append(_top(scores, top_captions, 'an image', 'top_captions')[1])
        # for captions, merge the best images so far with those of this block
        columns, candidates = scores.T, images.expand(scores.shape[1], -1)
        if best is not None:
            columns = torch.cat([best[0], columns], dim=1)
            candidates = torch.cat([best[1], candidates], dim=1)
        highest, chosen = columns.topk(min(top_images, columns.shape[1]), dim=1)
        best = highest, candidates.gather(1, chosen)
    if best is None:
        raise InputError('mine_offline_negatives: there are no blocks')
    _top(best[0], top_images, 'a caption', 'top_images')
    return torch.cat(captions), best[1]


def _top(scores: Tensor, top: int, what: str, field: str) -> tuple[Tensor, Tensor]:
    fewest = int((~scores.isneginf()).sum(dim=1).min())
    if fewest < top:
        raise InputError(
            f'mine_offline_negatives: {what} has {fewest} negatives, expected {field}={top} or more'
        )
    return scores.topk(top, dim=1)
