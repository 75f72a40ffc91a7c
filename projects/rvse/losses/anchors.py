"""Anchors, positives and negatives of a similarity matrix, the inputs of every matching loss."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from projects.common.errors import InputError


class Anchors(NamedTuple):
    """Hold one direction of a batch; every row is an anchor.

    A process may hold only ``b`` of the ``B`` pairs of a batch as anchors, against all samples of
    the other modality; otherwise, b = B.

    Attributes:
        positive: (b,), s_p, the score of the anchor's own pair.
        negatives: (b, B), s_n, the scores against the samples of the other modality; -inf for
            samples that are not negatives of the anchor.
    """

    positive: Tensor
    negatives: Tensor

    @property
    def batch_size(self) -> int:
        """Return B, the number of pairs of the whole batch."""
        return self.negatives.shape[1]

    @property
    def hardest(self) -> Tensor:
        """Return the largest s_n (b,) (argmax of Eq. 3); -inf for an anchor without negatives."""
        return self.negatives.max(dim=1).values

    @property
    def num_negatives(self) -> Tensor:
        """Return the number of negatives (b,) of each anchor."""
        return (~self.negatives.isneginf()).sum(dim=1)

    @property
    def delta_s(self) -> Tensor:
        """Return |s(hardest) - s_p| (b,) (Eq. 10), detached; inf without negatives."""
        return (self.hardest - self.positive).detach().abs()


def both_directions(
    S: Tensor,
    positives: Tensor | None = None,
    captions: Tensor | None = None,
    offset: int = 0,
) -> tuple[Anchors, Anchors]:
    """Return images as anchors and captions as anchors.

    Args:
        S: (b, B), similarities of b images (rows) and B captions (columns). The caption of image i
            is in column ``offset + i``. Half precision is converted to float32.
        positives: (b, B) bool, True for extra pairs that also match, such as two captions of one
            image in the same batch. They are never negatives. None uses the diagonal alone, as in
            the released code.
        captions: (b, B), similarities of the b captions (rows) that belong to these images and B
            images (columns), in the same order. None uses the transpose of a square S.
        offset: Column of the first row's pair, such as the rank times b if every process computes
            b rows of the matrix of a joint batch.

    Raises:
        ValueError: S has no rows, is not square and there is no ``captions``, or has too few
            columns for ``offset``; or ``positives`` is not a bool matrix of the same shape, or
            ``captions`` has another shape.
    """
    _check(S, positives, captions, offset)
    if captions is None:
        captions = S.T
        also = positives if positives is None else positives.T
    else:
        also = positives
    return _direction(S, positives, offset), _direction(captions, also, offset)


def _direction(scores: Tensor, positives: Tensor | None, offset: int) -> Anchors:
    scores = scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
    own = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    own.diagonal(offset).fill_(True)
    if positives is not None:
        own = own | positives.to(scores.device)
    return Anchors(scores.diagonal(offset), scores.masked_fill(own, -torch.inf))


def _check(S: Tensor, positives: Tensor | None, captions: Tensor | None, offset: int) -> None:
    if S.dim() != 2 or not len(S):
        raise InputError(f'S: shape {tuple(S.shape)}, expected (B, B) with one pair a row')
    if captions is None and (S.shape[0] != S.shape[1] or offset):
        raise InputError(
            f'S: shape {tuple(S.shape)} and offset={offset}, expected (B, B) with one pair a row '
            'and offset=0, or also the rows of the captions'
        )
    if captions is not None and captions.shape != S.shape:
        raise InputError(
            f'captions: shape {tuple(captions.shape)}, expected that of S, {tuple(S.shape)}'
        )
    if not 0 <= offset <= S.shape[1] - S.shape[0]:
        raise InputError(
            f'offset: {offset}, expected 0 to {S.shape[1] - S.shape[0]} for S of shape '
            f'{tuple(S.shape)}'
        )
    if positives is not None and (positives.shape != S.shape or positives.dtype != torch.bool):
        raise InputError(
            f'positives: {positives.dtype} of shape {tuple(positives.shape)}, '
            f'expected torch.bool of shape {tuple(S.shape)}'
        )


def hinge(anchors: Anchors, negative: Tensor, margin: float | Tensor) -> Tensor:
    """Compute [s_n - s_p + margin]_+ for negatives (b,) or (b, B); 0 without negatives."""
    positive = anchors.positive if negative.dim() == 1 else anchors.positive[:, None]
    return (negative - positive + margin).relu()
