"""Visualization of predictions during validation and testing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.visualization import Visualizer

from ..errors import InputError
from ..files.image_reader import read_image
from ..files.names import unique_names

if TYPE_CHECKING:
    from mmengine.runner import Runner

__all__ = ['PredictionVisualizationHook']


@HOOKS.register_module()
class PredictionVisualizationHook(Hook):
    """Draw predictions with the runner's visualizer.

    During training, some samples of the validation data go to all visualization backends
    (``vis_backends``). They are spread evenly over the data set and stay the same in every
    validation, so that images from different steps can be compared.

    In a test, all samples are written to ``test_out_dir``, which ``tools/test.py --show-dir`` sets.
    Files are named after the images (:func:`~projects.common.files.names.unique_names`).

    In contrast to mmdet's ``DetVisualizationHook``, neither images of equal names in different
    folders nor several sentences about an image replace one another, every process of a distributed
    test draws its share, and only images that are drawn are read.

    Args:
        interval: Draw in every ``interval``-th validation.
        num_samples: Number of samples to draw in a validation; 0 draws none.
        test_out_dir: Folder for the drawings of a test. None draws none, unless they are shown.
        show: Whether to open a window for each drawing of a test.
        wait_time: Seconds until a window closes; 0 waits for a key.

    Raises:
        ValueError: ``interval`` or ``num_samples`` is too small.

    Example config::

        visualizer = dict(type='GroundingVisualizer')
        default_hooks = dict(visualization=dict(type='PredictionVisualizationHook'))
    """

    priority = 'NORMAL'

    def __init__(
        self,
        interval: int = 1,
        num_samples: int = 4,
        test_out_dir: str | None = None,
        show: bool = False,
        wait_time: float = 0.0,
    ) -> None:
        for name, value, least in (('interval', interval, 1), ('num_samples', num_samples, 0)):
            if value < least:
                raise InputError(f'{type(self).__name__}: {name}={value}: expected >= {least}')
        self.interval = interval
        self.num_samples = num_samples
        self.test_out_dir = test_out_dir
        self.show = show
        self.wait_time = wait_time
        self._num_validations = 0
        self._num_seen = 0
        self._is_due = False  # whether this validation or test is drawn, by any process
        self._names: dict[int, str] = {}  # of the samples to draw, by their index

    def before_val_epoch(self, runner: Runner) -> None:
        """Choose the samples to draw, if this validation is due.

        Raises:
            ValueError: The visualizer draws no samples.
        """
        self._is_due = self.num_samples > 0 and self._num_validations % self.interval == 0
        self._num_validations += 1
        # The backends belong to the first process, which has every `world`-th sample.
        dataset, world = runner.val_dataloader.dataset, get_world_size()
        own = -(-len(dataset) // world)
        count = min(self.num_samples, own) if self._is_due and get_rank() == 0 else 0
        chosen = np.linspace(0, own - 1, count).round().astype(int) * world
        self._choose(runner, dataset, chosen.tolist())

    def before_test_epoch(self, runner: Runner) -> None:
        """Choose all samples, if they are to be drawn.

        Raises:
            ValueError: The visualizer draws no samples.
        """
        dataset = runner.test_dataloader.dataset
        self._is_due = self.show or self.test_out_dir is not None
        self._choose(runner, dataset, range(len(dataset)) if self._is_due else ())

    def _choose(self, runner: Runner, dataset: Any, indices: Sequence[int]) -> None:
        if indices and type(runner.visualizer).add_datasample is Visualizer.add_datasample:
            raise InputError(
                f'visualizer.type={type(runner.visualizer).__name__}: draws no samples, expected '
                "that of a task, such as 'GroundingVisualizer'"
            )
        paths = [self.path_of(dataset.get_data_info(index)) for index in indices]
        self._names = dict(zip(indices, unique_names(paths), strict=True))
        self._num_seen = 0

    def path_of(self, info: dict[str, Any]) -> str:
        """Return the path of a sample's image, after which drawings are named."""
        return info['img_path']

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence | None = None,
    ) -> None:
        """Draw the chosen samples of a batch."""
        for name, sample in self._named(outputs or ()):
            self.add(runner, 'val', name, _read(sample), sample)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence | None = None,
    ) -> None:
        """Draw the samples of a batch."""
        for name, sample in self._named(outputs or ()):
            self.add(runner, 'test', name, _read(sample), sample)

    def _named(self, samples: Sequence) -> list[tuple[str, Any]]:
        """Return the chosen ones of the samples, with their names."""
        # The default sampler distributes samples over the processes round-robin. It repeats some
        # of the first if they are not divisible.
        start, world = self._num_seen, get_world_size()
        self._num_seen += len(samples)
        indices = [(start + i) * world + get_rank() for i in range(len(samples))]
        return [
            (self._names[index], sample)
            for index, sample in zip(indices, samples, strict=True)
            if index in self._names
        ]

    def add(
        self, runner: Runner, stage: str, name: str, image: np.ndarray | None, sample: Any
    ) -> None:
        """Pass a sample to the visualizer, with the place of its drawing.

        Args:
            runner: The runner.
            stage: 'val' or 'test'.
            name: Name of the drawing.
            image: The original image, (H, W, 3) uint8, RGB.
            sample: The data sample.
        """
        options: dict[str, Any] = {}
        if stage == 'test':
            options.update(show=self.show, wait_time=self.wait_time)
            if self.test_out_dir is not None:
                options['out_file'] = os.path.join(self.test_out_dir, f'{name}.jpg')
        runner.visualizer.add_datasample(
            f'{stage}_{name}', image, data_sample=sample, step=runner.iter, **options
        )


def _read(sample: Any) -> np.ndarray:
    return read_image(sample.img_path, channel_order='rgb')
