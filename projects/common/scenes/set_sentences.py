"""Generate sentences that refer to no object of a scene or to several.

A sentence about several objects names all of them by common properties, in the plural ('the red
stars', 'both circles'). A sentence about none is worded like one about an object of the scene, but
one of its words is wrong ('the green star', where the stars are red and a circle is green), or it
relates an object to one that is not there or is on another side. Every sentence is checked by
brute force against :func:`resolve`, and what is related is on another side even in the weakest
reading (see :mod:`.language`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from .captions import plural
from .language import (
    COUNTER_MARGIN,
    DIRECTIONS,
    KINDS,
    RELATION_MARGIN,
    Expression,
    resolve,
    say,
)
from .scene import COLORS, SHAPES, SIZES, TEXTURES, SceneObject, SetSentence, pick
from .wording import SHAPE_WORDS, Phrase, noun_phrase

__all__ = ['SET_KINDS', 'make_set_sentences']

SET_KINDS = (*KINDS, 'several', 'none')
_VALUES = {'size': SIZES, 'texture': TEXTURES, 'color': COLORS, 'shape': SHAPES}
_NUMBERS = {2: 'two', 3: 'three', 4: 'four', 5: 'five', 6: 'six', 7: 'seven'}
_TRIES = 40


def make_set_sentences(
    rng: np.random.Generator, objects: Sequence[SceneObject], image_size: int, each: int = 2
) -> tuple[SetSentence, ...]:
    """Generate sentences about several objects and about none.

    Args:
        rng: Chooses the sentences and their words.
        objects: The objects of the scene.
        image_size: Side of the image in pixels.
        each: Most sentences of either kind. A scene may allow fewer.
    """
    sentences: dict[str, SetSentence] = {}
    for make in (_several, partial(_none, image_size=image_size)):
        made = 0
        for _ in range(_TRIES):
            found = make(rng, objects)
            if found is None or found.text in sentences:
                continue
            sentences[found.text] = found
            made += 1
            if made == each:
                break
    return tuple(sentences.values())


def _several(rng: np.random.Generator, objects: Sequence[SceneObject]) -> SetSentence | None:
    obj = pick(rng, objects)
    phrase = Phrase.of(obj, _fields(rng, obj))
    targets = tuple(resolve(Expression('attribute', phrase), objects))
    if not 2 <= len(targets) < len(objects):
        return None
    nouns = [plural(noun) for noun in SHAPE_WORDS.nouns]
    shape = phrase.get('shape')
    noun = pick(rng, nouns) if shape is None else plural(shape)
    words = noun_phrase(rng, phrase.without('shape'), SHAPE_WORDS, noun=noun)
    count = len(targets)
    forms = ['the {}', 'the {}', 'all {}', 'all the {}', f'the {_NUMBERS[count]} {{}}']
    if count == 2:
        forms += ['both {}', 'both of the {}']
    return SetSentence(pick(rng, forms).format(words), 'several', targets)


def _none(
    rng: np.random.Generator, objects: Sequence[SceneObject], image_size: int
) -> SetSentence | None:
    make: Callable = _wrong_word if rng.random() < 0.6 else _wrong_relation
    expression = make(rng, objects, image_size)
    if expression is None or resolve(expression, objects):
        return None
    return SetSentence(say(rng, expression, objects), 'none', ())


def _wrong_word(
    rng: np.random.Generator, objects: Sequence[SceneObject], image_size: int
) -> Expression:
    return Expression('attribute', _falsified(rng, pick(rng, objects)))


def _wrong_relation(
    rng: np.random.Generator, objects: Sequence[SceneObject], image_size: int
) -> Expression | None:
    """Relate what is there to an object that is not there, or that is on another side of it."""
    first, second = (objects[i] for i in rng.permutation(len(objects))[:2])
    direction = pick(rng, tuple(DIRECTIONS))
    phrase = Phrase.of(first, _fields(rng, first))
    if rng.random() < 0.4:
        return Expression('relation', phrase, relation=(direction, _absent(rng, second, objects)))
    anchor = Phrase.of(second, _fields(rng, second))
    anchors = resolve(Expression('attribute', anchor), objects)
    if len(anchors) != 1:
        return None
    axis, sign = DIRECTIONS[direction]
    at = [obj.center[axis] * sign / image_size for obj in objects]
    fitting = resolve(Expression('attribute', phrase), objects)
    steps = [at[i] - at[anchors[0]] for i in fitting if i != anchors[0]]
    # All that the phrase fits are clearly elsewhere, and at least one is on the opposite side.
    if not steps or max(steps) > -COUNTER_MARGIN or min(steps) > -RELATION_MARGIN:
        return None
    return Expression('relation', phrase, relation=(direction, anchor))


def _absent(rng: np.random.Generator, obj: SceneObject, objects: Sequence[SceneObject]) -> Phrase:
    """Return a phrase with a noun that fits no object."""
    phrase = _falsified(rng, obj)
    while phrase.get('shape') is None or resolve(Expression('attribute', phrase), objects):
        phrase = _falsified(rng, pick(rng, objects))
    return phrase


def _falsified(rng: np.random.Generator, obj: SceneObject) -> Phrase:
    """Return a phrase for an object in which one word is replaced by another of its kind."""
    phrase = Phrase.of(obj, _fields(rng, obj))
    wrong = pick(rng, phrase.words)[0]
    other = pick(rng, [value for value in _VALUES[wrong] if value != phrase.get(wrong)])
    return Phrase(tuple((f, other if f == wrong else word) for f, word in phrase.words))


def _fields(rng: np.random.Generator, obj: SceneObject) -> tuple[str, ...]:
    """Choose the properties to mention, in the order of their words."""
    fields = SHAPE_WORDS.choose(rng, obj, (0.3, 0.55, 0.15))
    return ('size', *fields) if rng.random() < 0.15 else fields
