"""Compare the boxes of two objects."""

from __future__ import annotations

from .photo import PhotoObject

__all__ = ['covered', 'gap', 'iou', 'offset', 'overlap']


def offset(start: PhotoObject, end: PhotoObject, axis: int) -> float:
    """Return the way from one center to another along an axis in pixels."""
    return end.center[axis] - start.center[axis]


def _common(a: PhotoObject, b: PhotoObject, axis: int) -> float:
    """Return the length that two boxes share along an axis; negative is a gap."""
    return min(a.box[axis + 2], b.box[axis + 2]) - max(a.box[axis], b.box[axis])


def overlap(a: PhotoObject, b: PhotoObject, axis: int) -> float:
    """Return the shared length along an axis as a part of the shorter one."""
    shorter = min(o.box[axis + 2] - o.box[axis] for o in (a, b))
    return max(_common(a, b, axis), 0.0) / shorter


def gap(a: PhotoObject, b: PhotoObject) -> float:
    """Return the distance of two boxes in pixels."""
    dx, dy = (max(-_common(a, b, axis), 0.0) for axis in (0, 1))
    return float((dx**2 + dy**2) ** 0.5)


def _intersection(a: PhotoObject, b: PhotoObject) -> float:
    return max(_common(a, b, 0), 0.0) * max(_common(a, b, 1), 0.0)


def iou(a: PhotoObject, b: PhotoObject) -> float:
    """Return the intersection over union of two boxes."""
    inter = _intersection(a, b)
    return inter / (a.area + b.area - inter)


def covered(a: PhotoObject, b: PhotoObject) -> float:
    """Return the share of the smaller box that the other one covers."""
    return _intersection(a, b) / min(a.area, b.area)
