"""Visualization of instances: boxes, masks, classes and scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mmengine.registry import VISUALIZERS

from projects.common.visualization import (
    ArrayVisualizer,
    Panel,
    check_image,
    color_of,
    draw_objects,
    draw_page,
    resize_to,
)

if TYPE_CHECKING:
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

__all__ = ['InstanceVisualizer']


@VISUALIZERS.register_module()
class InstanceVisualizer(ArrayVisualizer):
    """Draw instances like mmdet's ``DetLocalVisualizer``, but in their own colors.

    Every instance gets an outline, a box and a label of its own color, and what belongs to no
    instance is dimmed. Ground truth and prediction are drawn side by side; whichever there is
    alone fills the whole drawing. The names of the classes come from ``dataset_meta['classes']``.

    Args:
        name: Name of the instance.
        min_side: Smaller images are enlarged until their short side has this many pixels.
        max_side: Larger images are reduced until their long side has this many pixels.
        score_thr: Least score of the instances to draw.
        max_instances: Draw at most this many of the best instances.
        kwargs: Arguments of MMEngine's ``Visualizer``, such as ``vis_backends``.

    Example config::

        visualizer = dict(type='InstanceVisualizer', score_thr=0.3)
    """

    def __init__(
        self,
        name: str = 'visualizer',
        min_side: int = 480,
        max_side: int = 1280,
        score_thr: float = 0.3,
        max_instances: int = 20,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, min_side, max_side, **kwargs)
        self.score_thr = score_thr
        self.max_instances = max_instances

    def draw(
        self,
        image: np.ndarray | None,
        data_sample: DetDataSample,
        draw_gt: bool = True,
        draw_pred: bool = True,
        pred_score_thr: float | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Draw the instances of an image.

        Args:
            image: The original image, (H, W, 3) uint8, RGB.
            data_sample: A sample with ``gt_instances`` or ``pred_instances``: ``bboxes`` (n, 4),
                XYXY in pixels of ``image`` (a tensor, an array or mmdet's box structure),
                ``labels`` (n,) and, optionally, ``scores`` (n,) and ``masks`` (n, H, W).
            draw_gt: Whether to draw the ground truth, if there is one.
            draw_pred: Whether to draw the predictions, if there are any.
            pred_score_thr: Replaces ``score_thr``.
            kwargs: Ignored.

        Returns:
            The drawing, (h, w, 3) uint8, RGB.

        Raises:
            ValueError: ``image`` is not an (H, W, 3) uint8 array.
        """
        image = check_image(image, type(self).__name__)
        least = self.score_thr if pred_score_thr is None else pred_score_thr
        panels = []
        for wanted, field, title in (
            (draw_gt, 'gt_instances', 'Ground truth'),
            (draw_pred, 'pred_instances', 'Prediction'),
        ):
            instances = data_sample.get(field) if wanted else None
            if instances is not None and 'bboxes' in instances:
                panels.append(Panel(self._draw_instances(image, instances, least), title))
        if len(panels) == 2:
            return draw_page(panels)
        return panels[0].image if panels else resize_to(image, self.min_side, self.max_side)

    def _draw_instances(
        self, image: np.ndarray, instances: InstanceData, least: float
    ) -> np.ndarray:
        small = resize_to(image, self.min_side, self.max_side)
        boxes = _numpy(getattr(instances.bboxes, 'tensor', instances.bboxes))
        labels = _numpy(instances.labels)
        scores = _numpy(instances.scores) if 'scores' in instances else None
        rows = np.arange(len(boxes))
        if scores is not None:
            rows = np.argsort(-scores, kind='stable')
            rows = rows[scores[rows] >= least]
        rows = rows[: self.max_instances]
        masks = instances.get('masks')
        if hasattr(masks, 'to_ndarray'):  # mmdet's BitmapMasks and PolygonMasks
            masks = masks.to_ndarray()
        chosen = [None] * len(rows) if masks is None else list(_numpy(masks[rows]))
        names = [self._class_name(labels[i]) for i in rows]
        if scores is not None:
            names = [f'{name} {scores[i]:.2f}' for name, i in zip(names, rows, strict=True)]
        colors = [color_of(i) for i in range(len(rows))]
        # The best instances are drawn last, on top of the others.
        return draw_objects(
            small,
            list(boxes[rows])[::-1],
            chosen[::-1],
            colors[::-1],
            names[::-1],
            shape=image.shape,
        )

    def _class_name(self, label: int) -> str:
        classes = (self.dataset_meta or {}).get('classes') or ()
        return str(classes[label]) if label < len(classes) else f'class {label}'


def _numpy(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
