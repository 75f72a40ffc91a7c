"""Pages of queries with their retrieved answers; correct answers are marked."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from projects.common.files.image_reader import read_image

__all__ = ['Answers', 'Card', 'draw_answers']

RIGHT, WRONG = '#1a7f37', '#b0b0b0'


class Card(str):
    """Represent an image that is not available by a few words."""


@dataclass
class Answers:
    """Hold a query and its best answers, best first.

    Attributes:
        query: A caption or the path of an image.
        found: Paths of images for a caption, captions for an image. A :class:`Card` may stand in
            for an image.
        right: Whether each answer is correct.
        scores: Similarity of each answer.
    """

    query: str | Path
    found: Sequence[str | Path]
    right: Sequence[bool]
    scores: Sequence[float]


def draw_answers(
    by_caption: Sequence[Answers], by_picture: Sequence[Answers], path: str | Path, title: str
) -> None:
    """Draw captions with their retrieved images and, below, images with their retrieved captions.

    Args:
        by_caption: Answers to captions, at least one.
        by_picture: Answers to images, at least one.
        path: Path of the PNG file to write.
        title: Title of the page.
    """
    from matplotlib.figure import Figure

    rows = len(by_caption) + len(by_picture)
    places = max(len(answers.found) for answers in by_caption)
    figure = Figure(figsize=(4.2 + 1.75 * places, 1.0 + 1.9 * rows), layout='constrained', dpi=80)
    figure.suptitle(title, fontsize=13)
    grid = figure.add_gridspec(rows, places + 1, width_ratios=[2.2, *[1] * places])
    for row, answers in enumerate(by_caption):
        _text(figure.add_subplot(grid[row, 0]), f'“{answers.query}”', 34)
        for place, (found, right, score) in enumerate(
            zip(answers.found, answers.right, answers.scores, strict=True)
        ):
            _picture(figure.add_subplot(grid[row, place + 1]), found, right, score)
    for row, answers in enumerate(by_picture, len(by_caption)):
        _picture(figure.add_subplot(grid[row, 0]), answers.query)
        lines = [
            (f'{"✓" if right else "   "}  {score:.2f}  {textwrap.shorten(str(found), 108)}', right)
            for found, right, score in zip(
                answers.found, answers.right, answers.scores, strict=True
            )
        ]
        axes = figure.add_subplot(grid[row, 1:])
        axes.axis('off')
        for i, (line, right) in enumerate(lines):
            axes.text(
                0,
                1 - (i + 0.5) / len(lines),
                line,
                va='center',
                fontsize=10,
                color=RIGHT if right else '#404040',
                fontweight='bold' if right else 'normal',
                transform=axes.transAxes,
                parse_math=False,
            )
    figure.savefig(path)


def _text(axes, text: str, width: int) -> None:
    axes.axis('off')
    wrapped = textwrap.fill(text, width)
    axes.text(0, 0.5, wrapped, va='center', fontsize=10, parse_math=False)


def _picture(axes, path: str | Path, right: bool | None = None, score: float | None = None) -> None:
    if isinstance(path, Card):
        words = textwrap.fill(path, 16)
        axes.text(0.5, 0.5, words, ha='center', va='center', fontsize=9, parse_math=False)
    else:
        axes.imshow(read_image(path, channel_order='rgb'))
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(
            color=RIGHT if right else WRONG, linewidth=5 if right else 1, visible=right is not None
        )
    if score is not None:
        axes.set_xlabel(f'{"✓ " if right else ""}{score:.2f}', color=RIGHT if right else '#404040')
