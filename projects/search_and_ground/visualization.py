"""Draw a sheet for a sentence: the images found for it, with boxes and masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from projects.common.files.image_reader import read_image
from projects.common.visualization import PRED_COLOR, Panel, draw_objects, draw_page, resize_to
from projects.plvl.generalized_drawing import draw_found

__all__ = ['draw_hits']


def draw_hits(prediction: Mapping[str, Any], columns: int = 5, side: int = 320) -> np.ndarray:
    """Draw the results of :class:`SearchAndGround` for one sentence.

    Each image is labeled with its rank and two scores: the cosine similarity of image and sentence,
    and the confidence of the box and mask. If the grounding says that nothing in the image fits,
    the label says so and nothing is drawn.

    Args:
        prediction: A dict with ``query`` and at least one entry in ``hits``.
        columns: Number of images per row.
        side: Length of an image's long side in pixels.

    Returns:
        The sheet (H, W, 3) uint8, RGB.
    """
    panels = []
    for rank, hit in enumerate(prediction['hits'], 1):
        found = hit['grounding'].get('found', True)
        what = f'object {hit["grounding"]["score"]:.2f}' if found else 'nothing fits'
        note = f'image {hit["score"]:.2f}, {what}'
        panels.append(Panel(_draw_hit(hit, side), str(rank), note))
    return draw_page(panels, f'“{prediction["query"]}”', columns)


def _draw_hit(hit: Mapping[str, Any], side: int) -> np.ndarray:
    image = read_image(hit['name'], channel_order='rgb')
    grounding = hit['grounding']
    mask = coco_mask.decode(grounding['mask']) if 'mask' in grounding else None
    small = resize_to(image, side, side)
    if 'bboxes' in grounding:  # any number of objects, with one mask
        return draw_found(small, grounding['bboxes'], mask, image.shape)
    return draw_objects(small, [grounding.get('bbox')], [mask], [PRED_COLOR], shape=image.shape)
