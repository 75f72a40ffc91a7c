"""Validation of boxes, masks, sentences and image sizes from annotation files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_utils

from projects.common.errors import InputError
from projects.common.files.annotation_files import shown
from projects.common.files.image_reader import ImageError, image_size

__all__ = [
    'InvalidSampleError',
    'check_box',
    'check_mask',
    'check_mask_meets_box',
    'mask_box',
    'read_image_size',
    'xywh_to_xyxy',
]

MAX_SIDE = 2**20  # pixels; the largest side that OpenCV reads
_MAX_PIXELS = 2**30
_MAX_OVERFLOW = 2.0  # pixels by which annotated boxes may exceed the image


class InvalidSampleError(InputError):
    """Report a sample that cannot be used. The message is ``reason: detail``."""

    @property
    def reason(self) -> str:
        """Return the start of the message, by which skipped samples are counted."""
        return str(self).split(':', 1)[0]


def xywh_to_xyxy(box_xywh: Any) -> list[float]:
    """Convert COCO's [x, y, width, height] to [x1, y1, x2, y2], both in float pixels."""
    x, y, w, h = _four_numbers(box_xywh)
    return [x, y, x + w, y + h]


def _four_numbers(box: Any) -> list[float]:
    try:
        numbers = [float(value) for value in box]
    except (TypeError, ValueError, OverflowError):
        numbers = []
    if len(numbers) != 4 or not all(math.isfinite(value) for value in numbers):
        raise InvalidSampleError(f'degenerate box: {shown(box)} is not four finite numbers')
    return numbers


def check_size(height: Any, width: Any) -> None:
    """Reject image sizes that are not possible.

    Args:
        height: Height in pixels.
        width: Width in pixels.

    Raises:
        InvalidSampleError: If they are not integers, not positive, or larger than OpenCV reads.
    """
    sides = (height, width)
    ok = all(isinstance(side, (int, np.integer)) and 0 < side <= MAX_SIDE for side in sides)
    if not ok or height * width > _MAX_PIXELS:
        raise InvalidSampleError(f'invalid size: height {shown(height)}, width {shown(width)}')


def check_box(box: Any, height: int | None, width: int | None) -> list[float]:
    """Clip a box to its image.

    Args:
        box: [x1, y1, x2, y2] in pixels.
        height: Height of the image, or None if unknown (then only the order of the corners is
            checked).
        width: Width of the image, or None.

    Raises:
        InvalidSampleError: If the box has no area, or exceeds the image by more than 2 pixels.
    """
    x1, y1, x2, y2 = numbers = _four_numbers(box)
    if x2 <= x1 or y2 <= y1:
        raise InvalidSampleError(
            f'degenerate box: {numbers} has no area; [x1, y1, x2, y2] with x1 < x2 and y1 < y2 '
            'was expected'
        )
    if height is None or width is None:
        return numbers
    if min(x1, y1) < -_MAX_OVERFLOW or x2 > width + _MAX_OVERFLOW or y2 > height + _MAX_OVERFLOW:
        raise InvalidSampleError(
            f'degenerate box: {numbers} is outside of the image of {width}x{height} pixels'
        )
    clipped = [max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))]
    if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
        raise InvalidSampleError(
            f'degenerate box: {numbers} has no area inside the image of {width}x{height} pixels'
        )
    return clipped


def check_text(text: Any) -> str:
    """Strip surrounding whitespace from a sentence.

    Raises:
        InvalidSampleError: If it is not a string or only whitespace.
    """
    if not isinstance(text, str) or not text.strip():
        raise InvalidSampleError(f'empty sentence: {shown(text)}')
    return text.strip()


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
        InvalidSampleError: If the mask is malformed, empty, or made for another image size.
    """
    if isinstance(mask, dict):
        return _check_rle(mask, height, width)
    if not isinstance(mask, Sequence) or isinstance(mask, str):
        raise InvalidSampleError(f'invalid mask: {type(mask).__name__} is neither polygons nor RLE')
    if mask and all(isinstance(part, dict) for part in mask):
        parts = [_check_rle(part, height, width) for part in mask]
        if len({tuple(part['size']) for part in parts}) > 1:
            raise InvalidSampleError('invalid mask: RLE parts of different sizes')
        return parts[0] if len(parts) == 1 else _check_rle(mask_utils.merge(parts), height, width)
    polygons = []
    for polygon in mask:
        points = np.asarray(polygon, dtype=object)
        try:
            points = points.astype(np.float64)
        except (TypeError, ValueError, OverflowError):
            points = np.full(1, np.nan)
        if points.ndim != 1 or len(points) % 2 or not np.isfinite(points).all():
            raise InvalidSampleError(
                'invalid mask: a polygon must be a flat list of finite x1, y1, x2, y2, ...'
            )
        # pycocotools traces every edge pixel by pixel with 32-bit integers.
        if len(points) and np.abs(points).max() > MAX_SIDE:
            raise InvalidSampleError(
                f'invalid mask: a point {np.abs(points).max():.0f} pixels from the corner'
            )
        if len(points) >= 6:
            polygons.append(points.tolist())
    if not polygons:
        raise InvalidSampleError('invalid mask: no polygon with three points or more')
    if height is not None and width is not None:
        rles = mask_utils.frPyObjects(polygons, height, width)
        if not mask_utils.area(rles).any():
            raise InvalidSampleError('invalid mask: the polygons cover no pixel of the image')
    return polygons


def _check_rle(mask: dict, height: int | None, width: int | None) -> dict:
    try:
        h, w = (int(value) for value in mask['size'])
        counts = mask['counts']
        check_size(h, w)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise InvalidSampleError(
            "invalid mask: an RLE needs 'size' [height, width] and 'counts'"
        ) from None
    if height is not None and width is not None and (h, w) != (height, width):
        raise InvalidSampleError(
            f'invalid mask: RLE of size {w}x{h} for an image of {width}x{height} pixels'
        )
    try:
        runs = counts if isinstance(counts, list) else _decode_counts(counts)
        if any(run < 0 for run in runs) or sum(runs) != h * w:
            raise InputError('its counts do not add up to its size')
        if isinstance(counts, list):
            counts = mask_utils.frPyObjects({'size': [h, w], 'counts': counts}, h, w)['counts']
    except (TypeError, ValueError, IndexError, OverflowError, UnicodeError) as error:
        raise InvalidSampleError(f'invalid mask: the RLE cannot be decoded ({error})') from None
    if sum(runs[1::2]) == 0:
        raise InvalidSampleError('invalid mask: the RLE covers no pixel')
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
        InvalidSampleError: If they do not overlap, which means that one of them uses other
            coordinates or belongs to another object.
    """
    x1, y1, x2, y2 = mask_box(mask)
    if x1 > box[2] or x2 < box[0] or y1 > box[3] or y2 < box[1]:
        extent = [round(value, 1) for value in (x1, y1, x2, y2)]
        raise InvalidSampleError(
            f'invalid mask: it spans {extent} and does not meet its box {list(box)}'
        )


def read_image_size(path: str) -> tuple[int, int]:
    """Read (height, width) of the image as displayed, from the file header alone.

    EXIF orientation is applied, as mmcv does when it reads the pixels: annotations of a photograph
    that is stored sideways refer to the upright image.

    Raises:
        InvalidSampleError: If the file is not a readable image.
    """
    try:
        width, height = image_size(path)
    except (OSError, ImageError) as error:
        raise InvalidSampleError(f'broken image: {str(error).removeprefix("image ")}') from None
    return height, width
