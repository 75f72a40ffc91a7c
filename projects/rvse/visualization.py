"""Visualization of retrieval: a query with its ranked answers; correct answers are marked."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from mmengine.registry import VISUALIZERS
from mmengine.structures import BaseDataElement
from PIL import Image, ImageDraw

from projects.common.files.image_reader import read_image
from projects.common.visualization import (
    INK,
    PAPER,
    TRUTH_COLOR,
    ArrayVisualizer,
    Panel,
    draw_page,
    load_font,
    resize_to,
    wrap,
)

__all__ = ['RetrievalVisualizer']

_GAP = 10  # pixels
_SIZE = 15  # of a font, in pixels


@VISUALIZERS.register_module()
class RetrievalVisualizer(ArrayVisualizer):
    """Draw a caption with the images retrieved for it, or an image with its captions.

    Correct answers are green. An image that is not available, as in data sets of precomputed
    features, is represented by its id.

    Args:
        name: Name of the instance.
        side: Length of an image's long side in pixels.
        top_k: Number of answers to draw.
        kwargs: Arguments of MMEngine's ``Visualizer``, such as ``vis_backends``.

    Example config::

        visualizer = dict(type='RetrievalVisualizer', top_k=5)
    """

    def __init__(
        self, name: str = 'visualizer', side: int = 220, top_k: int = 5, **kwargs: Any
    ) -> None:
        super().__init__(name, side, side, **kwargs)
        self.top_k = top_k

    def draw(
        self,
        image: np.ndarray | None,
        data_sample: BaseDataElement,
        draw_gt: bool = True,
        draw_pred: bool = True,
        **kwargs: Any,
    ) -> np.ndarray:
        """Draw a query with its answers.

        If ``data_sample.text`` is a string, it is the query. The sample then has, best first,
        ``pred_img_path`` (paths of images, or None for those that are not available),
        ``pred_ori_id`` (their ids), ``pred_score`` and ``correct`` (whether each is right).

        If ``text`` is a list, ``image`` is the query and the list has its own captions. The sample
        then has ``pred_text``, ``pred_score`` and ``correct``.

        Either may have ``rank``, the rank of the first correct answer from 1, and ``ori_id``.

        Args:
            image: The image (H, W, 3) uint8, RGB: the query, or the ground truth for a caption.
                None represents it by its id.
            data_sample: See above.
            draw_gt: Whether to draw the image of a caption, or the captions of an image.
            draw_pred: Whether to draw the answers, if there are any.
            kwargs: Ignored.

        Returns:
            The drawing, (h, w, 3) uint8, RGB.

        Raises:
            ValueError: An image to draw cannot be read.
        """
        rank = data_sample.get('rank')
        rank = '' if rank is None else f'rank {rank}'
        own = self._fit(image, data_sample.get('ori_id'))
        text = data_sample.text
        if not isinstance(text, str):
            lines = []
            if draw_pred and 'pred_text' in data_sample:
                lines += self._answers(data_sample, data_sample.pred_text)
            if draw_gt and text:
                lines += [('Ground truth', '', None), *((caption, '', True) for caption in text)]
            page = draw_page([Panel(own, 'Image', rank)])
            return _beside(page, _draw_lines(lines, 4 * self.max_side)) if lines else page
        panels = []
        if draw_pred and 'pred_img_path' in data_sample:
            ids = data_sample.get('pred_ori_id') or data_sample.pred_img_path
            thumbs = [
                self._fit(None if path is None else _read(path, self.max_side), name)
                for path, name in zip(data_sample.pred_img_path[: self.top_k], ids)
            ]
            panels = [
                Panel(
                    thumb,
                    f'{place} ✓' if right else str(place),
                    score,
                    TRUTH_COLOR if right else None,
                )
                for place, (thumb, score, right) in enumerate(self._answers(data_sample, thumbs), 1)
            ]
        if draw_gt:
            panels.insert(0, Panel(own, 'Ground truth', rank))
        return draw_page(panels, f'“{text}”')

    def _answers(self, data_sample: BaseDataElement, found: Sequence) -> list[tuple]:
        """Return the first answers, each with its score as text and whether it is correct."""
        scores = [f'{float(score):.2f}' for score in data_sample.pred_score]
        return list(zip(found, scores, data_sample.correct))[: self.top_k]

    def _fit(self, image: np.ndarray | None, name: object) -> np.ndarray:
        """Resize an image, or write a name in its place."""
        if image is not None:
            return resize_to(image, self.min_side, self.max_side)
        font = load_font(_SIZE, text=str(name))
        card = Image.new('RGB', (self.max_side, self.max_side * 3 // 4), (235, 235, 238))
        text = '\n'.join(wrap(f'image {name}', font, self.max_side - 2 * _GAP))
        middle = (card.width // 2, card.height // 2)
        ImageDraw.Draw(card).text(middle, text, INK, font, anchor='mm', align='center')
        return np.array(card)


@lru_cache(maxsize=512)
def _read(path: str, side: int) -> np.ndarray:
    """Read an image (h, w, 3) uint8, RGB, reduced to a long side. Queries share their answers."""
    return resize_to(read_image(path, channel_order='rgb'), side, side)


def _draw_lines(lines: Sequence[tuple[str, str, bool | None]], width: int) -> np.ndarray:
    """Write wrapped texts, each with its score and whether it is right; None marks a heading."""
    font, bold = load_font(_SIZE), load_font(_SIZE, bold=True)
    height = round(1.5 * _SIZE)
    placed: list[tuple[int, int, str, Any, tuple[int, int, int]]] = []
    y = _GAP
    for text, score, right in lines:
        ink = TRUTH_COLOR if right else INK
        is_bold = right is None or bool(right and score)
        face = load_font(_SIZE, is_bold, text)
        if score:
            placed.append((0, y, '✓' if right else '', bold, ink))
            placed.append((round(1.3 * _SIZE), y, score, font, ink))
        left = round(4.3 * _SIZE)
        if right is None:
            y, left = y + height // 3, 0
        for part in wrap(text, face, width - left - _GAP):
            placed.append((left, y, part, face, ink))
            y += height
    canvas = Image.new('RGB', (width, y + _GAP), PAPER)
    draw = ImageDraw.Draw(canvas)
    for x, y, text, face, ink in placed:
        draw.text((x, y), text, ink, face)
    return np.array(canvas)


def _beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    height = max(left.shape[0], right.shape[0])
    return np.concatenate(
        [
            cv2.copyMakeBorder(
                part, 0, height - part.shape[0], 0, 0, cv2.BORDER_CONSTANT, value=PAPER
            )
            for part in (left, right)
        ],
        axis=1,
    )
