"""Pages of images: panels with titles below a sentence, and tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw

from .text import load_font, wrap

__all__ = ['INK', 'PAPER', 'Panel', 'draw_page', 'resize_to', 'tile']

# RGB
INK = (25, 25, 30)
_GREY = (105, 105, 112)
PAPER = (255, 255, 255)
_GAP = 10  # pixels
_LEAST_CELL, _LEAST_PAGE = 160, 300  # pixels; titles and sentences need that much


@dataclass
class Panel:
    """Hold an image of a page.

    Attributes:
        image: (h, w, 3) uint8, RGB.
        title: Text above the image, on the left.
        note: Text above the image, on the right.
        color: RGB color of a frame and of the title; None draws no frame.
    """

    image: np.ndarray
    title: str = ''
    note: str = ''
    color: tuple[int, int, int] | None = None


def resize_to(image: np.ndarray, min_side: int, max_side: int) -> np.ndarray:
    """Enlarge or reduce an image, preserving its aspect ratio.

    Args:
        image: (H, W, 3) uint8.
        min_side: Smaller images are enlarged until their short side has this many pixels.
        max_side: Larger images are reduced until their long side has this many pixels. It takes
            precedence.

    Returns:
        The image (h, w, 3), which is ``image`` itself if its size is right.
    """
    height, width = image.shape[:2]
    scale = min(max(1.0, min_side / min(height, width)), max_side / max(height, width))
    if scale == 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def draw_page(
    panels: Sequence[Panel], sentence: str | None = None, columns: int | None = None
) -> np.ndarray:
    """Arrange panels in rows with a title above each, and a sentence above all of them.

    Args:
        panels: At least one. All get cells of the size of the largest.
        sentence: Text to draw, wrapped if it is long. None leaves its place out.
        columns: Number of panels per row; None puts all of them in one row.

    Returns:
        The page, (H, W, 3) uint8, RGB.
    """
    height, width = np.max([panel.image.shape[:2] for panel in panels], axis=0).tolist()
    width = max(width, _LEAST_CELL)
    columns = min(columns or len(panels), len(panels))
    total = columns * width + (columns + 1) * _GAP
    if sentence is not None:
        total = max(total, _LEAST_PAGE)
    font_size = int(np.clip(height // 18, 14, 26))
    sentence_font = load_font(round(font_size * 1.25), bold=True, text=sentence or '')
    lines = [] if sentence is None else wrap(sentence, sentence_font, total - 2 * _GAP)
    line_height = round(font_size * 1.65)
    header = _GAP + line_height * len(lines)
    titled = any(panel.title or panel.note for panel in panels)
    title_height = round(font_size * 1.7) if titled else 0
    row_height = title_height + height + _GAP

    canvas = Image.new('RGB', (total, header + -(-len(panels) // columns) * row_height), PAPER)
    draw = ImageDraw.Draw(canvas)
    for i, text in enumerate(lines):
        draw.text((_GAP, _GAP + i * line_height), text, font=sentence_font, fill=INK)
    # Use one size for all titles: the largest at which title and note fit above each panel.
    titles, notes = (''.join(texts) for texts in zip(*((p.title, p.note) for p in panels)))
    for size in range(font_size, 7, -1):
        title_font, note_font = load_font(size, bold=True, text=titles), load_font(size, text=notes)
        needed = [
            title_font.getlength(p.title) + size + note_font.getlength(p.note) for p in panels
        ]
        if max(needed) <= width:
            break
    for i, panel in enumerate(panels):
        left = _GAP + i % columns * (width + _GAP)
        top = header + i // columns * row_height + title_height
        base = top - round(font_size * 0.45)
        ink = panel.color or INK
        draw.text((left, base), panel.title, font=title_font, fill=ink, anchor='ls')
        draw.text((left + width, base), panel.note, font=note_font, fill=_GREY, anchor='rs')
        if panel.color is not None:
            h, w = panel.image.shape[:2]
            around = (left - 4, top - 4, left + w + 3, top + h + 3)
            draw.rectangle(around, outline=panel.color, width=4)
        canvas.paste(Image.fromarray(panel.image), (left, top))
    return np.array(canvas)


def tile(images: Sequence[np.ndarray], columns: int = 1) -> np.ndarray:
    """Arrange images in rows and columns on white, from the top left of their cells.

    Args:
        images: At least one, (h, w, 3) uint8, RGB.
        columns: Number of images per row.

    Returns:
        The page, (H, W, 3) uint8, RGB.
    """
    width = max(image.shape[1] for image in images)
    rows = [images[i : i + columns] for i in range(0, len(images), columns)]
    heights = [max(image.shape[0] for image in row) for row in rows]
    page = np.full((sum(heights), min(columns, len(images)) * width, 3), 255, np.uint8)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for i, image in enumerate(row):
            page[top : top + image.shape[0], i * width : i * width + image.shape[1]] = image
        top += height
    return page
