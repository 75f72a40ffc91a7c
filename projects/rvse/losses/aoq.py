"""AOQ: Adaptive Offline Quintuplet loss, and the mining of its offline negatives."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from mmengine.registry import MODELS
from torch import Tensor

from .anchors import both_directions
from .base import MatchingLoss
from .triplet import hard_negative


@MODELS.register_module()
class AOQLoss(MatchingLoss):
    """Adaptive Offline Quintuplet loss of Table 4.

    The batch holds B pairs and, behind them, what was mined offline for them: picture B + i is a
    negative of caption i, caption B + i one of picture i. The hinge of the hardest negative among
    the B pairs weighs beta - (s_off - s_on) / alpha, without gradient and at least 0: the harder
    the offline negative beside the online one, the less. Offline negatives add hinges
    of margin 0, with the anchor in common and, between the two mined samples, without.

    Args:
        margin: Of the online hinge.
        beta: Weight of the online hinge where both negatives score the same.
        alpha: By how much a difference of scores changes it.
        offline_margin: Of the offline hinges.
        reduction: As in :class:`MatchingLoss`.
        loss_weight: Factor of the result.
        patience: See :class:`MatchingLoss`.
    """

    def __init__(
        self,
        margin: float = 0.2,
        beta: float = 1.5,
        alpha: float = 0.3,
        offline_margin: float = 0.0,
        reduction: str = 'sum',
        loss_weight: float = 1.0,
        patience: int = 500,
    ) -> None:
        super().__init__(margin, reduction, loss_weight, patience)
        self.beta = beta
        self.alpha = alpha
        self.offline_margin = offline_margin

    def forward(self, S: Tensor, positives: Tensor | None = None) -> Tensor:
        """
        Args:
            S: (2 B, 2 B), pictures in rows and captions in columns: B pairs, then their mined
                negatives.
            positives: (2 B, 2 B) bool; the part of the B pairs is read.

        Raises:
            ValueError: The number of rows is odd.
        """
        if len(S) % 2:
            raise ValueError(
                f'AOQLoss: S has {len(S)} rows, expected B pairs and their B offline negatives'
            )
        batch = len(S) // 2
        S = S.float() if S.dtype in (torch.float16, torch.bfloat16) else S
        pairs = both_directions(
            S[:batch, :batch], None if positives is None else positives[:batch, :batch]
        )
        self._watch(pairs)
        positive = S.diagonal()[:batch]
        offline = (S[:batch, batch:].diagonal(), S[batch:, :batch].diagonal())
        apart = (S[batch:, batch:].diagonal() - positive + self.offline_margin).relu()
        losses = []
        for anchors, negative in zip(pairs, offline):
            weight = self.beta - (negative - anchors.hardest) / self.alpha
            # an anchor without online negatives has hinge 0 and, here, an infinite weight
            weight = weight.detach().clamp(min=0).nan_to_num(neginf=0, posinf=0)
            online = weight * hard_negative(anchors, self.margin)
            together = (negative - positive + self.offline_margin).relu()
            losses.append(online + together + apart / 2)  # `apart` once for both directions
        return self.reduce(losses)


def mine_offline_negatives(
    blocks: Iterable[Tensor], image_of_caption: Tensor, top: int = 300
) -> tuple[Tensor, Tensor]:
    """The hardest negatives in the whole training set, for :class:`AOQLoss`.

    Args:
        blocks: Rows of the training set's similarity matrix (I, T), a few pictures at a time and
            in order, as a trained model scores them.
        image_of_caption: (T,) int64, the picture of each caption.
        top: Negatives to keep.

    Returns:
        For every picture the captions of others that score highest, (I, top), and for every
        caption the other pictures, (T, top), both int64 with the hardest first.

    Raises:
        ValueError: A picture or a caption has fewer than ``top`` negatives.
    """
    captions, start = [], 0
    best: tuple[Tensor, Tensor] | None = None  # scores and pictures (T, top), for captions
    for block in blocks:
        images = torch.arange(start, start + len(block), device=block.device)
        start += len(block)
        own = images[:, None] == image_of_caption.to(block.device)
        scores = block.masked_fill(own, -torch.inf)
        captions.append(_top(scores, top, 'picture')[1])
        # of captions, the best so far compete with this block's pictures
        columns, candidates = scores.T, images.expand(scores.shape[1], -1)
        if best is not None:
            columns = torch.cat([best[0], columns], dim=1)
            candidates = torch.cat([best[1], candidates], dim=1)
        highest, chosen = columns.topk(min(top, columns.shape[1]), dim=1)
        best = highest, candidates.gather(1, chosen)
    if best is None:
        raise ValueError('mine_offline_negatives: there are no blocks')
    _top(best[0], top, 'caption')
    return torch.cat(captions), best[1]


def _top(scores: Tensor, top: int, what: str) -> tuple[Tensor, Tensor]:
    fewest = int((~scores.isneginf()).sum(dim=1).min())
    if fewest < top:
        raise ValueError(
            f'mine_offline_negatives: a {what} has {fewest} negatives, expected top={top} or more'
        )
    return scores.topk(top, dim=1)
