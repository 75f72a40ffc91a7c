"""Panels of sentences that name no object, one or several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from projects.common.errors import InputError
from projects.common.visualization import PRED_COLOR, TRUTH_COLOR, Panel, draw_objects

from .evaluation.generalized_metric import count_matches
from .evaluation.grounding_metric import box_iou, mask_areas, to_array

if TYPE_CHECKING:
    from mmdet.structures import DetDataSample

__all__ = ['draw_found', 'generalized_panels', 'is_generalized', 'split_mask']

NOTHING = 'nothing fits'


def is_generalized(sample: DetDataSample) -> bool:
    """Return whether a sample has a presence, or ground truth of no object or several."""
    truth = sample.get('gt_instances')  # without boxes where there is no ground truth
    known = truth is not None and 'bboxes' in truth
    return 'pred_presence' in sample or (known and len(truth) != 1)


def generalized_panels(
    small: np.ndarray, image: np.ndarray, sample: DetDataSample, draw_gt: bool, draw_pred: bool
) -> list[Panel]:
    """Draw the ground truth and the prediction of a sample, as far as it has them.

    Args:
        small: The image at the size of the panels, (h, w, 3) uint8, RGB.
        image: The original image, (H, W, 3).
        sample: See :meth:`GroundingVisualizer.draw`; its prediction is that of
            :class:`GeneralizedPLVL`.
        draw_gt: Whether to draw the ground truth.
        draw_pred: Whether to draw the prediction.

    Raises:
        ValueError: If a mask differs from the image in size.
    """
    panels = []
    truth = sample.get('gt_instances') if draw_gt else None
    true_boxes: np.ndarray | None = None
    true_mask: np.ndarray | None = None
    if truth is not None and 'bboxes' in truth:
        true_boxes = to_array(truth.bboxes).reshape(-1, 4)
        masks: list[Any] = [None] * len(true_boxes)
        if sample.get('with_mask', True) and 'masks' in truth:
            masks = list(_masks(truth.masks, image))
            true_mask = np.any(masks, axis=0) if masks else np.zeros(image.shape[:2], bool)
        colors = [TRUTH_COLOR] * len(masks)
        drawn = draw_objects(small, list(true_boxes), masks, colors, shape=image.shape)
        panels.append(Panel(drawn, 'Ground truth', '' if len(masks) else NOTHING))
    if draw_pred and 'pred_presence' in sample:
        instances = sample.pred_instances
        boxes = to_array(instances.bboxes) if 'bboxes' in instances else np.zeros((0, 4))
        union = None
        if 'pred_union_mask' in sample:
            (union,) = _masks(sample.pred_union_mask, image)
        presence = float(sample.pred_presence)
        notes = [f'score {presence:.2f}']
        if true_boxes is not None and 'bboxes' in instances:
            pairs = [[box_iou(a.tolist(), b.tolist()) for b in true_boxes] for a in boxes]
            overlaps = np.array(pairs)
            matches = count_matches(overlaps.reshape(len(boxes), len(true_boxes)))
            notes = [f'{matches} of {len(true_boxes)} boxes']
        if true_mask is not None and union is not None and (union.any() or true_mask.any()):
            inter, total = mask_areas(union, true_mask)
            notes.append(f'mask IoU {inter / total:.2f}')
        if not len(boxes) and (union is None or not union.any()):
            notes = [f'{NOTHING}, score {presence:.2f}']
        drawn = draw_found(small, boxes, union, image.shape)
        panels.append(Panel(drawn, 'Prediction', ', '.join(notes)))
    return panels


def draw_found(
    small: np.ndarray,
    boxes: Sequence[Sequence[float]] | np.ndarray,
    union: np.ndarray | None,
    shape: Sequence[int],
) -> np.ndarray:
    """Draw predicted boxes, and the mask of all objects together.

    Args:
        small: (h, w, 3) uint8, RGB.
        boxes: (n, 4), XYXY in pixels of the original image.
        union: (H, W) bool, or None.
        shape: Shape (H, W, ...) of the original image.
    """
    parts = split_mask(union, boxes)
    frames: list[Any] = [*boxes, *[None] * (len(parts) - len(boxes))]
    return draw_objects(small, frames, parts, [PRED_COLOR] * len(parts), shape=shape)


def split_mask(
    union: np.ndarray | None, boxes: Sequence[Sequence[float]] | np.ndarray
) -> list[np.ndarray | None]:
    """Return the part of a mask in each of n boxes, and what is in none of them, if any."""
    if union is None:
        return [None] * len(boxes)
    rest = union.astype(bool)
    parts: list[np.ndarray | None] = []
    for box in boxes:
        x1, y1 = (max(0, int(np.floor(value))) for value in box[:2])
        x2, y2 = (max(0, int(np.ceil(value))) for value in box[2:])
        part = np.zeros_like(rest)
        part[y1:y2, x1:x2] = union[y1:y2, x1:x2]
        rest = rest & ~part
        parts.append(part)
    return [*parts, rest] if rest.any() else parts


def _masks(masks: Any, image: np.ndarray) -> np.ndarray:
    """Return masks (n, H, W) bool, whose size is that of the image."""
    found = to_array(torch.as_tensor(getattr(masks, 'masks', masks))).astype(bool)
    if found.shape[1:] != image.shape[:2]:
        raise InputError(
            f'GroundingVisualizer: mask of shape {found.shape[1:]} on an image of {image.shape[:2]}'
        )
    return found
