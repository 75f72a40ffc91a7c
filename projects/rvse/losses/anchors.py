"""Anchors, positives and negatives of a similarity matrix, the inputs of every matching loss."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from projects.common.errors import InputError


class Anchors(NamedTuple):
    """Hold one direction of a batch of B pairs; every row is an anchor.

    Attributes:
        positive: (B,), s_p, the score of the anchor's own pair.
        negatives: (B, B), s_n, the scores against the samples of the other modality; -inf for
            samples that are not negatives of the anchor.
    """

    positive: Tensor
    negatives: Tensor

    @property
    def hardest(self) -> Tensor:
        """Return the largest s_n (B,) (argmax of Eq. 3); -inf for an anchor without negatives."""
        return self.negatives.max(dim=1).values

    @property
    def num_negatives(self) -> Tensor:
        """Return the number of negatives (B,) of each anchor."""
        return (~self.negatives.isneginf()).sum(dim=1)

    @property
    def delta_s(self) -> Tensor:
        """Return |s(hardest) - s_p| (B,) (Eq. 10), detached; inf without negatives."""
        return (self.hardest - self.positive).detach().abs()


def both_directions(S: Tensor, positives: Tensor | None = None) -> tuple[Anchors, Anchors]:
    """Split a similarity matrix into images as anchors and captions as anchors.

    Args:
        S: (B, B), similarities of images (rows) and captions (columns). Pair i is on the diagonal.
            Half precision is converted to float32.
        positives: (B, B) bool, True for extra pairs that also match, such as two captions of one
            image in the same batch. They are never negatives. None uses the diagonal alone, as in
            the released code.

    Raises:
        ValueError: S is not a square matrix with at least one row, or ``positives`` is not a bool
            matrix of the same shape.
    """
    if S.dim() != 2 or S.shape[0] != S.shape[1] or not len(S):
        raise InputError(f'S: shape {tuple(S.shape)}, expected (B, B) with one pair a row')
    own = torch.eye(len(S), dtype=torch.bool, device=S.device)
    if positives is not None:
        if positives.shape != S.shape or positives.dtype != torch.bool:
            raise InputError(
                f'positives: {positives.dtype} of shape {tuple(positives.shape)}, '
                f'expected torch.bool of shape {tuple(S.shape)}'
            )
        own = own | positives.to(S.device)
    S = S.float() if S.dtype in (torch.float16, torch.bfloat16) else S
    negatives = S.masked_fill(own, -torch.inf)
    return Anchors(S.diagonal(), negatives), Anchors(S.diagonal(), negatives.T)


def hinge(anchors: Anchors, negative: Tensor, margin: float | Tensor) -> Tensor:
    """Compute [s_n - s_p + margin]_+ for negatives (B,) or (B, B); 0 without negatives."""
    positive = anchors.positive if negative.dim() == 1 else anchors.positive[:, None]
    return (negative - positive + margin).relu()
