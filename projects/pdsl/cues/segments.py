"""Masks from disk as a cue: segmentation proposals, attention maps or another model's masks."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import MODELS

from projects.common.errors import InputError

from ..proposals.identity import names_of_image
from .base import WindowCue, check_boxes, clip_to_pixels, view_matrix
from .segments_in_view import SegmentsInView
from .store import file_digest
from .windows import EMPTY, Window

__all__ = ['SegmentFileCue']


@MODELS.register_module()
class SegmentFileCue(WindowCue):
    """Select, for each box, the best-fitting segment from a file that belongs to the image.

    Each image ``<image folder>/<name>.<ext>`` has either ``<folder>/<name>.npz`` with ``masks``
    (m, H, W) of bool or 0 and 1, or ``<folder>/<name>.png``, in which the values 1 to 254 number
    segments that do not overlap (0 is background and 255 is void, as in VOC's SegmentationObject; a
    binary attention map is one segment). The name may include subfolders: of all files that an end
    of the image's path leads to, the deepest is taken. H and W are those of the original image;
    masks are warped into augmented views.

    A box takes the segment whose own box has the largest IoU with it, clipped to the box. If no
    segment reaches ``min_iou``, the mask is the box itself.

    Args:
        folder: Folder of the mask files.
        min_iou: Least IoU of the segment's box with the box.
    """

    def __init__(self, folder: str | os.PathLike, min_iou: float = 0.5) -> None:
        if not Path(folder).is_dir():
            raise FileNotFoundError(f'SegmentFileCue: folder {os.fspath(folder)!r} does not exist')
        self.folder = Path(folder)
        self.min_iou = min_iou

    def fingerprint(self) -> str:
        """Return the least IoU and the content digest of every file in the folder."""
        files = sorted(p for p in self.folder.rglob('*') if p.suffix in ('.npz', '.png'))
        return f'segments-1 min_iou={self.min_iou} ' + ' '.join(map(file_digest, files))

    def windows(
        self, image: np.ndarray, boxes: np.ndarray, metainfo: Mapping[str, Any] | None
    ) -> tuple[np.ndarray, Callable[[int], Window]]:
        """Choose the best-fitting segment inside each box, or else the box.

        Raises:
            ValueError: The metainfo has no ``img_path``, or a file has unexpected content.
        """
        boxes = check_boxes(boxes, image)
        height, width = image.shape[:2]
        if not metainfo or not metainfo.get('img_path'):
            raise InputError('SegmentFileCue: the metainfo has no img_path; it names the mask file')
        segments = self._read(metainfo['img_path'])
        size = tuple(metainfo.get('ori_shape') or ())[:2]
        if len(segments) and size and segments.shape[1:] != size:
            raise InputError(
                f'{self.folder}: masks of {segments.shape[1:]} pixels for {metainfo["img_path"]} '
                f'of {size}; are they those of another image?'
            )
        original = segments.shape[1:] if len(segments) else None
        matrix = view_matrix(metainfo, (height, width), original, 'SegmentFileCue')
        view = SegmentsInView(segments, matrix, (height, width))
        chosen = view.choose(boxes, self.min_iou)

        def window(index: int) -> Window:
            box = boxes[index]
            if box[2] <= box[0] or box[3] <= box[1]:
                return EMPTY
            x1, y1, x2, y2 = limits = clip_to_pixels(box, height, width)
            mask = np.zeros((max(0, y2 - y1), max(0, x2 - x1)), dtype=bool)
            if chosen[index] >= 0:
                mask = view.warped(chosen[index])[y1:y2, x1:x2]
            return limits, mask if mask.any() else np.ones_like(mask)

        return boxes, window

    def _read(self, img_path: str) -> np.ndarray:
        for name in names_of_image(img_path):
            arrays, labels = (self.folder / f'{name.lstrip("/")}{end}' for end in ('.npz', '.png'))
            if arrays.is_file() or labels.is_file():
                break
        if arrays.is_file():
            with np.load(arrays, allow_pickle=False) as file:
                masks = file['masks'] if 'masks' in file else np.zeros(0)
            if masks.ndim != 3:
                raise InputError(
                    f"{arrays}: field 'masks' has shape {masks.shape}, expected (m, height, width)"
                )
            return masks.astype(bool, copy=False)
        if labels.is_file():
            from PIL import Image

            with Image.open(labels) as picture:
                if picture.mode not in ('L', 'P'):
                    raise InputError(f'{labels}: mode {picture.mode}, expected 8-bit labels (L, P)')
                values = np.asarray(picture)
            numbers = [value for value in np.unique(values) if 0 < value < 255]
            return np.array([values == number for number in numbers]).reshape(-1, *values.shape)
        raise FileNotFoundError(f'{arrays}: does not exist, nor does {labels.name} beside it')
