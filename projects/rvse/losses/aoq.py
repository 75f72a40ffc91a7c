"""AOQ: Adaptive Offline Quintuplet loss, and the mining of its offline negatives."""

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
    """Adaptive Offline Quintuplet loss of Table 4, as its released code computes it.

    Six terms for each pair: the hinges of the two online hardest negatives, each weighted with
    beta - (s_off - s_on) / alpha, and four hinges of margin ``offline_margin`` between the pair's
    score and the score of the image with the mined caption, of the mined image with the caption,
    of the two mined samples, and of their owners (the image of the mined caption with a caption of
    the mined image). The weight has a gradient and may be negative.

    Args:
        margin: Of the online hinges.
        beta: Weight of an online hinge where both negatives score the same.
        alpha: By how much a difference of scores changes it.
        offline_margin: Of the offline hinges.
        terms: 6, or 5 without the owners.
        clamp_weight: The weight has no gradient and is at least 0.
        reduction: As in :class:`MatchingLoss`.
        loss_weight: Factor of the result.
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
        """(B,), where offline negatives score like the hardest online one and below the pair."""
        return self.beta * hard_negative(anchors, self.margin)

    def forward(
        self, S: Tensor, positives: Tensor | None = None, offline: Tensor | None = None
    ) -> Tensor:
        """Compute the loss of a batch and of what was mined for it.

        Args:
            S: (B, B), see :meth:`MatchingLoss.forward`.
            positives: (B, B) bool, see there.
            offline: (terms - 2, B), scores of image i with the caption mined for it, of the image
                mined for caption i with caption i, of these two mined samples, and (six terms) of
                the mined caption's image with a caption of the mined image.

        Raises:
            ValueError: ``offline`` is missing or has another shape.
        """
        expected = (self.terms - 2, len(S))
        if offline is None or offline.shape != expected:
            found = None if offline is None else tuple(offline.shape)
            raise InputError(
                f'AOQLoss: offline scores of shape {found}, expected {expected}; '
                'OfflineNegativesMatcher computes them'
            )
        pairs = both_directions(S, positives)
        self._watch(pairs)
        positive = pairs[0].positive
        offline = offline.to(positive)
        hinges = (offline - positive + self.offline_margin).relu()
        apart = (hinges[2], hinges[3]) if self.terms == 6 else (hinges[2] / 2, hinges[2] / 2)
        losses = []
        for anchors, negative, together, without in zip(pairs, offline, hinges, apart):
            # an anchor without online negatives has hinge 0 and, here, any finite weight
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
        blocks: Rows of the training set's similarity matrix (I, T), a few images at a time and
            in order, as a trained model scores them.
        image_of_caption: (T,) int64, the image of each caption.
        top_captions: Negatives to keep for every image.
        top_images: Negatives to keep for every caption.

    Returns:
        For every image the captions of others that score highest, (I, top_captions), and for every
        caption the other images, (T, top_images), both int64 with the hardest first.

    Raises:
        ValueError: There are no blocks, their shape is not that of the captions, or an image or a
            caption has fewer negatives.
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
        # of captions, the best so far compete with this block's images
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
