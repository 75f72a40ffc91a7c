"""Generate sentences that refer to one object of a scene.

In the following definitions, W is the side of the image, and positions are the centers of the
objects' boxes:

- *Attribute words* name shape, color and texture, or what else an object is known as; *size words*
  name one of two size bands.
- *Position words* order the objects that match the rest of the phrase along one axis ('leftmost',
  'second from the left', 'highest'). Neighbors in this order are at least 0.06 W apart wherever the
  answer depends on their order, and an outermost object is also outermost by the edge of its box.
- *Relation words* compare two objects along the dominant axis: A is left of B if the center of A is
  to the left of B's by at least 0.08 W and by at least their vertical distance (right, above and
  below are defined alike). An object that matches the rest of the phrase but is not the target must
  contradict even the weakest reading: its center is at least 0.02 W on the *other* side.

Every sentence fits exactly one object, whatever the unknown properties of the others are. Its kind
is the strongest type of words that it needs: without these words, it would fit more than one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from .scene import Described, SceneSentence, pick, shuffled
from .wording import (
    SHAPE_WORDS,
    TEXTURE_WORDS,
    Fields,
    Phrase,
    Vocabulary,
    agrees,
    noun_phrase,
    texture_word,
)

KINDS = ('attribute', 'size', 'position', 'relation')
ORDER_GAP = 0.06
RELATION_MARGIN = 0.08
COUNTER_MARGIN = 0.02

# Direction: axis of the center (0 is x), and the sign that makes larger numbers mean 'more' of it.
DIRECTIONS = {'left': (0, -1), 'right': (0, 1), 'above': (1, -1), 'below': (1, 1)}


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


def resolve(expression: Expression, objects: Sequence[Described]) -> list[int]:
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
    rng: np.random.Generator,
    objects: Sequence[Described],
    image_size: int,
    vocabulary: Vocabulary = SHAPE_WORDS,
) -> tuple[SceneSentence, ...] | None:
    """Generate four to six sentences of all kinds about at least two objects.

    Args:
        rng: Chooses the sentences and their words.
        objects: The objects of the scene.
        image_size: Side of the image in pixels.
        vocabulary: The words of this kind of scene.

    Returns:
        The sentences, or None if the scene does not allow enough of them.
    """
    proposer = _Proposer(rng, objects, image_size, vocabulary)
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
        text = say(rng, expression, objects, vocabulary)
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
        self,
        rng: np.random.Generator,
        objects: Sequence[Described],
        image_size: int,
        vocabulary: Vocabulary,
    ) -> None:
        self.rng = rng
        self.objects = objects
        self.vocabulary = vocabulary
        self.centers = [tuple(c / image_size for c in obj.center) for obj in objects]
        self.edges = [tuple(e / image_size for e in obj.box) for obj in objects]
        # Of each object and field, the objects that share its word, and those that may.
        self.sharing: list[dict[str, int]] = []
        self.possible: list[dict[str, int]] = []
        for obj in objects:
            known = {f: obj.value(f) for f in vocabulary.fields}
            words = {f: word for f, word in known.items() if word is not None}
            sure = {f: _bits(agrees(w, o.value(f)) for o in objects) for f, w in words.items()}
            unknown = {f: _bits(o.value(f) is None for o in objects) for f in words}
            self.sharing.append(sure)
            self.possible.append({f: sure[f] | unknown[f] for f in words})

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
        fields = self._some_fields(target, (0.30, 0.52, 0.18))
        if self._fitting(target, fields) != 1 << target:
            return None
        # With several words, no single one may identify the target.
        if len(fields) > 1 and any(self.sharing[target][f] == 1 << target for f in fields):
            return None
        return Expression('attribute', self._phrase(target, fields))

    def _size(self, target: int) -> Expression | None:
        fields = self._some_fields(target, (0.55, 0.4, 0.05))
        rest = self._fitting(target, fields)
        if rest == 1 << target or rest & self.sharing[target]['size'] != 1 << target:
            return None
        return Expression('size', self._phrase(target, ('size', *fields)))

    def _position(self, target: int) -> Expression | None:
        fields = self._some_fields(target, (0.68, 0.28, 0.04))
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
        fields = self._some_fields(target, (0.62, 0.33, 0.05))
        if self.rng.random() < 0.2:
            fields = ('size', *fields)
        rest = self._fitting(target, fields)
        anchor = int(self.rng.random() * len(self.objects))
        others = self._indices(rest & ~(1 << target) & ~(1 << anchor))
        if anchor == target or not others:
            return None
        anchor_fields = self._some_fields(anchor, (0.4, 0.5, 0.1))
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

    def _some_fields(self, target: int, shares: tuple[float, float, float]) -> Fields:
        return self.vocabulary.choose(self.rng, self.objects[target], shares)

    def _fitting(self, target: int, fields: Fields) -> int:
        """Return the objects that share these words, or none if it is unknown which do."""
        fitting = possible = (1 << len(self.objects)) - 1
        for field in fields:
            fitting &= self.sharing[target][field]
            possible &= self.possible[target][field]
        return fitting if fitting == possible else 0

    def _indices(self, bits: int) -> list[int]:
        return [i for i in range(len(self.objects)) if bits >> i & 1]

    def _phrase(self, target: int, fields: Fields) -> Phrase:
        return Phrase.of(self.objects[target], fields)


def _bits(flags: Iterable[bool]) -> int:
    return sum(1 << i for i, flag in enumerate(flags) if flag)


_COMPARATIVES = {'small': ('smaller',), 'large': ('larger', 'bigger')}
_SUPERLATIVES = {'small': ('smallest',), 'large': ('largest', 'biggest')}
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


def say(
    rng: np.random.Generator,
    expression: Expression,
    objects: Sequence[Described],
    vocabulary: Vocabulary = SHAPE_WORDS,
) -> str:
    """Express an expression in words."""
    words = partial(noun_phrase, rng, vocabulary=vocabulary)
    phrase = expression.phrase
    if expression.rank is not None:
        direction, place = expression.rank
        if place > 1:
            return f'the {_ORDINALS[place]} {words(phrase, tails=False)} from the {direction}'
        templates: tuple[str, ...] = _OUTERMOST[direction]
        if sum(phrase.fits(obj) for obj in objects) == 2:
            templates += _OUTER_OF_TWO[direction]
        return pick(rng, templates).format(words(phrase, tails=False))

    nouns, noun_field = vocabulary.nouns[:3], vocabulary.noun
    if expression.relation is not None:
        direction, anchor = expression.relation
        # In 'the square right of the blue one', 'one' may mean a square or any shape. Either way it
        # is unique, because the color alone is.
        noun = None
        if anchor.get(noun_field) is None and phrase.get(noun_field) is not None:
            index = resolve(Expression('attribute', anchor), objects)[0]
            same = objects[index].value(noun_field) == phrase.get(noun_field)
            noun = 'one' if same else pick(rng, nouns)
        first = words(phrase, noun=pick(rng, nouns))
        second = words(anchor, noun=noun or pick(rng, nouns))
        return f'the {first} {pick(rng, _RELATION_WORDS[direction])} the {second}'

    size = phrase.get('size')
    if expression.kind == 'size' and size is not None:
        rivals = sum(phrase.without('size').fits(obj) for obj in objects)
        compared = _COMPARATIVES if rivals == 2 else _SUPERLATIVES
        word = pick(rng, compared[size]) if rng.random() < 0.4 else None
        return f'the {words(phrase, size_word=word)}'
    return _say_attributes(rng, phrase, words, noun_field)


def _say_attributes(
    rng: np.random.Generator, phrase: Phrase, words: Callable[[Phrase], str], noun_field: str
) -> str:
    # Color or texture after the noun: 'the star that is red', 'the shape that is striped'.
    texture, color = phrase.get('texture'), phrase.get('color')
    others = {field for field, _ in phrase.words} - {'texture', 'color', noun_field}
    if color is not None and not others and rng.random() < 0.15:
        after = color
        if texture is not None:
            known = texture in TEXTURE_WORDS
            after = f'{texture_word(rng, texture) if known else texture} and {color}'
        return f'the {words(phrase.without("texture").without("color"))} that is {after}'
    text = words(phrase)
    draw = rng.random()
    if draw < 0.1:
        return ('an ' if text[0] in 'aeiou' and not text.startswith('one') else 'a ') + text
    if draw < 0.2 and not text.startswith('one'):
        return text
    return f'the {text}'
