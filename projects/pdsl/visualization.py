"""Drawings of instances: boxes, masks, classes and scores."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData
from torch import Tensor

__all__ = ['draw_instances']

_MIN_SIDE = 400  # pixels; on smaller images the text would cover the content


def draw_instances(
    image: np.ndarray,
    instances: InstanceData,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]] | None = None,
    score_thr: float = 0.3,
    max_instances: int = 20,
) -> np.ndarray:
    """Draw instances in mmdet's style, on an image enlarged enough to be readable.

    Args:
        image: Image (H, W, 3), uint8 RGB.
        instances: ``bboxes`` (n, 4), XYXY in pixels of ``image`` (a tensor, an array or mmdet's box
            structure), ``labels`` (n,) and, optionally, ``scores`` (n,) and ``masks`` (n, H, W).
        classes: Names of the classes.
        palette: RGB colours of the classes; None uses mmdet's.
        score_thr: Least score of the instances to draw.
        max_instances: Draw at most this many of the best instances.

    Returns:
        Drawing (h, w, 3), uint8 RGB, with the short side enlarged to 400 pixels if it is less.
    """
    bboxes = getattr(instances.bboxes, 'tensor', instances.bboxes)  # mmdet's box structures
    shown = InstanceData(
        bboxes=torch.as_tensor(bboxes).detach().cpu().float(),
        labels=torch.as_tensor(instances.labels).cpu(),
    )
    if 'scores' in instances:
        shown.scores = instances.scores.detach().cpu()
    masks = _as_tensor(instances.masks) if 'masks' in instances else None
    rows = torch.arange(len(shown))
    if 'scores' in instances:
        rows = shown.scores.argsort(descending=True, stable=True)
        rows = rows[shown.scores[rows] >= score_thr]
    rows = rows[:max_instances]
    shown = shown[rows]
    scale = max(1.0, _MIN_SIDE / min(image.shape[:2]))
    if scale > 1:
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
        shown.bboxes = shown.bboxes * scale
    if masks is not None:
        masks = masks[rows].float()[:, None]
        if scale > 1 and len(rows):  # interpolate as a smooth field to avoid jagged edges
            masks = torch.nn.functional.interpolate(masks, image.shape[:2], mode='bilinear')
        shown.masks = masks.view(len(rows), *image.shape[:2]) >= 0.5
    if not len(shown):  # mmdet cannot draw zero instances
        return image.copy()
    visualizer = _visualizer()
    visualizer.dataset_meta = dict(classes=classes, palette=palette)
    state = np.random.get_state()  # mmdet jitters colours
    np.random.seed(0)
    try:
        found = 'scores' in shown  # mmdet accepts no scores for ground truth
        sample = DetDataSample(**{'pred_instances' if found else 'gt_instances': shown})
        with warnings.catch_warnings():  # boxes that end at the image border
            warnings.filterwarnings('ignore', message='.*out of bounds')
            visualizer.add_datasample(
                '', image, sample, draw_gt=not found, draw_pred=found, pred_score_thr=-1.0
            )
    finally:
        np.random.set_state(state)
    return visualizer.get_image()


@lru_cache(maxsize=1)
def _visualizer() -> DetLocalVisualizer:
    return DetLocalVisualizer(alpha=0.6)


def _as_tensor(masks: object) -> Tensor:
    if hasattr(masks, 'to_ndarray'):  # mmdet's ground-truth BitmapMasks and PolygonMasks
        masks = masks.to_ndarray()
    return torch.as_tensor(masks).cpu()
