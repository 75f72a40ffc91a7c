"""Find descriptions that fit one object of a photograph and that nobody can mistake.

In the following, W and H are width and height of the image, and positions are centers of boxes. A
phrase is a class, or a color and a class. It *may* fit an object if it fits, if the color of the
object is not clear, or if the object's class is called by the same name (:func:`similar_nouns`).
With one object that it may fit, a phrase is a description. Otherwise it takes

- a half: the target is in the left or in the right half of the image, and all others are in the
  other one;
- an order: no other object that the phrase may fit is nearer than 0.08 W (of several from left to
  right) or 0.12 H (from top to bottom) to the place of the target, and an outermost object is also
  outermost by the edge of its box;
- a size: the largest has at least 1.8 times the area of the next one, and is wider and higher;
- a neighbor that a phrase describes: the target is beside it, and all others are far from it or on
  its other side.

Without depth, 'above' and 'in front of' cannot be told apart, so no neighbor is above or below.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from projects.common.scenes.language import DIRECTIONS
from projects.common.scenes.wording import Phrase

from .colors import NEIGHBORS
from .description import CLOTHED, Description
from .geometry import covered, gap, iou, offset, overlap
from .photo import Photo, PhotoObject, similar_nouns

__all__ = ['Rules', 'descriptions_of', 'eligible']

GAP = (0.08, 0.12)  # of W from left to right, of H from top to bottom
ORDINAL_GAP = 0.06
SIZE_RATIO = 1.8
COUNTER_MARGIN = 0.02
# Screens and covered tables have no color of their own; of the others it tells nothing.
COLORLESS = frozenset(
    (
        'tv',
        'tv monitor',
        'laptop',
        'cell phone',
        'dining table',
        'potted plant',
        'broccoli',
        'carrot',
        'pizza',
        'sandwich',
        'hot dog',
        'zebra',
        'giraffe',
        'elephant',
        'mirror',
        'oven',
        'window',
    )  # fmt: skip
)
# Skin has the others.
CLOTHES = frozenset({'red', 'yellow', 'green', 'blue', 'purple', 'black', 'white'})
# 'The large person' means something else, and a second table is often a part of the first.
UNSIZED = frozenset({'person', 'dining table', 'skis', 'scissors'})
# Two boxes one above the other are often parts of one of these.
UNSTACKED = frozenset({'person', 'dining table'})
# Of these, annotators often outline a few of many.
NUMEROUS = frozenset({'carrot', 'broccoli', 'apple', 'orange', 'banana', 'donut', 'book'})
NUMEROUS_AREA = 0.03  # least share of the image


@dataclass(frozen=True)
class Rules:
    """Hold what may be described.

    Attributes:
        min_area: Least area of the box of a described object, as a share of the image.
        max_area: Largest area of it.
        max_rivals: Most objects of a class of which one is described; annotators leave some out
            where there are many.
        max_counted: Most objects that a reader has to count ('the second from the left').
        min_share: Least share of an object's pixels that have its color.
        similar: Further groups of classes that are mistaken for one another.
    """

    min_area: float = 0.01
    max_area: float = 0.9
    max_rivals: int = 8
    max_counted: int = 5
    min_share: float = 0.6
    similar: Collection[Collection[str]] = ()


def eligible(photo: Photo, index: int, rules: Rules) -> bool:
    """Return whether sentences may be about an object, or name it as a neighbor.

    Not about a group, a difficult or a small object, one of a class of which there is a group or
    are too many, or one that is hard to tell from another one at the same place.
    """
    obj = photo.objects[index]
    share = obj.area / (photo.width * photo.height)
    least = max(rules.min_area, NUMEROUS_AREA if obj.noun in NUMEROUS else 0.0)
    if obj.crowd or obj.hard or not least <= share <= rules.max_area:
        return False
    nouns = similar_nouns(obj.noun, rules.similar)
    rivals = [o for i, o in enumerate(photo.objects) if o.noun in nouns and i != index]
    if any(rival.crowd for rival in rivals) or len(rivals) >= rules.max_rivals:
        return False
    return all(iou(obj, rival) < 0.5 and covered(obj, rival) < 0.85 for rival in rivals)


def descriptions_of(photo: Photo, index: int, rules: Rules) -> Iterator[Description]:
    """Yield all descriptions of an object, in a fixed order.

    Args:
        photo: The photograph.
        index: Index of the object, which is :func:`eligible`.
        rules: What may be described.
    """
    proposer = _Proposer(photo, rules)
    for phrase in proposer.phrases(index):
        if len(proposer.possible(phrase)) == 1:
            yield Description(phrase, 'attribute')
            # People say more than is needed.
            for description in (*proposer.sided(index, phrase), *proposer.related(index, phrase)):
                yield replace(description, kind='attribute')
            continue
        yield from proposer.sided(index, phrase)
        yield from proposer.ordered(index, phrase)
        yield from proposer.sized(index, phrase)
        yield from proposer.related(index, phrase)


class _Proposer:
    """Find the descriptions of one photograph's objects."""

    def __init__(self, photo: Photo, rules: Rules) -> None:
        self.photo = photo
        self.rules = rules
        self.objects = photo.objects
        self.sides = (photo.width, photo.height)

    def phrases(self, index: int) -> list[Phrase]:
        """Return the class, and the class with its color if there are others and it is clear.

        The color of a single object of a class is often that of the light.
        """
        obj = self.objects[index]
        phrases = [Phrase((('name', obj.noun),))]
        color = self._color(obj)
        if color is not None and len(self.sure(phrases[0])) > 1:
            phrases.append(Phrase((('color', color), ('name', obj.noun))))
        return phrases

    def _color(self, obj: PhotoObject) -> str | None:
        if not obj.shares or obj.noun in COLORLESS:
            return None
        color = max(obj.shares, key=lambda name: obj.shares[name])
        if obj.shares[color] < self.rules.min_share or color in ('gray', obj.noun):
            return None
        return None if obj.noun in CLOTHED and color not in CLOTHES else color

    def sure(self, phrase: Phrase) -> list[int]:
        """Return the objects that a phrase fits."""
        color = phrase.get('color')
        return [
            i
            for i, obj in enumerate(self.objects)
            if obj.noun == phrase.get('name') and (color is None or self._color(obj) == color)
        ]

    def possible(self, phrase: Phrase) -> list[int]:
        """Return the objects that a phrase may fit."""
        color = phrase.get('color')
        nouns = similar_nouns(phrase.get('name') or '', self.rules.similar)
        return [
            i
            for i, obj in enumerate(self.objects)
            if obj.noun in nouns and (color is None or _may_be(obj, color))
        ]

    def ordered(self, index: int, phrase: Phrase) -> Iterator[Description]:
        """Yield descriptions by the place among all that a phrase may fit."""
        possible, sure = self.possible(phrase), self.sure(phrase)
        if len(sure) < 2:
            return  # 'the leftmost cup' sounds as if there were others
        is_sure = possible == sure
        of_two = len(possible) == 2 and is_sure
        for direction in DIRECTIONS:
            if self.objects[index].noun in UNSTACKED and direction in ('above', 'below'):
                continue
            if self._is_outermost(index, possible, direction):
                rank = (direction, 1)
                yield Description(phrase, 'position', rank=rank, of_two=of_two)
        if not is_sure or not 3 <= len(possible) <= self.rules.max_counted:
            return
        heights = [self.objects[i].center[1] / self.photo.height for i in possible]
        least = max(
            self.rules.min_area * self.photo.width * self.photo.height,
            0.25 * self.objects[index].area,
        )
        if (
            max(heights) - min(heights) > 0.25
            or min(self.objects[i].area for i in possible) < least
        ):
            return  # no row, or something that not everybody would count
        row, _ = self._row(possible, 'left')
        pairs = itertools.pairwise(self.objects[i] for i in row)
        if any(overlap(a, b, 0) > 0.4 for a, b in pairs):
            return
        if len(possible) == 3:
            row, gaps = self._row(possible, 'left')
            if row[1] == index and min(gaps) >= GAP[0]:
                yield Description(phrase, 'position', rank=('middle', 0))
        for direction in ('left', 'right'):
            row, gaps = self._row(possible, direction)
            place = row.index(index) + 1
            if place in (2, 3) and place < len(row) and min(gaps[:place]) >= ORDINAL_GAP:
                yield Description(phrase, 'position', rank=(direction, place))

    def _row(self, indices: list[int], direction: str) -> tuple[list[int], list[float]]:
        """Return objects in their order from a side, and the gaps between them, relative."""
        axis, sign = DIRECTIONS[direction]
        places = {i: -sign * self.objects[i].center[axis] / self.sides[axis] for i in indices}
        row = sorted(indices, key=lambda i: places[i])
        return row, [places[b] - places[a] for a, b in itertools.pairwise(row)]

    def _is_outermost(self, index: int, possible: list[int], direction: str) -> bool:
        axis, sign = DIRECTIONS[direction]
        row, gaps = self._row(possible, direction)
        if row[0] != index or gaps[0] < GAP[axis]:
            return False
        target = self.objects[index]
        edge = axis if sign < 0 else axis + 2
        for i in row[1:]:
            other = self.objects[i]
            if (other.box[edge] - target.box[edge]) * sign > 0:
                return False
            across, along = offset(target, other, 1 - axis), offset(target, other, axis)
            if axis == 1 and abs(along) < 1.2 * abs(across):
                return False  # rather left or right than up or down
            if len(row) == 2 and overlap(target, other, axis) > 0.4:
                return False
        return True

    def sized(self, index: int, phrase: Phrase) -> Iterator[Description]:
        """Yield the description as the largest or the smallest of all that a phrase fits."""
        possible = self.possible(phrase)
        target = self.objects[index]
        if (
            possible != self.sure(phrase)
            or len(possible) > self.rules.max_counted
            or target.noun in UNSIZED
        ):
            return
        if not all(eligible(self.photo, i, self.rules) for i in possible):
            return
        of_two = len(possible) == 2
        others = [self.objects[i] for i in possible if i != index]
        if all(_is_larger(target, other) for other in others):
            yield Description(phrase, 'size', size='large', of_two=of_two)
        if all(_is_larger(other, target) for other in others) and not self._is_cut(target):
            yield Description(phrase, 'size', size='small', of_two=of_two)

    def _is_cut(self, obj: PhotoObject) -> bool:
        """Return whether an object ends at the border of the image."""
        x1, y1, x2, y2 = obj.box
        near = 0.01
        w, h = self.sides
        return x1 < near * w or y1 < near * h or x2 > (1 - near) * w or y2 > (1 - near) * h

    def related(self, index: int, phrase: Phrase) -> Iterator[Description]:
        """Yield descriptions by an object beside the target that a phrase describes."""
        rivals = [self.objects[i] for i in self.possible(phrase) if i != index]
        target = self.objects[index]
        if self._is_carried(target):
            return
        for i, anchor in enumerate(self.objects):
            if i == index or not self._is_landmark(i, target):
                continue
            unique = [each for each in self.phrases(i) if self.possible(each) == [i]]
            found = [
                side
                for side in ('left', 'right')
                if self._is_at_side(target, anchor, side)
                and all(self._is_at_other_side(rival, anchor, side) for rival in rivals)
            ]
            if self._is_beside(target, anchor) and all(
                rival is anchor or self._is_far(rival, anchor) for rival in rivals
            ):
                found.append('beside')
            for relation, other in itertools.product(found, unique):
                yield Description(phrase, 'relation', relation=(relation, other))

    def _is_landmark(self, index: int, target: PhotoObject) -> bool:
        """Return whether people would name an object to say where another one is."""
        anchor = self.objects[index]
        return (
            eligible(self.photo, index, self.rules)
            and anchor.area > 0.3 * target.area
            and not self._is_carried(anchor)
            and not (
                self._is_cut(anchor) and anchor.area < 0.05 * self.photo.width * self.photo.height
            )
        )

    def _is_carried(self, obj: PhotoObject) -> bool:
        """Return whether an object is at a person, and so not on the ground beside others."""
        return any(
            other.noun in CLOTHED
            and other is not obj
            and other.area > obj.area
            and covered(obj, other) > 0.4
            for other in self.objects
        )

    def sided(self, index: int, phrase: Phrase) -> Iterator[Description]:
        """Yield the description by the half of the image, which all other ones are not in."""
        half, w = self.photo.width / 2, self.photo.width
        boxes = {i: self.objects[i].box for i in self.possible(phrase)}
        others = [box for i, box in boxes.items() if i != index]
        if boxes[index][2] < 0.9 * half and all(box[0] > half for box in others):
            yield Description(phrase, 'position', side='left')
        if boxes[index][0] > w - 0.9 * half and all(box[2] < half for box in others):
            yield Description(phrase, 'position', side='right')

    def _is_at_side(self, target: PhotoObject, anchor: PhotoObject, side: str) -> bool:
        sign = DIRECTIONS[side][1]
        dx, dy = offset(anchor, target, 0), offset(anchor, target, 1)
        return (
            dx * sign >= 0.1 * self.photo.width
            and abs(dx) > 1.5 * abs(dy)
            and overlap(target, anchor, 0) < 0.2
            and overlap(target, anchor, 1) > 0.3
            and gap(target, anchor) < 0.3 * self.photo.width
        )

    def _is_at_other_side(self, rival: PhotoObject, anchor: PhotoObject, side: str) -> bool:
        if rival is anchor:
            return True
        sign = DIRECTIONS[side][1]
        return offset(anchor, rival, 0) * sign < -COUNTER_MARGIN * self.photo.width

    def _is_beside(self, target: PhotoObject, anchor: PhotoObject) -> bool:
        heights = sorted(o.box[3] - o.box[1] for o in (target, anchor))
        return (
            overlap(target, anchor, 0) < 0.15
            and overlap(target, anchor, 1) > 0.5
            and gap(target, anchor) < 0.06 * self.photo.width
            and abs(target.box[3] - anchor.box[3]) < 0.12 * self.photo.height
            and heights[1] < 4 * heights[0]
        )

    def _is_far(self, rival: PhotoObject, anchor: PhotoObject) -> bool:
        return gap(rival, anchor) > 0.2 * max(self.sides)


def _may_be(obj: PhotoObject, color: str) -> bool:
    """Return whether somebody may say that an object has a color."""
    share = sum(obj.shares.get(name, 0.0) for name in (color, *NEIGHBORS[color]))
    return not obj.shares or share > 0.25


def _is_larger(a: PhotoObject, b: PhotoObject) -> bool:
    """Return whether one box is clearly larger than another, in both directions."""
    sides = ((a.box[axis + 2] - a.box[axis], b.box[axis + 2] - b.box[axis]) for axis in (0, 1))
    return a.area >= SIZE_RATIO * b.area and all(ours > 1.1 * theirs for ours, theirs in sides)
