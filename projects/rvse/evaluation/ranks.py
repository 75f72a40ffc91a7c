"""Ranks of the true matches, counted in blocks without ever holding the full matrix."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine import dist
from torch import Tensor

from projects.common.errors import InputError
from projects.common.hooks.progress import progress_bar

__all__ = ['RetrievalRanks', 'ScoreFunction', 'matrix_scores', 'mean_scores', 'retrieval_ranks']

ScoreFunction = Callable[[Tensor, Tensor], Tensor]
"""Return the similarities (I, C) for image indices (I,) and caption indices (C,)."""


@dataclass
class RetrievalRanks:
    """Hold the ranks of the true matches, counted from 0.

    Attributes:
        i2t: (I,) int64, number of other images' captions ranked before the best own caption of
            each image.
        t2i: (C,) int64, number of other images ranked before the own image of each caption.
        fold_i2t: Like ``i2t``, among the captions of the image's fold; None without folds.
        fold_t2i: Like ``t2i``, among the images of the caption's fold; None without folds.
        fold_of_image: (I,) int64, fold of each image.
        fold_of_caption: (C,) int64, fold of each caption.
        best_captions: (I, k) int64, highest-scoring captions of each image, best first; None
            unless requested.
        best_captions_scores: (I, k) float64, their scores.
        best_images: (C, k) int64, highest-scoring images of each caption, best first.
        best_images_scores: (C, k) float64, their scores.
    """

    i2t: np.ndarray
    t2i: np.ndarray
    fold_i2t: np.ndarray | None = None
    fold_t2i: np.ndarray | None = None
    fold_of_image: np.ndarray | None = None
    fold_of_caption: np.ndarray | None = None
    best_captions: np.ndarray | None = None
    best_captions_scores: np.ndarray | None = None
    best_images: np.ndarray | None = None
    best_images_scores: np.ndarray | None = None


class _Best:
    """Keep the k highest-scoring answers of N queries; blocks may arrive in any order."""

    def __init__(self, queries: int, answers: int, k: int) -> None:
        size = (queries, min(k, answers))
        self.scores = torch.full(size, -math.inf, dtype=torch.float64)
        self.ids = torch.full(size, -1)

    def update(self, queries: Tensor, answers: Tensor, values: Tensor) -> None:
        """Merge a block of scores (Q, A)."""
        self._merge(queries, values, answers.expand(len(queries), -1))

    def _merge(self, queries: Tensor | slice, values: Tensor, ids: Tensor) -> None:
        values = torch.cat([self.scores[queries], values], dim=1)
        ids = torch.cat([self.ids[queries], ids], dim=1)
        self.scores[queries], chosen = values.topk(self.scores.shape[1], dim=1)
        self.ids[queries] = ids.gather(1, chosen)

    def gather(self) -> _Best:
        """Merge the answers of all processes."""
        everyone = zip(dist.all_gather(self.scores), dist.all_gather(self.ids))
        for rank, (scores, ids) in enumerate(everyone):
            if rank != dist.get_rank():
                self._merge(slice(None), scores, ids)
        return self


def matrix_scores(similarities: np.ndarray | Tensor) -> ScoreFunction:
    """Return a score function that reads an existing, possibly memory-mapped matrix (I, C)."""
    if isinstance(similarities, Tensor):
        return lambda images, captions: similarities[images][:, captions]
    return lambda images, captions: torch.from_numpy(
        np.asarray(similarities[images.numpy()][:, captions.numpy()])
    )


def mean_scores(scores: Sequence[ScoreFunction]) -> ScoreFunction:
    """Return a score function for an ensemble: the mean similarity of its models, in float64.

    Raises:
        ValueError: ``scores`` is empty.
    """
    if not scores:
        raise InputError('mean_scores: found no models, expected one or more')

    def mean(images: Tensor, captions: Tensor) -> Tensor:
        total = scores[0](images, captions).double()
        for score in scores[1:]:
            total = total + score(images, captions).double()
        return total / len(scores)

    return mean


@torch.no_grad()
def retrieval_ranks(
    score: ScoreFunction,
    image_of_caption: Sequence[int] | np.ndarray,
    num_images: int,
    fold_size: int | None = None,
    block_size: int = 256,
    progress: bool = False,
    top_k: int = 0,
) -> RetrievalRanks:
    """Rank the best caption of every image and the image of every caption.

    Ties count against the model: a wrong candidate with an equal score ranks before the right one,
    so a model with constant scores retrieves nothing. (Published loops leave ties to an unstable
    sort.)

    Every pair is scored once. The blocks with the true pairs come first, so that the scores of the
    true pairs are known when the other blocks are counted. Under a launcher the blocks are split
    across the processes, and every process must be able to score any pair. The counts are exact,
    so the result does not depend on the number of processes.

    Args:
        score: Computes the similarities of a block.
        image_of_caption: (C,) index of the image of each caption. Images may have different numbers
            of captions.
        num_images: Number of images I.
        fold_size: Also rank within folds of this many consecutive images.
        block_size: Number of images per block. The columns of a block are the captions of as many
            images.
        progress: Whether to show a progress bar.
        top_k: Also return this many of the best answers to every query.

    Raises:
        ValueError: An image has no caption, the number of images is not a multiple of
            ``fold_size``, or a score is NaN.
    """
    owner = torch.as_tensor(np.asarray(image_of_caption, dtype=np.int64))
    _check(owner, num_images, fold_size)
    by_image = torch.argsort(owner, stable=True)
    first = torch.searchsorted(owner[by_image], torch.arange(num_images + 1))
    fold = fold_size or num_images
    fold_of = torch.arange(num_images) // fold
    # Blocks start anew with each fold, so that none crosses a fold boundary.
    starts = [
        start
        for begin in range(0, num_images, fold)
        for start in range(begin, min(begin + fold, num_images), block_size)
    ]
    blocks = [
        (torch.arange(s, e), by_image[first[s] : first[e]])
        for s, e in zip(starts, [*starts[1:], num_images])
    ]

    best = torch.zeros(num_images, dtype=torch.float64)
    own = torch.zeros(len(owner), dtype=torch.float64)
    i2t = torch.zeros(2, num_images, dtype=torch.int64)  # among all, within the fold
    t2i = torch.zeros(2, len(owner), dtype=torch.int64)
    rank, world = dist.get_rank(), dist.get_world_size()
    best_captions = _Best(num_images, len(owner), top_k) if top_k else None
    best_images = _Best(len(owner), num_images, top_k) if top_k else None

    def scored(images: Tensor, captions: Tensor) -> Tensor:
        values = score(images, captions).to('cpu', torch.float64)
        if values.shape != (len(images), len(captions)):
            raise InputError(
                f'similarities: found shape {tuple(values.shape)} for {len(images)} images and '
                f'{len(captions)} captions'
            )
        if values.isnan().any():
            raise InputError(
                f'similarities: NaN among images {images[0]} to {images[-1]}; a rank is undefined'
            )
        if best_captions is not None and best_images is not None:
            best_captions.update(images, captions, values)
            best_images.update(captions, images, values.T)
        return values

    def count(values: Tensor, images: Tensor, captions: Tensor, same_fold: bool) -> None:
        for_images = (values >= best[images, None]).sum(1)
        for_captions = (values >= own[captions]).sum(0)
        for kind in range(1 + same_fold):
            i2t[kind, images] += for_images
            t2i[kind, captions] += for_captions

    pairs = [(a, b) for a in range(len(blocks)) for b in range(len(blocks)) if a != b]
    total = math.ceil(len(blocks) / world) + math.ceil(len(pairs) / world)
    style: dict[str, Any] = {} if progress and rank == 0 else dict(style='lines', interval=math.inf)
    with progress_bar(total, 'similarities', 'block', **style) as bar:
        for images, captions in blocks[rank::world]:
            values = scored(images, captions)
            is_own = owner[captions] == images[:, None]
            own[captions] = values.T[is_own.T]
            best[images] = values.masked_fill(~is_own, -math.inf).amax(1)
            # NaN compares false, so a true pair does not count against itself.
            count(values.masked_fill(is_own, math.nan), images, captions, True)
            bar.update()
        if world > 1:
            dist.all_reduce(best)
            dist.all_reduce(own)
        for a, b in pairs[rank::world]:
            images, captions = blocks[a][0], blocks[b][1]
            same_fold = bool(fold_of[images[0]] == fold_of[blocks[b][0][0]])
            count(scored(images, captions), images, captions, same_fold)
            bar.update()
    if world > 1:
        dist.all_reduce(i2t)
        dist.all_reduce(t2i)
    ranks = RetrievalRanks(i2t[0].numpy(), t2i[0].numpy())
    if fold_size:
        ranks.fold_i2t, ranks.fold_t2i = i2t[1].numpy(), t2i[1].numpy()
        ranks.fold_of_image, ranks.fold_of_caption = fold_of.numpy(), fold_of[owner].numpy()
    if best_captions is not None and best_images is not None:
        for name, found in (('best_captions', best_captions), ('best_images', best_images)):
            found.gather()
            setattr(ranks, name, found.ids.numpy())
            setattr(ranks, f'{name}_scores', found.scores.numpy())
    return ranks


def _check(owner: Tensor, num_images: int, fold_size: int | None) -> None:
    counts = torch.zeros(num_images, dtype=torch.int64)
    if len(owner) and not 0 <= owner.min() <= owner.max() < num_images:
        raise InputError(
            f'image_of_caption: found indices {owner.min()} to {owner.max()} for '
            f'{num_images} images'
        )
    counts.index_add_(0, owner, torch.ones_like(owner))
    if (counts == 0).any():
        raise InputError(
            f'image_of_caption: image {int(counts.argmin())} of {num_images} has no caption; '
            'its rank is undefined'
        )
    if fold_size and num_images % fold_size:
        raise InputError(
            f'fold_size: {num_images} images are no whole number of folds of {fold_size}'
        )
