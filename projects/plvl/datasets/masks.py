"""Masks in annotation files: polygons, run-length encodings (RLE) and mask images."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Any

import cv2
import mmcv
import numpy as np
import pycocotools.mask as mask_utils

from projects.common.errors import InputError
from projects.common.files.annotation_files import shown

from .checks import MAX_SIDE, Invalid, check_size, xywh_to_xyxy

__all__ = ['check_mask', 'check_mask_file', 'check_mask_meets_box', 'mask_box', 'read_mask_file']


def _invalid(expected: str, found: str) -> Invalid:
    return Invalid('mask', expected, found, 'invalid mask')


def check_mask(mask: Any, height: int | None, width: int | None) -> list[list[float]] | dict:
    """Validate a COCO mask and convert it to the form that ``mmdet.LoadAnnotations`` accepts.

    Polygons with fewer than three points have no area and are dropped if others remain.

    Args:
        mask: A list of polygons [x1, y1, x2, y2, ...] in pixels, an RLE dict (compressed or
            not) with 'size' and 'counts', or a list of such dicts, which are merged.
        height: Height of the image, or None if unknown.
        width: Width of the image, or None.

    Returns:
        The polygons, or a compressed RLE whose counts are a ``str``.

    Raises:
        Invalid: If the mask is malformed, empty, or made for another image size.
    """
    if isinstance(mask, dict):
        return _check_rle(mask, height, width)
    if not isinstance(mask, Sequence) or isinstance(mask, str):
        raise _invalid('polygons or an RLE', type(mask).__name__)
    if mask and all(isinstance(part, dict) for part in mask):
        parts = [_check_rle(part, height, width) for part in mask]
        if len({tuple(part['size']) for part in parts}) > 1:
            raise _invalid('RLE parts of one size', 'parts of different sizes')
        return parts[0] if len(parts) == 1 else _check_rle(mask_utils.merge(parts), height, width)
    polygons = [points for points in map(_check_polygon, mask) if len(points) >= 6]
    if not polygons:
        raise _invalid('a polygon with three points or more', shown(mask))
    if height is not None and width is not None:
        area = mask_utils.area(mask_utils.frPyObjects(polygons, height, width))
        if not area.any():
            found = 'polygons that cover no pixel of it'
            raise _invalid(f'polygons in the image of {width}x{height} pixels', found)
    return polygons


def _check_polygon(polygon: Any) -> list[float]:
    points = np.asarray(polygon, dtype=object)
    try:
        points = points.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        points = np.full(1, np.nan)
    if points.ndim != 1 or len(points) % 2 or not np.isfinite(points).all():
        raise _invalid('polygons, each a flat list of finite x1, y1, x2, y2, ...', shown(polygon))
    # pycocotools traces every edge pixel by pixel with 32-bit integers.
    distance = np.abs(points).max(initial=0)
    if distance > MAX_SIDE:
        expected = f'points at most {MAX_SIDE} pixels from the corner of the image'
        raise _invalid(expected, f'one at {distance:.0f} pixels')
    return points.tolist()


def _check_rle(mask: dict, height: int | None, width: int | None) -> dict:
    try:
        h, w = (int(value) for value in mask['size'])
        counts = mask['counts']
        check_size(h, w)
    except (KeyError, TypeError, ValueError, OverflowError):
        expected = "an RLE, which needs 'size' [height, width] and 'counts'"
        raise _invalid(expected, shown(mask)) from None
    if height is not None and width is not None and (h, w) != (height, width):
        raise _invalid(f'an RLE of {width}x{height} pixels, as the image', f'one of {w}x{h} pixels')
    try:
        runs = counts if isinstance(counts, list) else _decode_counts(counts)
        if any(run < 0 for run in runs) or sum(runs) != h * w:
            raise InputError('its counts do not add up to its size')
        if isinstance(counts, list):
            counts = mask_utils.frPyObjects({'size': [h, w], 'counts': counts}, h, w)['counts']
    except (TypeError, ValueError, IndexError, OverflowError, UnicodeError) as error:
        raise _invalid('an RLE', f'{shown(mask)}, which cannot be decoded ({error})') from None
    if sum(runs[1::2]) == 0:
        raise _invalid('an RLE that covers a pixel', 'one that covers no pixel')
    return {'size': [h, w], 'counts': counts.decode() if isinstance(counts, bytes) else counts}


def _decode_counts(text: str | bytes) -> list[int]:
    """Decode the run lengths of a compressed RLE, zeros first.

    pycocotools leaves memory uninitialized if the runs of a damaged string end too early, so they
    are decoded here. Each character holds five bits, lowest first; the sixth bit tells that more
    follow. From the third run on, values are differences to the run before the last.
    """
    codes = text.encode() if isinstance(text, str) else text
    runs: list[int] = []
    value = shift = 0
    for code in codes:
        bits = code - 48
        if not 0 <= bits < 64:
            raise InputError(f'character {chr(code)!r}')
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:  # the difference is negative
                value -= 1 << shift
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    if shift:
        raise InputError('it ends within a number')
    return runs


def mask_box(mask: list[list[float]] | dict) -> list[float]:
    """Return the smallest [x1, y1, x2, y2], in pixels, around polygons or a compressed RLE."""
    if isinstance(mask, dict):
        return xywh_to_xyxy(mask_utils.toBbox(mask))
    points = np.concatenate([np.asarray(polygon).reshape(-1, 2) for polygon in mask])
    return [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]


def check_mask_meets_box(mask: list[list[float]] | dict, box: Sequence[float]) -> None:
    """Reject a mask that lies entirely outside its box.

    Raises:
        Invalid: If they do not overlap, which means that one of them uses other coordinates or
            belongs to another object.
    """
    x1, y1, x2, y2 = mask_box(mask)
    if x1 > box[2] or x2 < box[0] or y1 > box[3] or y2 < box[1]:
        extent = [round(value, 1) for value in (x1, y1, x2, y2)]
        raise _invalid(f'a mask that meets its box {list(box)}', f'one that spans {extent}')


def check_mask_file(path: str) -> None:
    """Check that a mask image exists.

    Raises:
        Invalid: If it does not.
    """
    if not os.path.isfile(path):
        raise _invalid('an existing mask image', f'that {path} does not exist')


def read_mask_file(path: str) -> dict:
    """Read a mask image as RLE; every nonzero pixel belongs to the object.

    Raises:
        Invalid: If the file is missing, is not a readable image, or is all zero.
    """
    check_mask_file(path)
    image = None
    with contextlib.suppress(cv2.error):  # of an empty file
        image = mmcv.imread(path, flag='unchanged')
    if image is None:
        raise _invalid('a mask image', f'that {path} cannot be read as an image')
    mask = image != 0
    if image.ndim == 3:
        mask = mask[..., :3].any(axis=2)  # ignore an alpha channel
    if not mask.any():
        raise _invalid('a mask image with nonzero pixels', f'that {path} is all zero')
    rle = mask_utils.encode(np.asfortranarray(mask, dtype=np.uint8))
    return dict(size=list(rle['size']), counts=rle['counts'].decode())
