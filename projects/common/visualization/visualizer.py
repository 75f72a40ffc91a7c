"""The base of all visualizers."""

from __future__ import annotations

from typing import Any

import mmcv
import numpy as np
from mmengine.dist import is_main_process
from mmengine.visualization import MLflowVisBackend, Visualizer

from ..errors import InputError

__all__ = ['ArrayVisualizer', 'check_image']


class ArrayVisualizer(Visualizer):
    """Draw data samples into arrays with OpenCV and Pillow, in place of matplotlib.

    Subclasses implement :meth:`draw`. Everything else follows mmdet's ``DetLocalVisualizer``.

    Args:
        name: Name of the instance.
        min_side: Smaller images are enlarged until their short side has this many pixels.
        max_side: Larger images are reduced until their long side has this many pixels.
        kwargs: Arguments of MMEngine's ``Visualizer``, such as ``vis_backends``.
    """

    def __init__(
        self, name: str = 'visualizer', min_side: int = 320, max_side: int = 640, **kwargs: Any
    ) -> None:
        super().__init__(name, **kwargs)
        self.min_side = min_side
        self.max_side = max_side

    @property
    def dataset_meta(self) -> dict | None:
        """Return the meta information of the data set, on every process.

        MMEngine's visualizer has it on the first process only, but each draws its share of a test.
        """
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict | None) -> None:
        self._dataset_meta = dataset_meta

    def draw(
        self,
        image: np.ndarray | None,
        data_sample: Any,
        draw_gt: bool = True,
        draw_pred: bool = True,
        **kwargs: Any,
    ) -> np.ndarray:
        """Draw a data sample.

        Args:
            image: The original image, (H, W, 3) uint8, RGB.
            data_sample: Ground truth and predictions, in pixels of ``image``.
            draw_gt: Whether to draw the ground truth, if there is one.
            draw_pred: Whether to draw the predictions, if there are any.
            kwargs: Further options of the subclass.

        Returns:
            The drawing, (h, w, 3) uint8, RGB.
        """
        raise NotImplementedError

    def add_datasample(
        self,
        name: str,
        image: np.ndarray | None,
        data_sample: Any = None,
        draw_gt: bool = True,
        draw_pred: bool = True,
        show: bool = False,
        wait_time: float = 0,
        out_file: str | None = None,
        step: int = 0,
        **kwargs: Any,
    ) -> None:
        """Draw a data sample, and show it, write it to a file, or pass it to the backends.

        Args:
            name: Name for the backends.
            image: The original image, (H, W, 3) uint8, RGB.
            data_sample: See :meth:`draw`.
            draw_gt: See :meth:`draw`.
            draw_pred: See :meth:`draw`.
            show: Whether to open a window.
            wait_time: Seconds until the window closes; 0 waits for a key.
            out_file: File to write. None passes the drawing to the backends, unless it is shown.
            step: Step of the run, for the backends.
            kwargs: Further options of :meth:`draw`.
        """
        drawn = self.draw(image, data_sample, draw_gt, draw_pred, **kwargs)
        self._image = drawn
        if show:
            self.show(drawn, win_name=name, wait_time=wait_time)
        if out_file is not None:
            mmcv.imwrite(drawn[..., ::-1], out_file)
        elif not show:
            self.add_image(name, drawn, step)

    def get_image(self) -> np.ndarray:
        """Return the latest drawing, (h, w, 3) uint8, RGB."""
        return self._image

    def add_image(self, name: str, image: np.ndarray, step: int = 0) -> None:
        """Pass an image to all backends, on the first process.

        Args:
            name: Name of the image.
            image: (H, W, 3) uint8, RGB.
            step: Step of the run.
        """
        if not is_main_process():
            return
        for backend in self._vis_backends.values():
            # MLflow expects the name of a file, whose suffix sets the format, and ignores the step.
            is_file = isinstance(backend, MLflowVisBackend)
            backend.add_image(f'{name}_{step}.png' if is_file else name, image, step)


def check_image(image: np.ndarray | None, name: str) -> np.ndarray:
    """Return ``image`` with contiguous memory.

    Raises:
        ValueError: It is not an (H, W, 3) uint8 array.
    """
    if (
        not isinstance(image, np.ndarray)
        or image.ndim != 3
        or image.shape[2] != 3
        or image.dtype != np.uint8
    ):
        found = (
            f'of shape {image.shape} and type {image.dtype}'
            if isinstance(image, np.ndarray)
            else repr(image)
        )
        raise InputError(f'{name}: image {found}, expected (H, W, 3) uint8')
    return np.ascontiguousarray(image)
