"""Cues kept on disk, in the original picture's frame, for all of its augmented views."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from mmengine.registry import MODELS

from projects.common.errors import InputError
from projects.common.files.pictures import read_image

from ..geometry import pairwise_iou, project_boxes
from .base import BottomUpCue, check_boxes, clip_to_pixels, fill_box, view_matrix
from .store import Box, MaskStore, file_digest

__all__ = ['CachedCue', 'warp_mask']

_SAME_BOX = 0.9  # IoU in the view from which a box is a proposal of the original picture
_CHUNK = 32  # masks between two writes: what a kill loses at most


@MODELS.register_module()
class CachedCue(BottomUpCue):
    """Another cue, computed once for each box of the original picture and kept on disk.

    The exact mode runs the cue on every augmented view; here it sees the original picture, and
    its masks are warped into the view by the view's homography. The masks are an approximation:
    resizing and colour jitter would have changed the cue's own result a little.

    The key of a mask is its box in whole pixels of the original picture, the digest of the
    picture's file, and the cue's :meth:`~BottomUpCue.fingerprint`.

    Read from ``metainfo`` are

    - ``img_path``, the original picture's file,
    - ``homography_matrix`` (3, 3), as mmdet's transforms keep it, from the original picture to
      the view; absent where the view is the original, which ``ori_shape`` and ``flip`` tell,
    - ``ori_proposals`` (m, 4) XYXY in the original picture, optional. A crop clips boxes, so
      that one proposal would become another box in each view. With it, a box is looked up as the
      proposal that, brought into the view and clipped, has the largest IoU with it, if that is at
      least 0.9; other boxes are brought back and rounded.

    What is found does not depend on what the cache holds already.

    Args:
        cue: The cue (config or object).
        folder: Folder of the cache. Several processes may share it.
    """

    def __init__(self, cue: BottomUpCue | dict, folder: str | os.PathLike) -> None:
        self.cue = MODELS.build(cue) if isinstance(cue, dict) else cue
        self.store = MaskStore(folder, self.cue.fingerprint())

    def fingerprint(self) -> str:
        """The wrapped cue's, marked as cached."""
        return f'cached-1 {self.cue.fingerprint()}'

    def __call__(
        self,
        image: np.ndarray,
        boxes: np.ndarray,
        metainfo: Mapping[str, Any] | None = None,
    ) -> np.ndarray:
        """Masks (n, H, W) from the store; those that it lacks are computed and stored.

        Raises:
            ValueError: The metainfo has no ``img_path``, or lacks the matrix of an augmented view.
        """
        boxes = check_boxes(boxes, image)
        if not metainfo or not metainfo.get('img_path'):
            raise InputError(
                'CachedCue: the metainfo has no img_path, which the cache needs; add it to '
                "PackDetInputs' meta_keys, or use the cue without a cache"
            )
        height, width = image.shape[:2]
        matrix = view_matrix(metainfo, (height, width), metainfo.get('ori_shape'), 'CachedCue')
        originals = _original_boxes(boxes, matrix, metainfo.get('ori_proposals'), height, width)
        stored = self.fill(metainfo['img_path'], originals)
        masks = np.zeros((len(boxes), height, width), dtype=bool)
        for index, (box, original) in enumerate(zip(boxes, originals)):
            if box[2] <= box[0] or box[3] <= box[1]:
                continue
            warp_mask(stored[original], matrix, box, masks[index])
            if not masks[index].any():
                fill_box(masks[index], box)
        return masks

    def fill(
        self, img_path: str | os.PathLike, boxes: Sequence[Box], read: bool = True
    ) -> dict[Box, np.ndarray]:
        """Masks of boxes of the original picture; what the cache lacks is computed and kept.

        Args:
            img_path: The picture's file.
            boxes: Boxes in whole pixels of the original picture, XYXY.
            read: Whether the masks are wanted; otherwise the cache is filled and nothing returned.

        Returns:
            Masks (H, W) bool of the original picture, by box.

        Raises:
            FileNotFoundError: The picture does not exist.
            ValueError: It cannot be read.
        """
        img_path = os.fspath(img_path)
        digest = file_digest(img_path)
        boxes = list(dict.fromkeys(boxes))
        found = self.store.read(digest, boxes) if read else {}
        known = found if read else self.store.boxes(digest)
        missing = [box for box in boxes if box not in known]
        if not missing:
            return found
        image = read_image(img_path)  # EXIF orientation applied, as in the data pipelines
        if image is None:
            raise InputError(f'{img_path}: not a readable picture')
        for start in range(0, len(missing), _CHUNK):
            chunk = missing[start : start + _CHUNK]
            masks = dict(zip(chunk, self.cue(image, np.array(chunk), dict(img_path=img_path))))
            self.store.add(digest, masks)
            if read:
                found.update(masks)
        return found


def warp_mask(mask: np.ndarray, matrix: np.ndarray, box: np.ndarray, out: np.ndarray) -> None:
    """Bring a mask into a view, within a box.

    Args:
        mask: (h, w) bool, original picture.
        matrix: (3, 3) from coordinates of the original to those of the view, where the centre of
            the first pixel is at (0.5, 0.5).
        box: XYXY in the view.
        out: (H, W) bool, the view; its pixels inside of the box are set.
    """
    x1, y1, x2, y2 = clip_to_pixels(box, *out.shape)
    if x2 <= x1 or y2 <= y1:
        return
    # OpenCV counts from the centre of the first pixel.
    matrix = _shift(-x1 - 0.5, -y1 - 0.5) @ matrix @ _shift(0.5, 0.5)
    source = mask.astype(np.uint8) * 255
    warped = cv2.warpPerspective(source, matrix, (x2 - x1, y2 - y1), flags=cv2.INTER_LINEAR)
    out[y1:y2, x1:x2] = warped >= 128


def _shift(x: float, y: float) -> np.ndarray:
    return np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]])


def _original_boxes(
    boxes: np.ndarray,
    matrix: np.ndarray,
    proposals: np.ndarray | None,
    height: int,
    width: int,
) -> list[Box]:
    """Boxes of a view in whole pixels of the original picture."""
    originals = project_boxes(boxes, np.linalg.inv(matrix))
    if proposals is not None and len(proposals) and len(boxes):
        proposals = np.asarray(proposals, dtype=np.float64).reshape(-1, 4)
        there = project_boxes(proposals, matrix)
        there[:, 0::2] = there[:, 0::2].clip(0, width)
        there[:, 1::2] = there[:, 1::2].clip(0, height)
        overlaps = pairwise_iou(boxes, there)
        best = overlaps.argmax(axis=1)
        same = overlaps[np.arange(len(boxes)), best] >= _SAME_BOX
        originals[same] = proposals[best[same]]
    return [tuple(box) for box in np.rint(originals).astype(int).tolist()]
