"""Draw a sheet for a sentence: the images found for it, with boxes and masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from projects.common.files.image_reader import read_image
from projects.plvl.visualization import PRED_COLOR, draw_object, lay_out

__all__ = ['draw_hits']


def draw_hits(prediction: Mapping[str, Any], columns: int = 5, side: int = 320) -> np.ndarray:
    """Draw the results of :class:`SearchAndGround` for one sentence.

    Each image is labeled with its rank and two scores: the cosine similarity of image and sentence,
    and the confidence of the box and mask.

    Args:
        prediction: A dict with ``query`` and at least one entry in ``hits``.
        columns: Number of images per row.
        side: Length of an image's long side in pixels.

    Returns:
        The sheet (H, W, 3) uint8, RGB.
    """
    drawn = [_draw_hit(hit, side) for hit in prediction['hits']]
    height, width = np.max([picture.shape[:2] for picture in drawn], axis=0)
    panels = []
    for rank, (picture, hit) in enumerate(zip(drawn, prediction['hits'], strict=True), 1):
        cell = np.full((height, width, 3), 255, np.uint8)
        top, left = (height - picture.shape[0]) // 2, (width - picture.shape[1]) // 2
        cell[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
        note = f'picture {hit["score"]:.2f}, object {hit["grounding"]["score"]:.2f}'
        panels.append((cell, str(rank), note))
    return lay_out(panels, prediction['query'], columns)


def _draw_hit(hit: Mapping[str, Any], side: int) -> np.ndarray:
    picture = read_image(hit['name'], channel_order='rgb')
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    picture = cv2.resize(picture, size, interpolation=method)
    grounding = hit['grounding']
    mask = coco_mask.decode(grounding['mask']) if 'mask' in grounding else None
    scale_xy = (size[0] / width, size[1] / height)
    return draw_object(picture, grounding.get('bbox'), mask, PRED_COLOR, scale_xy)
