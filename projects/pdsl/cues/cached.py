"""On-disk cache of cues, in the frame of the original image, for all its augmented views."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from mmengine.registry import MODELS

from projects.common.errors import InputError
from projects.common.files.image_reader import content_key, decode_image, read_content

from ..geometry import pairwise_iou, project_boxes
from .base import BottomUpCue, WindowCue, check_boxes, clip_to_pixels, view_matrix
from .store import Box, MaskStore, content_digest
from .warping import warp_window
from .windows import EMPTY, Window

__all__ = ['CachedCue']

_SAME_BOX = 0.9  # least IoU, in the view, to treat a box as a proposal of the original image
_CHUNK = 32  # masks per write; at most this many are lost if the process is killed


@MODELS.register_module()
class CachedCue(WindowCue):
    """Compute another cue once per box of the original image and cache the masks on disk.

    Without the cache, the cue runs on every augmented view. Here it runs on the original image,
    and its masks are warped into the view by the view's homography. The masks are an approximation:
    resizing and colour jitter would have changed the cue's own result slightly.

    The key of a mask consists of its box in whole pixels of the original image, the digest of the
    image file, and the cue's :meth:`~BottomUpCue.fingerprint`.

    The cue reads these entries of ``metainfo``:

    - ``img_path``: File of the original image.
    - ``homography_matrix`` (3, 3): Homography from the original image to the view, as recorded by
      mmdet's transforms. It may be absent if the view is the original image, according to
      ``ori_shape`` and ``flip``.
    - ``ori_proposals`` (m, 4): Optional boxes, XYXY in the original image. A crop clips boxes, so
      without this entry one proposal would become a different box in each view. With it, a box is
      looked up as the proposal that has the largest IoU with it once projected into the view and
      clipped, if that IoU is at least 0.9; other boxes are projected back and rounded.

    The result does not depend on what the cache already contains.

    Args:
        cue: The cue (config or object).
        folder: Folder of the cache. Several processes may share it.
    """

    def __init__(self, cue: BottomUpCue | dict, folder: str | os.PathLike) -> None:
        self.cue = MODELS.build(cue) if isinstance(cue, dict) else cue
        self.store = MaskStore(folder, self.cue.fingerprint())

    def fingerprint(self) -> str:
        """Return the fingerprint of the wrapped cue, marked as cached."""
        return f'cached-1 {self.cue.fingerprint()}'

    def windows(
        self, image: np.ndarray, boxes: np.ndarray, metainfo: Mapping[str, Any] | None
    ) -> tuple[np.ndarray, Callable[[int], Window]]:
        """Read masks within their boxes from the store, and compute and store the missing ones.

        Raises:
            ValueError: ``img_path`` is missing, or the homography of an augmented view is.
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
        stored = self._find(metainfo['img_path'], originals)

        def window(index: int) -> Window:
            box = boxes[index]
            if box[2] <= box[0] or box[3] <= box[1]:
                return EMPTY
            limits = clip_to_pixels(box, height, width)
            warped = warp_window(stored[originals[index]](), matrix, limits)
            return limits, warped if warped.any() else np.ones_like(warped)

        return boxes, window

    def fill(
        self, img_path: str | os.PathLike, boxes: Sequence[Box], read: bool = True
    ) -> dict[Box, np.ndarray]:
        """Return masks for boxes of the original image, computing and storing the missing ones.

        Args:
            img_path: The image file.
            boxes: Boxes in whole pixels of the original image, XYXY.
            read: Whether to return the masks; if False, only fill the cache and return nothing.

        Returns:
            Masks (H, W) bool of the original image, by box.

        Raises:
            FileNotFoundError: The image does not exist.
            ValueError: The image cannot be read.
        """
        found = self._find(img_path, boxes, read)
        return {box: mask() for box, mask in found.items()}

    def _find(
        self, img_path: str | os.PathLike, boxes: Sequence[Box], read: bool = True
    ) -> dict[Box, Callable[[], np.ndarray]]:
        """Do what :meth:`fill` does, but return functions that decode or return the masks."""
        img_path = os.fspath(img_path)
        content = read_content(img_path)
        digest = content_digest(content_key(content))
        boxes = list(dict.fromkeys(boxes))
        found = self.store.readers(digest, boxes) if read else {}
        known = found if read else self.store.boxes(digest)
        missing = [box for box in boxes if box not in known]
        if not missing:
            return found
        image = decode_image(content, img_path)
        for start in range(0, len(missing), _CHUNK):
            chunk = missing[start : start + _CHUNK]
            masks = dict(zip(chunk, self.cue(image, np.array(chunk), dict(img_path=img_path))))
            self.store.add(digest, masks)
            if read:
                found.update({box: partial(np.asarray, mask) for box, mask in masks.items()})
        return found


def _original_boxes(
    boxes: np.ndarray,
    matrix: np.ndarray,
    proposals: np.ndarray | None,
    height: int,
    width: int,
) -> list[Box]:
    """Map boxes of a view to boxes in whole pixels of the original image."""
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
