"""Read a description from its words, and return the objects that somebody may take it to mean.

This is the check of :mod:`.propose`: it knows the words and the boxes, but nothing of how a
sentence came about, and understands all words in their weakest sense.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from .colors import COLORS
from .photo import Photo, PhotoObject, similar_nouns

__all__ = ['RESERVED', 'read_back']

_SIDES = {'left': (0, 1), 'right': (0, -1), 'top': (1, 1), 'bottom': (1, -1)}
_EXTREME = {
    'leftmost': 'left', 'rightmost': 'right', 'topmost': 'top', 'lowest': 'bottom', 'left': 'left',
    'right': 'right', 'upper': 'top', 'top': 'top', 'lower': 'bottom', 'bottom': 'bottom',
}  # fmt: skip
_OF_TWO = ('left', 'right', 'upper', 'top', 'lower', 'bottom', 'larger', 'bigger', 'smaller')
_LARGE, _SMALL = ('largest', 'biggest', 'larger', 'bigger'), ('smallest', 'smaller')
_PLACES = {'second': 2, 'third': 3}
_BEFORE = (*_EXTREME, *_LARGE, *_SMALL, *_PLACES, 'middle')
_BETWEEN = re.compile(
    r'^(?P<target>.*?) (?:(?:(?:to|on) the )?(?P<side>left|right) of'
    r'|(?P<near>(?:right )?next to|beside)) the (?P<anchor>.*)$'
)
_HALF = re.compile(
    r'^(?P<rest>.*?) (?:on|in) the (?P<side>left|right) (?:side|half)(?: of the picture)?$'
)
_AFTER = re.compile(
    r'^(?P<rest>.*?) (?:(?:on the far|furthest to the|on the|at the|from the) '
    r'(?P<side>left|right|top|bottom)|(?P<middle>in the middle))$'
)
RESERVED = frozenset({*_BEFORE, 'far', 'furthest', 'next', 'beside', 'the', 'of', 'from', 'to'})
"""Words that the name of a class cannot have."""


def read_back(text: str, photo: Photo, similar: Collection[Collection[str]] = ()) -> list[int]:
    """Return the indices of all objects that a sentence may mean.

    Args:
        text: The sentence.
        photo: The photograph.
        similar: Further groups of classes that are mistaken for one another.

    Raises:
        ValueError: The sentence has words that are not known.
    """
    return _Reader(photo, similar).read(text.removeprefix('the '))


class _Reader:
    def __init__(self, photo: Photo, similar: Collection[Collection[str]]) -> None:
        self.photo = photo
        self.objects = photo.objects
        self.similar = similar

    def read(self, text: str) -> list[int]:
        if match := _BETWEEN.match(text):
            anchors = self.read(match['anchor'])
            found = self.read(match['target'])
            if len(anchors) != 1:
                return []
            anchor = self.objects[anchors[0]]
            found = [i for i in found if i != anchors[0]]
            if match['side']:
                axis, sign = _SIDES[match['side']]
                return [
                    i for i in found
                    if (self.objects[i].center[axis] - anchor.center[axis]) * sign < 0
                ]  # fmt: skip
            return self._nearest(found, anchor)
        if match := _HALF.match(text):
            axis, sign = _SIDES[match['side']]
            return [
                i for i in self.read(match['rest'])
                if (self.objects[i].center[axis] - self.photo.width / 2) * sign < 0
            ]  # fmt: skip
        before, side = '', ''
        if match := _AFTER.match(text):
            text, side = match['rest'], match['side'] or 'middle'
        first, _, rest = text.partition(' ')
        if first in _BEFORE and rest:
            before, text = first, rest
        found = self._phrase(text)
        if before in _PLACES:
            return self._place(found, side, _PLACES[before])
        if before in _LARGE or before in _SMALL:
            if before in _OF_TWO and len(found) != 2:
                return found
            return self._extreme_size(found, before in _LARGE)
        if 'middle' in (before, side):
            return self._place(found, 'left', 2) if len(found) == 3 else found
        if before or side:
            if before in _OF_TWO and len(found) != 2:
                return found
            return self._place(found, _EXTREME[before or side], 1)
        return found

    def _phrase(self, text: str) -> list[int]:
        """Return the objects that may have this color and class."""
        color, _, noun = text.partition(' ')
        if ' in ' in text:
            noun, _, color = text.partition(' in ')
        known = {obj.noun for obj in self.objects}
        if text in known or color not in COLORS:
            color, noun = '', text
        if noun not in known:
            raise ValueError(f'{text!r}: no class {noun!r}, expected one of {sorted(known)}')
        nouns = similar_nouns(noun, self.similar)
        return [
            i
            for i, obj in enumerate(self.objects)
            if obj.noun in nouns
            and (not color or not obj.shares or obj.shares.get(color, 0.0) >= 0.25)
        ]

    def _place(self, found: list[int], side: str, place: int) -> list[int]:
        """Return the object at a place from a side, and all that are nearly there."""
        axis, sign = _SIDES[side]
        if len(found) < place:
            return []
        at = {i: sign * self.objects[i].center[axis] for i in found}
        nth = sorted(at.values())[place - 1]
        near = 0.02 * (self.photo.width, self.photo.height)[axis]
        return [i for i in found if abs(at[i] - nth) <= near]

    def _extreme_size(self, found: list[int], large: bool) -> list[int]:
        areas = {i: self.objects[i].area for i in found}
        limit = max(areas.values()) / 1.3 if large else min(areas.values()) * 1.3
        return [i for i in found if (areas[i] >= limit if large else areas[i] <= limit)]

    def _nearest(self, found: list[int], anchor: PhotoObject) -> list[int]:
        distances = {i: _distance(self.objects[i], anchor) for i in found}
        if not distances:
            return []
        limit = min(distances.values()) + 0.05 * max(self.photo.width, self.photo.height)
        return [i for i in found if distances[i] <= limit]


def _distance(a: PhotoObject, b: PhotoObject) -> float:
    """Return the distance of the nearest points of two boxes in pixels."""
    dx = max(b.box[0] - a.box[2], a.box[0] - b.box[2], 0.0)
    dy = max(b.box[1] - a.box[3], a.box[1] - b.box[3], 0.0)
    return float((dx * dx + dy * dy) ** 0.5)
