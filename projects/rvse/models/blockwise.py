"""Similarities of all images and captions, computed in blocks of bounded size."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .sequences import length_mask


class BlockwiseSimilarity(nn.Module):
    """Scores blocks of images against groups of captions of about one length.

    Captions are taken in the order of their length, so that hardly a padded word is computed.
    Everything is computed in float32 (or float64), under autocast, too.

    Args:
        workspace: Elements of the largest tensor of a block; the peak memory is a few of these.
            None is what is fast: a CPU's caches are small, a GPU wants much to do at once.
        spread: A group's longest caption is at most this many times as long as its shortest.
    """

    def __init__(self, workspace: int | None = None, spread: float = 1.15) -> None:
        super().__init__()
        self.workspace = workspace
        self.spread = spread

    def image_terms(self, images: Tensor) -> Tensor:
        """What scores need of each picture's regions (I, R, C) beside them, (I, ...)."""
        raise NotImplementedError

    def score_block(
        self,
        images: Tensor,
        image_lengths: Tensor,
        terms: Tensor,
        captions: Tensor,
        caption_lengths: Tensor,
    ) -> Tensor:
        """Scores (I, T) of regions (I, R, C) and words (T, L, C); L is the longest's length.

        ``terms`` are the pictures' :meth:`image_terms`; regions and words are zero beyond their
        lengths.
        """
        raise NotImplementedError

    def pair_elements(self, regions: int, words: int, channels: int) -> int:
        """Elements that the largest tensor of a block has for each pair."""
        raise NotImplementedError

    def forward(
        self, images: Tensor, image_lengths: Tensor, captions: Tensor, caption_lengths: Tensor
    ) -> Tensor:
        """
        Args:
            images: (I, R, C), regions; what lies beyond a picture's number is not read.
            image_lengths: (I,) int64.
            captions: (T, L, C), words; what lies beyond a caption's length is not read.
            caption_lengths: (T,) int64.

        Returns:
            Scores (I, T), float32 or float64.
        """
        with torch.autocast(images.device.type, enabled=False):
            if images.dtype != torch.float64:
                images, captions = images.float(), captions.float()
            workspace = self.workspace or (2**21 if images.device.type == 'cpu' else 2**25)
            images = _zero_pads(images, image_lengths)
            terms = self.image_terms(images)
            columns, order = [], []
            for group, words in self._groups(images, caption_lengths, captions.shape[2], workspace):
                order += group
                chosen = torch.tensor(group, device=captions.device)
                lengths = caption_lengths[chosen]
                block = _zero_pads(captions[chosen, :words], lengths), lengths
                one = len(group) * self.pair_elements(images.shape[1], words, captions.shape[2])
                rows = max(1, workspace // one)
                parts = zip(images.split(rows), image_lengths.split(rows), terms.split(rows))
                columns.append(torch.cat([self.score_block(*part, *block) for part in parts]))
            inverse = torch.tensor(order, device=images.device).argsort()
            return torch.cat(columns, dim=1)[:, inverse]

    def _groups(
        self, images: Tensor, caption_lengths: Tensor, channels: int, workspace: int
    ) -> Iterator[tuple[list[int], int]]:
        """Indices of captions that are computed together, and the longest one's length."""
        lengths = caption_lengths.tolist()
        group: list[int] = []
        for i in sorted(range(len(lengths)), key=lengths.__getitem__):
            cost = self.pair_elements(images.shape[1], lengths[i], channels)
            full = (len(group) + 1) * cost * min(len(images), 128) > workspace
            if group and (full or lengths[i] > self.spread * lengths[group[0]]):
                yield group, lengths[group[-1]]
                group = []
            group.append(i)
        if group:
            yield group, lengths[group[-1]]


def _zero_pads(sets: Tensor, lengths: Tensor) -> Tensor:
    return sets.masked_fill(~length_mask(lengths, sets.shape[1])[..., None], 0)
