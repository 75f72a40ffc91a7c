"""Visualization of predictions during training and testing."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import mmcv
import numpy as np
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from projects.common.errors import InputError
from projects.common.files.image_reader import read_image

from ..visualization import draw_data_sample

if TYPE_CHECKING:
    from mmdet.structures import DetDataSample
    from mmengine.runner import Runner

__all__ = ['RefVisualizationHook']


@HOOKS.register_module()
class RefVisualizationHook(Hook):
    """Draw the input, ground truth, prediction and score map of some val and test samples.

    The samples are spread evenly over the dataset and stay the same in every epoch, so that images
    from different epochs can be compared. They are written to
    ``<out_dir>/<stage>/<sample>_<image>.jpg``, where the stage is ``test`` or, for example,
    ``val_epoch_3_iter_1200``.

    Args:
        num_samples: Number of samples to draw per evaluation; -1 draws all.
        interval: Draw at every ``interval``-th validation.
        out_dir: Output directory; None means ``<work_dir>/<timestamp>/vis_data/grounding``.
        draw: Whether to draw at all.

    Example config::

        custom_hooks = [dict(type='RefVisualizationHook', num_samples=12)]
    """

    priority = 'NORMAL'

    def __init__(
        self,
        num_samples: int = 12,
        interval: int = 1,
        out_dir: str | None = None,
        draw: bool = True,
    ) -> None:
        if interval < 1:
            raise InputError(f'RefVisualizationHook: interval={interval}: expected >= 1')
        self.num_samples = num_samples
        self.interval = interval
        self.out_dir = out_dir
        self.draw = draw
        self._num_validations = 0
        self._num_seen = 0
        self._chosen: set[int] = set()

    def before_val_epoch(self, runner: Runner) -> None:
        """Count the validation and choose its samples. Every ``interval``-th one is drawn."""
        self._num_validations += 1
        self._choose(len(runner.val_dataloader.dataset))

    def before_test_epoch(self, runner: Runner) -> None:
        """Choose the samples to draw."""
        self._choose(len(runner.test_dataloader.dataset))

    def _choose(self, size: int) -> None:
        """Choose the samples of one evaluation by their index in the dataset."""
        self._num_seen = 0
        count = size if self.num_samples < 0 else min(self.num_samples, size)
        self._chosen = set(np.linspace(0, size - 1, count).round().astype(int).tolist())

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[DetDataSample] | None = None,
    ) -> None:
        """Draw the chosen samples of a batch if this validation is due to be drawn."""
        if (self._num_validations - 1) % self.interval == 0:
            stage = f'val_epoch_{runner.epoch}_iter_{runner.iter}'
            self._draw_batch(runner, outputs or (), stage)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[DetDataSample] | None = None,
    ) -> None:
        """Draw the chosen samples of a batch."""
        self._draw_batch(runner, outputs or (), 'test')

    def _draw_batch(self, runner: Runner, samples: Sequence[DetDataSample], stage: str) -> None:
        for sample in samples:
            # The default sampler distributes samples over the processes round-robin.
            index = self._num_seen * get_world_size() + get_rank()
            self._num_seen += 1
            if not self.draw or index not in self._chosen:
                continue
            self._chosen.discard(index)
            image = read_image(sample.img_path, channel_order='rgb')
            picture = draw_data_sample(image, sample)
            stem = os.path.splitext(os.path.basename(sample.img_path))[0]
            name = re.sub(r'[^\w.-]', '_', f'{index:05d}_{stem}') + '.jpg'
            mmcv.imwrite(picture[..., ::-1], os.path.join(self._folder(runner), stage, name))

    def _folder(self, runner: Runner) -> str:
        if self.out_dir is not None:
            return self.out_dir
        return os.path.join(runner.work_dir, runner.timestamp, 'vis_data', 'grounding')
