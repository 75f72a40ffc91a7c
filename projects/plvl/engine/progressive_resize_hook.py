"""Progressive resizing: training on small images first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmcv.transforms import BaseTransform
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from projects.common.errors import InputError

from ..datasets.transforms import GroundingResize

__all__ = ['ProgressiveResizeHook']


@HOOKS.register_module()
class ProgressiveResizeHook(Hook):
    """Train on small images first, and increase their size at given iterations.

    The hook sets the ``scale`` of every :class:`GroundingResize` of the training pipeline.
    Evaluation is not affected. A model of 16-pixel patches that starts from random weights learns
    to read sentences on small images as well as on large ones, at a fraction of the cost.

    Args:
        sizes: Side of the square input in pixels by the iteration from which it is used, with an
            entry for iteration 0.

    Raises:
        ValueError: There is no entry for iteration 0, the training pipeline has no
            :class:`GroundingResize`, or worker processes load the data, which have copies of the
            pipeline.

    Example config::

        custom_hooks = [dict(type='ProgressiveResizeHook', sizes={0: 64, 1600: 128})]
    """

    def __init__(self, sizes: Mapping[int, int]) -> None:
        self.sizes = {int(iteration): int(side) for iteration, side in sorted(sizes.items())}
        if min(self.sizes, default=-1) != 0:
            raise InputError(
                f'ProgressiveResizeHook: sizes={dict(sizes)}: expected an entry for iteration 0'
            )
        self._resizes: list[GroundingResize] = []

    def size_at(self, iteration: int) -> int:
        """Return the side in pixels of the images of an iteration, counted from 0."""
        return self.sizes[max(start for start in self.sizes if start <= iteration)]

    def before_train(self, runner: Runner) -> None:
        """Find the transforms, and set the size of the first iteration after a resume."""
        loader = runner.train_dataloader
        if loader.num_workers:
            raise InputError(
                f'train_dataloader.num_workers: {loader.num_workers}, expected 0 with '
                'ProgressiveResizeHook'
            )
        self._resizes = [t for t in _transforms(loader.dataset) if isinstance(t, GroundingResize)]
        if not self._resizes:
            raise InputError(
                'train_dataloader.dataset.pipeline: no GroundingResize, which '
                'ProgressiveResizeHook sets'
            )
        self._set(runner.iter)

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Set the size of the next iteration."""
        self._set(runner.iter + 1)

    def _set(self, iteration: int) -> None:
        side = self.size_at(iteration)
        for resize in self._resizes:
            resize.scale = (side, side)


def _transforms(dataset: Any) -> Iterator[BaseTransform]:
    """Yield the transforms of a dataset and of the datasets that it wraps."""
    for inner in (getattr(dataset, 'dataset', None), *getattr(dataset, 'datasets', ())):
        if inner is not None:
            yield from _transforms(inner)
    yield from getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
