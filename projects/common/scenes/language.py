"""Generate sentences that refer to one object of a scene.

In the following definitions, W is the side of the image, and positions are the centers of the
objects' boxes:

- *Attribute words* name shape, color and texture; *size words* name one of two size bands.
- *Position words* order the objects that match the rest of the phrase along one axis ('leftmost',
  'second from the left', 'highest'). Neighbors in this order are at least 0.06 W apart wherever the
  answer depends on their order, and an outermost object is also outermost by the edge of its box.
- *Relation words* compare two objects along the dominant axis: A is left of B if the center of A is
  to the left of B's by at least 0.08 W and by at least their vertical distance (right, above and
  below are defined alike). An object that matches the rest of the phrase but is not the target must
  contradict even the weakest reading: its center is at least 0.02 W on the *other* side.

Every sentence fits exactly one object. Its kind is the strongest type of words that it needs:
without these words, it would fit more than one object.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .scene import SceneObject, SceneSentence, pick, shuffled

KINDS = ('attribute', 'size', 'position', 'relation')
ORDER_GAP = 0.06
RELATION_MARGIN = 0.08
COUNTER_MARGIN = 0.02

# Direction: axis of the center (0 is x), and the sign that makes larger numbers mean 'more' of it.
DIRECTIONS = {'left': (0, -1), 'right': (0, 1), 'above': (1, -1), 'below': (1, 1)}
_FIELDS = ('size', 'texture', 'color', 'shape')
_PAIRS = (('color', 'shape'), ('color', 'shape'), ('texture', 'shape'), ('texture', 'color'))


@dataclass(frozen=True)
class Phrase:
    """Represent the properties that a phrase mentions; those not mentioned are None."""

    size: str | None = None
    texture: str | None = None
    color: str | None = None
    shape: str | None = None

    def fits(self, obj: SceneObject) -> bool:
        """Return whether the object has all the properties mentioned."""
        return all(getattr(self, f) in (None, getattr(obj, f)) for f in _FIELDS)


@dataclass(frozen=True)
class Expression:
    """Represent the logical form of a sentence.

    Attributes:
        rank: Direction and place, where 1 is the outermost ('left', 2: second from the left).
        relation: Direction and the phrase of the anchor object.
    """

    kind: str
    phrase: Phrase
    rank: tuple[str, int] | None = None
    relation: tuple[str, Phrase] | None = None


def resolve(expression: Expression, objects: Sequence[SceneObject]) -> list[int]:
    """Return the indices of all objects that an expression fits, by brute force.

    Directions are read in the weakest sense: any offset counts.
    """
    found = [i for i, obj in enumerate(objects) if expression.phrase.fits(obj)]
    if expression.relation is not None:
        direction, anchor = expression.relation
        axis, sign = DIRECTIONS[direction]
        anchors = [obj for obj in objects if anchor.fits(obj)]
        found = [
            i
            for i in found
            if any((objects[i].center[axis] - a.center[axis]) * sign > 0 for a in anchors)
        ]
    if expression.rank is not None:
        direction, place = expression.rank
        axis, sign = DIRECTIONS[direction]
        found.sort(key=lambda i: -sign * objects[i].center[axis])
        found = found[place - 1 : place]
    return found


def make_sentences(
    rng: np.random.Generator, objects: Sequence[SceneObject], image_size: int
) -> tuple[SceneSentence, ...] | None:
    """Generate four to six sentences of all kinds about at least two objects.

    Returns:
        The sentences, or None if the scene does not allow enough of them.
    """
    proposer = _Proposer(rng, objects, image_size)
    wanted = int(rng.integers(4, 7))
    # If a scene has no sentence of one kind, use more of the others.
    kinds = shuffled(rng, KINDS) + shuffled(rng, KINDS)
    sentences: list[SceneSentence] = []
    described = [0] * len(objects)
    for kind in kinds:
        if len(sentences) == wanted:
            break
        made = proposer.propose(kind, described)
        if made is None:
            continue
        expression, target = made
        if resolve(expression, objects) != [target]:
            raise RuntimeError(f'ambiguous expression {expression}')
        text = say(rng, expression, objects)
        if any(text == s.text for s in sentences):
            continue
        described[target] += 1
        sentences.append(SceneSentence(text, kind, target))
    if len(sentences) < 4 or sum(d > 0 for d in described) < 2:
        return None
    if len({s.kind for s in sentences}) < 3:
        return None
    return tuple(sentences)


class _Proposer:
    """Search for expressions of a kind by random trials, with sets of objects as bit masks."""

    def __init__(
        self, rng: np.random.Generator, objects: Sequence[SceneObject], image_size: int
    ) -> None:
        self.rng = rng
        self.objects = objects
        self.centers = [tuple(c / image_size for c in obj.center) for obj in objects]
        self.edges = [tuple(e / image_size for e in obj.box) for obj in objects]
        self.sharing = [
            {f: _bits(getattr(o, f) == getattr(obj, f) for o in objects) for f in _FIELDS}
            for obj in objects
        ]

    def propose(self, kind: str, described: list[int]) -> tuple[Expression, int] | None:
        """Return an expression of this kind and its target, preferring undescribed objects."""
        make = getattr(self, f'_{kind}')
        targets = shuffled(self.rng, range(len(self.objects)))
        targets.sort(key=lambda i: described[i])
        # More parts of a relation must match by chance.
        tries = 24 if kind == 'relation' else 8
        for _ in range(2):
            for target in targets:
                for _ in range(tries):
                    expression = make(target)
                    if expression is not None:
                        return expression, target
        return None

    def _attribute(self, target: int) -> Expression | None:
        fields = self._some_fields((0.30, 0.52, 0.18))
        if self._fitting(target, fields) != 1 << target:
            return None
        # With several words, no single one may identify the target.
        if len(fields) > 1 and any(self.sharing[target][f] == 1 << target for f in fields):
            return None
        return Expression('attribute', self._phrase(target, fields))

    def _size(self, target: int) -> Expression | None:
        fields = self._some_fields((0.55, 0.4, 0.05))
        rest = self._fitting(target, fields)
        if rest == 1 << target or rest & self.sharing[target]['size'] != 1 << target:
            return None
        return Expression('size', self._phrase(target, ('size', *fields)))

    def _position(self, target: int) -> Expression | None:
        fields = self._some_fields((0.68, 0.28, 0.04))
        if self.rng.random() < 0.15:
            fields = ('size', *fields)
        rest = self._indices(self._fitting(target, fields))
        if len(rest) < 2:
            return None
        direction = pick(self.rng, tuple(DIRECTIONS))
        axis, sign = DIRECTIONS[direction]
        rest.sort(key=lambda i: -sign * self.centers[i][axis])
        place = rest.index(target) + 1
        if place > 1 and (place > 3 or place == len(rest) or axis == 1):
            return None
        steps = [self.centers[i][axis] * -sign for i in rest]
        gaps = [b - a for a, b in itertools.pairwise(steps)]
        if min(gaps[max(0, place - 2) : place]) < ORDER_GAP:
            return None
        if place == 1:
            edge = axis if sign < 0 else axis + 2
            own = self.edges[target][edge] * sign
            if any(self.edges[i][edge] * sign > own for i in rest[1:]):
                return None
        phrase = self._phrase(target, fields)
        return Expression('position', phrase, rank=(direction, place))

    def _relation(self, target: int) -> Expression | None:
        fields = self._some_fields((0.62, 0.33, 0.05))
        if self.rng.random() < 0.2:
            fields = ('size', *fields)
        rest = self._fitting(target, fields)
        anchor = int(self.rng.random() * len(self.objects))
        others = self._indices(rest & ~(1 << target) & ~(1 << anchor))
        if anchor == target or not others:
            return None
        anchor_fields = self._some_fields((0.4, 0.5, 0.1))
        if self.rng.random() < 0.2:
            anchor_fields = ('size', *anchor_fields)
        if self._fitting(anchor, anchor_fields) != 1 << anchor:
            return None
        dx = self.centers[target][0] - self.centers[anchor][0]
        dy = self.centers[target][1] - self.centers[anchor][1]
        if abs(dx) > abs(dy):
            direction, offset = ('left' if dx < 0 else 'right'), abs(dx)
        else:
            direction, offset = ('above' if dy < 0 else 'below'), abs(dy)
        if offset < RELATION_MARGIN:
            return None
        axis, sign = DIRECTIONS[direction]
        for i in others:
            if (self.centers[i][axis] - self.centers[anchor][axis]) * sign > -COUNTER_MARGIN:
                return None
        phrase = self._phrase(target, fields)
        return Expression(
            'relation', phrase, relation=(direction, self._phrase(anchor, anchor_fields))
        )

    def _some_fields(self, shares: tuple[float, float, float]) -> tuple[str, ...]:
        """Choose one, two or three of texture, color and shape with the given probabilities."""
        draw = self.rng.random()
        if draw < shares[0]:
            return (pick(self.rng, ('shape', 'shape', 'shape', 'color', 'color', 'texture')),)
        if draw < shares[0] + shares[1]:
            return pick(self.rng, _PAIRS)
        return ('texture', 'color', 'shape')

    def _fitting(self, target: int, fields: tuple[str, ...]) -> int:
        fitting = (1 << len(self.objects)) - 1
        for field in fields:
            fitting &= self.sharing[target][field]
        return fitting

    def _indices(self, bits: int) -> list[int]:
        return [i for i in range(len(self.objects)) if bits >> i & 1]

    def _phrase(self, target: int, fields: tuple[str, ...]) -> Phrase:
        return Phrase(**{f: getattr(self.objects[target], f) for f in fields})


def _bits(flags: Iterable[bool]) -> int:
    return sum(1 << i for i, flag in enumerate(flags) if flag)


# Wording. Repeated entries make a word more frequent.

_TEXTURE_WORDS = {
    'plain': ('plain', 'plain', 'solid'),
    'striped': ('striped',),
    'spotted': ('spotted', 'spotted', 'dotted'),
}
_TEXTURE_TAILS = {'striped': 'with stripes', 'spotted': 'with spots'}
_SIZE_WORDS = {'small': ('small', 'small', 'little'), 'large': ('large', 'large', 'big')}
_COMPARATIVES = {'small': ('smaller',), 'large': ('larger', 'bigger')}
_SUPERLATIVES = {'small': ('smallest',), 'large': ('largest', 'biggest')}
_NOUNS = ('shape', 'shape', 'object', 'one', 'thing')

_OUTERMOST = {
    'left': (
        'the leftmost {}',
        'the leftmost {}',
        'the {} on the far left',
        'the {} furthest to the left',
    ),
    'right': (
        'the rightmost {}',
        'the rightmost {}',
        'the {} on the far right',
        'the {} furthest to the right',
    ),
    'above': ('the top {}', 'the topmost {}', 'the highest {}', 'the {} at the top'),
    'below': ('the bottom {}', 'the lowest {}', 'the lowest {}', 'the {} at the bottom'),
}
_OUTER_OF_TWO = {
    'left': ('the left {}', 'the {} on the left'),
    'right': ('the right {}', 'the {} on the right'),
    'above': ('the upper {}', 'the higher {}'),
    'below': ('the lower {}',),
}
_ORDINALS = {2: 'second', 3: 'third'}
_RELATION_WORDS = {
    'left': ('left of', 'to the left of', 'on the left of', 'that is left of'),
    'right': ('right of', 'to the right of', 'on the right of', 'that is right of'),
    'above': ('above', 'above', 'higher than', 'that is above'),
    'below': ('below', 'below', 'under', 'lower than', 'that is below'),
}


def noun_phrase(
    rng: np.random.Generator,
    phrase: Phrase,
    size_word: str | None = None,
    noun: str | None = None,
    tails: bool = True,
) -> str:
    """Build a phrase without its article: 'small striped circle', 'circle with stripes'.

    Args:
        rng: Chooses among synonyms.
        phrase: The properties to mention.
        size_word: Replaces the word for the size ('larger').
        noun: Replaces the word for an unnamed shape.
        tails: Whether the texture may follow the noun.
    """
    words = []
    tail = ''
    if phrase.size is not None:
        words.append(size_word or pick(rng, _SIZE_WORDS[phrase.size]))
    adjectives = []
    if phrase.texture is not None:
        if tails and phrase.texture in _TEXTURE_TAILS and rng.random() < 0.2:
            tail = ' ' + _TEXTURE_TAILS[phrase.texture]
        else:
            adjectives.append(pick(rng, _TEXTURE_WORDS[phrase.texture]))
    if phrase.color is not None:
        adjectives.append(phrase.color)
    words += adjectives
    words.append(phrase.shape or noun or pick(rng, _NOUNS))
    return ' '.join(words) + tail


def say(rng: np.random.Generator, expression: Expression, objects: Sequence[SceneObject]) -> str:
    """Express an expression in words."""
    phrase = expression.phrase
    if expression.rank is not None:
        direction, place = expression.rank
        if place > 1:
            words = noun_phrase(rng, phrase, tails=False)
            return f'the {_ORDINALS[place]} {words} from the {direction}'
        templates: tuple[str, ...] = _OUTERMOST[direction]
        if sum(phrase.fits(obj) for obj in objects) == 2:
            templates += _OUTER_OF_TWO[direction]
        return pick(rng, templates).format(noun_phrase(rng, phrase, tails=False))

    if expression.relation is not None:
        direction, anchor = expression.relation
        # In 'the square right of the blue one', 'one' may mean a square or any shape. Either way it
        # is unique, because the color alone is.
        noun = None
        if anchor.shape is None and phrase.shape is not None:
            index = resolve(Expression('attribute', anchor), objects)[0]
            noun = 'one' if objects[index].shape == phrase.shape else pick(rng, _NOUNS[:3])
        first = noun_phrase(rng, phrase, noun=pick(rng, _NOUNS[:3]))
        second = noun_phrase(rng, anchor, noun=noun or pick(rng, _NOUNS[:3]))
        return f'the {first} {pick(rng, _RELATION_WORDS[direction])} the {second}'

    if expression.kind == 'size' and phrase.size is not None:
        rest = Phrase(None, phrase.texture, phrase.color, phrase.shape)
        rivals = sum(rest.fits(obj) for obj in objects)
        compared = _COMPARATIVES if rivals == 2 else _SUPERLATIVES
        word = pick(rng, compared[phrase.size]) if rng.random() < 0.4 else None
        return f'the {noun_phrase(rng, phrase, size_word=word)}'

    # Color or texture after the noun: 'the star that is red', 'the shape that is striped'.
    if phrase.color is not None and rng.random() < 0.15:
        rest = Phrase(None, None, None, phrase.shape)
        adjectives = phrase.color
        if phrase.texture is not None:
            adjectives = f'{pick(rng, _TEXTURE_WORDS[phrase.texture])} and {adjectives}'
        return f'the {noun_phrase(rng, rest)} that is {adjectives}'
    words = noun_phrase(rng, phrase)
    draw = rng.random()
    if draw < 0.1:
        return ('an ' if words[0] in 'aeiou' and not words.startswith('one') else 'a ') + words
    if draw < 0.2 and not words.startswith('one'):
        return words
    return f'the {words}'
