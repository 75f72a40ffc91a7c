"""Visualization of groundings: input, ground truth, prediction and score map side by side."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from projects.common.errors import InputError

from .evaluation.grounding_metric import box_iou, mask_areas

if TYPE_CHECKING:
    from mmdet.structures import DetDataSample

__all__ = ['PRED_COLOR', 'draw_data_sample', 'draw_grounding', 'draw_object', 'lay_out']

# RGB. The colors also differ in brightness for color-blind readers: dark green, light orange.
TRUTH_COLOR = (0, 158, 96)
PRED_COLOR = (255, 122, 0)
_INK = (25, 25, 30)
_GREY = (105, 105, 112)
_PAPER = (255, 255, 255)


@lru_cache(maxsize=32)
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    import matplotlib

    name = 'DejaVuSans-Bold.ttf' if bold else 'DejaVuSans.ttf'
    folder = Path(matplotlib.get_data_path()) / 'fonts' / 'ttf'
    return ImageFont.truetype(str(folder / name), size)


def draw_grounding(
    image: np.ndarray,
    sentence: str,
    *,
    gt_box: Sequence[float] | None = None,
    gt_mask: np.ndarray | None = None,
    pred_box: Sequence[float] | None = None,
    pred_mask: np.ndarray | None = None,
    score_map: np.ndarray | None = None,
    score: float | None = None,
    min_side: int = 256,
    max_side: int = 640,
) -> np.ndarray:
    """Draw one grounding as a row of panels below its sentence, as in Figure 5 of the paper.

    Panels without data are left out. If both ground truth and prediction are passed, the IoUs of
    box and mask are written above the prediction.

    Args:
        image: (H, W, 3) uint8, RGB.
        sentence: The referring expression.
        gt_box: [x1, y1, x2, y2] in pixels of ``image``.
        gt_mask: (H, W), nonzero inside the object.
        pred_box: [x1, y1, x2, y2] in pixels of ``image``.
        pred_mask: (H, W), nonzero inside the object.
        score_map: (h, w) of any size, stretched over the image. Its peak is marked.
        score: Confidence of the prediction, from 0 to 1.
        min_side: Smaller images are enlarged until their short side has this many pixels.
        max_side: Larger images are reduced until their long side has this many pixels.

    Returns:
        The drawing, (h, w, 3) uint8, RGB.

    Raises:
        ValueError: If ``image`` is not an (H, W, 3) uint8 array, or a mask differs from it in size.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(
            f'draw_grounding: image of shape {image.shape} and type {image.dtype}, expected '
            '(H, W, 3) uint8'
        )
    for name, mask in (('gt_mask', gt_mask), ('pred_mask', pred_mask)):
        if mask is not None and mask.shape != image.shape[:2]:
            raise InputError(
                f'draw_grounding: {name} of shape {mask.shape} on an image of {image.shape[:2]}'
            )
    height, width = image.shape[:2]
    scale = min(max(1.0, min_side / min(height, width)), max_side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    picture = cv2.resize(image, size, interpolation=method) if scale != 1 else image.copy()
    scale_xy = (size[0] / width, size[1] / height)

    panels = [(picture, 'Input', '')]
    if gt_box is not None or gt_mask is not None:
        drawn = draw_object(picture, gt_box, gt_mask, TRUTH_COLOR, scale_xy)
        panels.append((drawn, 'Ground truth', ''))
    if pred_box is not None or pred_mask is not None:
        drawn = draw_object(picture, pred_box, pred_mask, PRED_COLOR, scale_xy)
        notes = []
        if gt_box is not None and pred_box is not None:
            notes.append(f'box {box_iou(pred_box, gt_box):.2f}')
        if gt_mask is not None and pred_mask is not None:
            inter, union = mask_areas(np.asarray(pred_mask), np.asarray(gt_mask))
            notes.append(f'mask {inter / union if union else 1.0:.2f}')
        note = f'IoU: {", ".join(notes)}' if notes else ''
        if score is not None and not notes:
            note = f'score {score:.2f}'
        panels.append((drawn, 'Prediction', note))
    if score_map is not None:
        note = f'peak {float(np.max(score_map)):.2f}'
        panels.append((_draw_score_map(picture, score_map), 'Score map', note))
    return lay_out(panels, sentence)


def draw_object(
    picture: np.ndarray,
    box: Sequence[float] | None,
    mask: np.ndarray | None,
    color: tuple[int, int, int],
    scale_xy: tuple[float, float],
) -> np.ndarray:
    """Tint the mask, trace its outline and draw the box.

    Args:
        picture: (H, W, 3) uint8, RGB. It is not modified.
        box: [x1, y1, x2, y2], scaled by ``scale_xy`` to pixels of ``picture``.
        mask: (h, w) of any size, nonzero inside the object, stretched over ``picture``.
        color: RGB.
        scale_xy: Pixels of ``picture`` per unit of the box, horizontally and vertically.

    Returns:
        The drawing, (H, W, 3) uint8, RGB.
    """
    picture = picture.copy()
    height, width = picture.shape[:2]
    line = max(2, round(min(height, width) / 160))
    if mask is not None and np.any(mask):
        # Enlarge the mask as a smooth field to avoid staircase edges on small masks.
        field = cv2.resize(np.asarray(mask).astype(np.float32), (width, height))
        inside = field >= 0.5
        tinted = 0.5 * picture[inside] + 0.5 * np.array(color)
        picture[inside] = tinted.astype(np.uint8)
        outlines, _ = cv2.findContours(
            inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(picture, outlines, -1, color, max(1, line // 2), cv2.LINE_AA)
    if box is not None:
        x1, x2 = (round(float(box[i]) * scale_xy[0]) for i in (0, 2))
        y1, y2 = (round(float(box[i]) * scale_xy[1]) for i in (1, 3))
        # A white rim keeps the line visible on any background. The inset keeps boxes at the
        # border inside the image.
        inset = line // 2 + 1
        x1, x2 = np.clip((x1, x2), inset, width - 1 - inset).tolist()
        y1, y2 = np.clip((y1, y2), inset, height - 1 - inset).tolist()
        cv2.rectangle(picture, (x1, y1), (x2, y2), _PAPER, line + 2)
        cv2.rectangle(picture, (x1, y1), (x2, y2), color, line)
    return picture


def _draw_score_map(picture: np.ndarray, score_map: np.ndarray) -> np.ndarray:
    """Blend a heat map over the grayscale image and mark its peak with a cross.

    A cell represents the centers that round to it (``center_heatmaps``), so it is drawn at its
    upper left corner, not at its middle.
    """
    height, width = picture.shape[:2]
    scores = np.asarray(score_map, dtype=np.float32)
    row, column = np.unravel_index(int(scores.argmax()), scores.shape)
    low, high = float(scores.min()), float(scores.max())
    heat = (scores - low) / max(high - low, 1e-6)
    step_x, step_y = scores.shape[1] / width, scores.shape[0] / height
    heat = cv2.warpAffine(
        heat,
        np.array([[step_x, 0, step_x / 2], [0, step_y, step_y / 2]]),
        (width, height),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    ).clip(0, 1)
    colors = cv2.applyColorMap((255 * heat).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    grey = np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    drawn = (0.45 * grey + 0.55 * colors).astype(np.uint8)
    centre = (round(column / step_x), round(row / step_y))
    arm = max(12, min(height, width) // 16)
    line = max(2, arm // 8)
    cv2.drawMarker(drawn, centre, (0, 0, 0), cv2.MARKER_CROSS, arm + 4, line + 2)
    cv2.drawMarker(drawn, centre, _PAPER, cv2.MARKER_CROSS, arm, line)
    return drawn


def lay_out(
    panels: Sequence[tuple[np.ndarray, str, str]], sentence: str, columns: int | None = None
) -> np.ndarray:
    """Arrange panels in rows with a title above each, and the sentence above all of them.

    Args:
        panels: (h, w, 3) uint8, RGB, all of one size, each with a title and a right-aligned note
            to draw above it.
        sentence: Sentence to draw, wrapped if it is long.
        columns: Number of panels per row; None puts all of them in one row.

    Returns:
        The drawing, (H, W, 3) uint8, RGB.
    """
    height, width = panels[0][0].shape[:2]
    columns = min(columns or len(panels), len(panels))
    gap = 10
    total = columns * width + (columns + 1) * gap
    font_size = int(np.clip(height // 18, 14, 26))
    sentence_font = _font(round(font_size * 1.25), bold=True)
    lines = _wrap(f'“{sentence}”', sentence_font, total - 2 * gap)
    line_height = round(font_size * 1.65)
    header = gap + line_height * len(lines)
    title_height = round(font_size * 1.7)
    row_height = title_height + height + gap

    canvas = Image.new('RGB', (total, header + -(-len(panels) // columns) * row_height), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for i, text in enumerate(lines):
        draw.text((gap, gap + i * line_height), text, font=sentence_font, fill=_INK)
    # Use one size for all titles: the largest at which title and note fit above each panel.
    for size in range(font_size, 7, -1):
        title_font, note_font = _font(size, bold=True), _font(size)
        needed = (title_font.getlength(t) + size + note_font.getlength(n) for _, t, n in panels)
        if max(needed) <= width:
            break
    for i, (panel, title, note) in enumerate(panels):
        left = gap + i % columns * (width + gap)
        top = header + i // columns * row_height + title_height
        base = top - round(font_size * 0.45)
        draw.text((left, base), title, font=title_font, fill=_INK, anchor='ls')
        draw.text((left + width, base), note, font=note_font, fill=_GREY, anchor='rs')
        canvas.paste(Image.fromarray(panel), (left, top))
    return np.array(canvas)


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Break text into lines of at most ``width`` pixels, between words where possible."""
    lines = ['']
    for word in text.split():
        while font.getlength(word) > width:  # the word is longer than a line
            fitting = next(n for n in range(len(word), 0, -1) if font.getlength(word[:n]) <= width)
            lines += [word[:fitting], '']
            word = word[fitting:]
        joined = f'{lines[-1]} {word}'.strip()
        if font.getlength(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(word)
    return [line for line in lines if line] or ['']


def draw_data_sample(image: np.ndarray, data_sample: DetDataSample, **kwargs) -> np.ndarray:
    """Apply :func:`draw_grounding` to the contents of a data sample.

    Args:
        image: The original image, (H, W, 3) uint8, RGB.
        data_sample: A sample with ``text`` and, if available, ``gt_instances`` and
            ``pred_instances`` in original pixels, ``with_mask`` and ``pred_score_map``.
        kwargs: Further arguments of :func:`draw_grounding`.
    """
    fields: dict = {}
    for name, prefix in (('gt_instances', 'gt'), ('pred_instances', 'pred')):
        instances = data_sample.get(name)
        if instances is None or len(instances) == 0:
            continue
        best = 0
        if 'scores' in instances:
            best = int(instances.scores.argmax())
            fields['score'] = float(instances.scores[best])
        if 'bboxes' in instances:
            boxes = getattr(instances.bboxes, 'tensor', instances.bboxes)
            fields[f'{prefix}_box'] = boxes[best].tolist()
        if 'masks' in instances and (prefix == 'pred' or data_sample.get('with_mask', True)):
            masks = getattr(instances.masks, 'masks', instances.masks)
            mask = masks[best]
            fields[f'{prefix}_mask'] = mask.cpu().numpy() if hasattr(mask, 'cpu') else mask
    score_map = data_sample.get('pred_score_map')
    if score_map is not None:
        fields['score_map'] = score_map.detach().float().cpu().numpy()
    return draw_grounding(image, data_sample.text, **fields, **kwargs)
