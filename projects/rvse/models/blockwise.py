"""Similarities of all images and captions, computed in blocks of bounded size."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .sequences import length_mask


class BlockwiseSimilarity(nn.Module):
    """Score blocks of images against groups of captions of similar length.

    Captions are sorted by length, so that almost no padding is computed. All computations use
    float32 (or float64), even under autocast.

    Args:
        workspace: Number of elements of the largest tensor of a block. The peak memory is a small
            multiple of it. None selects a fast value: small for the caches of a CPU, large to keep
            a GPU busy.
        spread: Maximum ratio between the longest and the shortest caption of a group.
    """

    def __init__(self, workspace: int | None = None, spread: float = 1.15) -> None:
        super().__init__()
        self.workspace = workspace
        self.spread = spread

    def image_terms(self, images: Tensor) -> Tensor:
        """Compute terms (I, ...) of regions (I, R, C) that all scores of an image reuse."""
        raise NotImplementedError

    def score_block(
        self,
        images: Tensor,
        image_lengths: Tensor,
        terms: Tensor,
        captions: Tensor,
        caption_lengths: Tensor,
    ) -> Tensor:
        """Compute scores (I, T) of regions (I, R, C) and words (T, L, C); L is the longest length.

        ``terms`` are the :meth:`image_terms` of the images. Regions and words are zero beyond their
        lengths.
        """
        raise NotImplementedError

    def pair_elements(self, regions: int, words: int, channels: int) -> int:
        """Return the number of elements per pair of the largest tensor of a block."""
        raise NotImplementedError

    def forward(
        self, images: Tensor, image_lengths: Tensor, captions: Tensor, caption_lengths: Tensor
    ) -> Tensor:
        """Compute the scores of all pairs of images and captions.

        Args:
            images: (I, R, C), regions. Values beyond the length of an image are ignored.
            image_lengths: (I,) int64.
            captions: (T, L, C), words. Values beyond the length of a caption are ignored.
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
            groups = list(self._groups(images, caption_lengths, captions.shape[2], workspace))
            order = torch.tensor([i for group, _ in groups for i in group])
            indices = order.to(captions.device).split([len(group) for group, _ in groups])
            columns = []
            for (group, words), chosen in zip(groups, indices, strict=True):
                lengths = caption_lengths[chosen]
                block = _zero_pads(captions[chosen, :words], lengths), lengths
                one = len(group) * self.pair_elements(images.shape[1], words, captions.shape[2])
                rows = max(1, workspace // one)
                parts = zip(images.split(rows), image_lengths.split(rows), terms.split(rows))
                columns.append(torch.cat([self.score_block(*part, *block) for part in parts]))
            inverse = order.argsort().to(images.device)
            return torch.cat(columns, dim=1)[:, inverse]

    def _groups(
        self, images: Tensor, caption_lengths: Tensor, channels: int, workspace: int
    ) -> Iterator[tuple[list[int], int]]:
        """Yield indices of captions to compute together, and the length of the longest one."""
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
