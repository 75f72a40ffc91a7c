"""Draw objects in their own colors: outlined, with the rest of the image dimmed."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from .text import load_font

__all__ = ['PRED_COLOR', 'TRUTH_COLOR', 'color_of', 'draw_objects']

Color = tuple[int, int, int]
Frame = tuple[int, int, int, int]  # x1, y1, x2, y2 in whole pixels; x2 and y2 are outside

# RGB. The colors also differ in brightness for color-blind readers: dark green, light orange.
TRUTH_COLOR = (0, 158, 96)
PRED_COLOR = (255, 122, 0)
# Kept apart in hue and brightness; neighbors in the list differ most.
_PALETTE = (
    (255, 122, 0),
    (0, 150, 255),
    (60, 200, 60),
    (235, 60, 160),
    (245, 215, 0),
    (140, 90, 230),
    (0, 205, 200),
    (225, 45, 45),
    (170, 220, 120),
    (190, 130, 85),
)
_EDGE = (15, 15, 20)
_WHITE = (255, 255, 255)


def color_of(index: int) -> Color:
    """Return the RGB color of the ``index``-th object of an image; there are ten colors."""
    return _PALETTE[index % len(_PALETTE)]


def draw_objects(
    image: np.ndarray,
    boxes: Sequence[Sequence[float] | np.ndarray | None],
    masks: Sequence[np.ndarray | None],
    colors: Sequence[Color],
    labels: Sequence[str] | None = None,
    shape: Sequence[int] | None = None,
) -> np.ndarray:
    """Draw objects with an outline and a box each, and dim what belongs to none of them.

    Inside its mask an object keeps every pixel, except where a box or the outline of another object
    crosses it. An object without a mask keeps those inside its box. Where objects overlap, later
    ones are drawn on top.

    Args:
        image: (H, W, 3) uint8, RGB. It is not modified.
        boxes: For each object, [x1, y1, x2, y2] in pixels of the original image, or None.
        masks: For each object, (h, w) of any size, nonzero inside the object and stretched over the
            image, or None.
        colors: RGB color of each object.
        labels: Text of each object, drawn on a plate near its box. None draws no plates.
        shape: Shape (h, w, ...) of the original image if ``image`` has been resized.

    Returns:
        The drawing, (H, W, 3) uint8, RGB.
    """
    height, width = image.shape[:2]
    line = max(2, round(min(height, width) / 180))
    insides = [_inside(mask, width, height) for mask in masks]
    h, w = (shape or image.shape)[:2]
    scale = (width / w, height / h) * 2
    frames = [
        None if box is None else _frame(np.multiply(box, scale), width, height) for box in boxes
    ]
    shown = np.zeros((height, width), bool)
    for inside, frame in zip(insides, frames, strict=True):
        if inside is not None:
            shown |= inside
        elif frame is not None:
            x1, y1, x2, y2 = frame
            shown[y1:y2, x1:x2] = True
    bright, dim = image.copy(), _dim(image) if shown.any() else image.copy()
    for frame, inside, color in zip(frames, insides, colors, strict=True):
        if frame is not None:
            thickness = line if inside is None else max(2, line - 1)
            _rectangle(bright, frame, color, thickness)
            _rectangle(dim, frame, color, thickness)
    drawn = np.where(shown[..., None], bright, dim)
    for inside, color in zip(insides, colors, strict=True):
        if inside is not None:
            _outline(drawn, bright, inside, color, line)
    if labels:
        drawn = _write_labels(drawn, frames, insides, colors, labels)
    return drawn


def _inside(mask: np.ndarray | None, width: int, height: int) -> np.ndarray | None:
    """Return the pixels inside an object, (H, W) bool, or None if there are none."""
    if mask is None or not np.any(mask):
        return None
    mask = np.asarray(mask)
    if mask.shape == (height, width):
        return mask.astype(bool)
    field = cv2.resize(255 * mask.astype(bool).astype(np.uint8), (width, height))
    scale = height / mask.shape[0]
    if scale > 1:  # smooth the staircase of the enlarged pixels
        field = cv2.GaussianBlur(field, (0, 0), 0.7 * scale)
    return field >= min(128, 0.6 * field.max())  # the latter for single pixels


def _frame(box: np.ndarray, width: int, height: int) -> Frame:
    """Round a box and clip it to the image; it keeps at least one pixel."""
    x1, y1, x2, y2 = (round(value) for value in box.tolist())
    x1, y1 = min(max(x1, 0), width - 1), min(max(y1, 0), height - 1)
    return x1, y1, min(max(x2, x1 + 1), width), min(max(y2, y1 + 1), height)


def _dim(image: np.ndarray) -> np.ndarray:
    """Return a darker image with little color."""
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, 0.15, grey, 0.25, 22)


def _outline(
    drawn: np.ndarray, bright: np.ndarray, inside: np.ndarray, color: Color, line: int
) -> None:
    """Draw a line around an object, between a white and a dark one; ``bright`` has its inside."""
    edge = max(1, line // 3)
    margin = line + 2 * edge + 2
    x1, y1, x2, y2 = _bounds(inside)
    part = np.s_[max(0, y1 - margin) : y2 + margin, max(0, x1 - margin) : x2 + margin]
    inside, canvas = inside[part], np.ascontiguousarray(drawn[part])
    contours, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    for reach, shade in ((line + 2 * edge, _EDGE), (line + edge, color), (edge, _WHITE)):
        cv2.drawContours(canvas, contours, -1, shade, 2 * reach, cv2.LINE_AA)
    drawn[part] = np.where(inside[..., None], bright[part], canvas)


def _bounds(inside: np.ndarray) -> Frame:
    """Return the smallest frame around an object."""
    rows, columns = np.flatnonzero(inside.any(1)).tolist(), np.flatnonzero(inside.any(0)).tolist()
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def _rectangle(drawn: np.ndarray, frame: Frame, color: Color, line: int) -> None:
    """Draw a box between two dark lines, around its content where the image leaves room."""
    height, width = drawn.shape[:2]
    reach = line + 2
    x1, x2 = _within(frame[0], frame[2], width, reach)
    y1, y2 = _within(frame[1], frame[3], height, reach)
    content = drawn[y1:y2, x1:x2].copy()
    for out, shade in ((reach, _EDGE), (line + 1, color), (1, _EDGE)):
        drawn[max(0, y1 - out) : y2 + out, max(0, x1 - out) : x2 + out] = shade
    drawn[y1:y2, x1:x2] = content


def _within(start: int, end: int, size: int, margin: int) -> tuple[int, int]:
    """Move the ends of an interval away from those of the image, if it is large enough."""
    margin = min(margin, (size - 1) // 2)
    start = min(max(start, margin), size - 1 - margin)
    return start, max(min(end, size - margin), start + 1)


def _write_labels(
    drawn: np.ndarray,
    frames: Sequence[Frame | None],
    insides: Sequence[np.ndarray | None],
    colors: Sequence[Color],
    labels: Sequence[str],
) -> np.ndarray:
    """Write each label on a plate of its object's color, where it covers no other plate."""
    height, width = drawn.shape[:2]
    size = int(np.clip(min(height, width) / 36, 12, 22))
    font = load_font(size, bold=True, text=''.join(labels))
    up, down = font.getmetrics()
    pad = 3
    canvas = Image.fromarray(drawn)
    draw = ImageDraw.Draw(canvas)
    taken: list[tuple[float, float, float, float]] = []
    for frame, inside, color, label in zip(frames, insides, colors, labels, strict=True):
        if frame is None:
            if inside is None:
                continue  # there is nothing to label
            frame = _bounds(inside)
        x1, y1, x2, y2 = frame
        w, h = font.getlength(label) + 2 * pad, up + down + 2
        places = [(x, y) for y in (y1 - h - 3, y2 + 3, y1 + 3, y2 - h - 3) for x in (x1, x2 - w)]
        places = [
            (min(max(0, x), max(0, width - w)), y)
            for x, y in places
            if 0 <= y <= height - h
        ] or [(min(max(0, x1), max(0, width - w)), 0)]  # fmt: skip
        plates = [(x, y, x + w, y + h) for x, y in places]
        plate = min(plates, key=lambda one: sum(_overlap(one, other) for other in taken))
        taken.append(plate)
        x, y = plate[:2]
        dark = np.dot(color, (0.299, 0.587, 0.114)) < 130
        draw.rectangle((x, y, x + w, y + h), fill=color, outline=_EDGE)
        draw.text((x + pad, y + 1), label, font=font, fill=_WHITE if dark else _EDGE)
    return np.array(canvas)


def _overlap(
    first: tuple[float, float, float, float], second: tuple[float, float, float, float]
) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(0.0, width) * max(0.0, height)
