"""Fonts and line breaks."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

from mmengine.logging import print_log
from PIL import ImageFont

__all__ = ['load_font', 'wrap']

_reported: set[str] = set()  # characters that no font has


def load_font(size: int, bold: bool = False, text: str = '') -> ImageFont.FreeTypeFont:
    """Return a font that has the characters of a text.

    It is DejaVu Sans, which matplotlib ships, or else the installed font that lacks the fewest of
    them, as for Chinese. The log names characters that no font has, which are drawn as boxes.

    Args:
        size: Size in pixels.
        bold: Whether the font is bold, if there is a choice.
        text: What is drawn with the font.
    """
    characters = frozenset(filter(_is_visible, text))
    path, lacking = _default_font(bold), ''
    if _lacking(path, characters):
        path, lacking = _installed_font(characters, bold)
    if new := ''.join(sorted(set(lacking) - _reported)):
        _reported.update(new)
        print_log(
            f'{new!r}: {len(new)} characters that no installed font has are drawn as boxes; '
            'install one that has them, such as Noto Sans',
            'current',
            logging.WARNING,
        )
    return _open(path, size)


@lru_cache(maxsize=64)
def _open(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


def _default_font(bold: bool) -> str:
    import matplotlib

    name = 'DejaVuSans-Bold.ttf' if bold else 'DejaVuSans.ttf'
    return str(Path(matplotlib.get_data_path()) / 'fonts' / 'ttf' / name)


def _is_visible(character: str) -> bool:
    """Return whether a character needs a glyph, unlike blanks and marks of the direction."""
    category = unicodedata.category(character)
    return category[0] not in 'CZ' and not '\ufe00' <= character <= '\ufe0f'


@lru_cache(maxsize=256)
def _installed_font(characters: frozenset[str], bold: bool) -> tuple[str, str]:
    """Return the font that lacks the fewest characters, the default one if none has more.

    Returns:
        The path, and the characters that it lacks.
    """
    from matplotlib import font_manager

    def rank(path: str) -> tuple:
        name = Path(path).name.lower()
        slanted = any(word in name for word in ('italic', 'oblique'))
        special = any(word in name for word in ('serif', 'mono'))
        return slanted, special, ('bold' in name) != bold, name

    best = _default_font(bold)
    lacking = _lacking(best, characters)
    for path in sorted(font_manager.findSystemFonts(), key=rank):
        if not lacking:
            break
        if 'lastresort' in Path(path).name.lower():  # it has a box for every character
            continue
        try:
            found = _lacking(path, characters)
            if len(found) < len(lacking):
                _open(path, 12)  # fonts of bitmaps have a few sizes only
                best, lacking = path, found
        except (OSError, RuntimeError, ValueError):  # damaged or of an unknown format
            continue
    return best, lacking


def _lacking(path: str, characters: frozenset[str]) -> str:
    """Return the characters for which a font has no glyph."""
    if not characters:
        return ''
    glyphs = _glyphs(path)
    return ''.join(sorted(c for c in characters if ord(c) not in glyphs))


@lru_cache(maxsize=8)
def _glyphs(path: str) -> Collection[int]:
    from matplotlib.ft2font import FT2Font

    return FT2Font(path).get_charmap()


def wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Break text into lines of at most ``width`` pixels, between words where possible."""
    lines = ['']
    for word in text.split():
        while font.getlength(word) > width:  # the word is longer than a line
            fitting = next(
                (n for n in range(len(word) - 1, 1, -1) if font.getlength(word[:n]) <= width), 1
            )
            lines += [word[:fitting], '']
            word = word[fitting:]
        joined = f'{lines[-1]} {word}'.strip()
        if font.getlength(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(word)
    return [line for line in lines if line] or ['']
