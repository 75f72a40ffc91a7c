"""Generate five captions that describe a whole image, each mentioning different aspects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from .language import DIRECTIONS, RELATION_MARGIN
from .scene import Described, pick, shuffled
from .wording import SHAPE_WORDS, Phrase, Vocabulary, noun_phrase

_NUMBERS = ('no', 'one', 'two', 'three', 'four', 'five', 'six', 'seven')
_PLURALS = {
    'deer': 'deer', 'fish': 'fish', 'fly': 'flies', 'foot': 'feet', 'goose': 'geese',
    'knife': 'knives', 'leaf': 'leaves', 'loaf': 'loaves', 'man': 'men', 'mouse': 'mice',
    'ox': 'oxen', 'person': 'people', 'scissors': 'scissors', 'sheep': 'sheep',
    'shelf': 'shelves', 'tooth': 'teeth', 'wolf': 'wolves', 'woman': 'women',
}  # fmt: skip
_WHERE = {
    'left': ('to the left of', 'left of'),
    'right': ('to the right of', 'right of'),
    'above': ('above',),
    'below': ('below', 'under'),
}


def make_captions(
    rng: np.random.Generator,
    objects: Sequence[Described],
    image_size: int,
    background: str | None,
    vocabulary: Vocabulary = SHAPE_WORDS,
) -> tuple[str, ...] | None:
    """Generate five true captions of a scene.

    In random order, they list the objects by class and main properties, spatial relations (twice,
    for different pairs), full descriptions of some objects, and places in the image with the number
    of objects by size.

    Args:
        rng: Chooses what is mentioned.
        objects: The objects of the scene.
        image_size: Side of the image in pixels.
        background: Tone of the background, or None if there is no word for it.
        vocabulary: The words of this kind of scene.

    Returns:
        The captions, or None if there are no two pairs of objects clearly beside each other.
    """
    captions = [
        _inventory(rng, objects, background, vocabulary),
        _listing(rng, objects, vocabulary),
        _places(rng, objects, image_size, vocabulary),
    ]
    links = _links(objects, image_size)
    if len({frozenset((i, j)) for i, _, j in links}) < 2:
        return None
    captions += _relations(rng, objects, links, vocabulary)
    return tuple(shuffled(rng, captions))


def plural(noun: str) -> str:
    """Return the plural of an English noun, which may have several words."""
    *before, last = noun.split(' ')
    if last in _PLURALS:
        last = _PLURALS[last]
    elif last.endswith(('s', 'x', 'z', 'ch', 'sh')):
        last += 'es'
    elif last.endswith('y') and last[-2:-1] not in tuple('aeiou'):
        last = f'{last[:-1]}ies'
    else:
        last += 's'
    return ' '.join((*before, last))


def _article(words: str) -> str:
    return ('an ' if words[0] in 'aeiou' else 'a ') + words


def _join(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ', '.join(parts[:-1]) + ' and ' + parts[-1]


def _counted(count: int, words: str, noun: str) -> str:
    """Return a phrase like 'a red star' or 'two red stars'."""
    words = f'{words} ' if words else ''
    if count == 1:
        return _article(words + noun)
    return f'{_NUMBERS[count]} {words}{plural(noun)}'


def _words(obj: Described, fields: Sequence[str]) -> tuple[str, ...]:
    """Return the known words of these fields."""
    values = (obj.value(field) for field in fields)
    return tuple(value for value in values if value is not None)


def _describe(rng: np.random.Generator, obj: Described, keep: float, vocabulary: Vocabulary) -> str:
    """Describe an object with article, noun and main adjectives, and maybe size and others.

    Size and other adjectives are each mentioned with probability `keep`.
    """
    always = (*vocabulary.listed, vocabulary.noun)
    fields = [f for f in vocabulary.fields if f in always or rng.random() < keep]
    known = tuple(f for f in fields if obj.value(f) is not None)
    return _article(noun_phrase(rng, Phrase.of(obj, known), vocabulary))


def _inventory(
    rng: np.random.Generator,
    objects: Sequence[Described],
    background: str | None,
    vocabulary: Vocabulary,
) -> str:
    """Return a phrase like 'three circles and a red star on a dark background'."""
    groups = Counter((obj.category, *_words(obj, vocabulary.listed)) for obj in objects)
    nouns = shuffled(rng, sorted({obj.category for obj in objects}))
    ordered = sorted(groups.items(), key=lambda group: nouns.index(group[0][0]))
    parts = [_counted(count, ' '.join(words), noun) for (noun, *words), count in ordered]
    return _join(parts) + (f' on a {background} background' if background else '')


def _listing(rng: np.random.Generator, objects: Sequence[Described], vocabulary: Vocabulary) -> str:
    """Describe some objects in full and count all of them.

    Example: 'a large striped red circle and two small plain blue hearts among five shapes'.
    """
    count = min(len(objects), 3 + int(rng.random() < 0.4))
    chosen = shuffled(rng, objects)[:count]
    alike = Counter((_words(o, vocabulary.fields[:-1]), o.category) for o in chosen)
    parts = [_counted(n, ' '.join(words), noun) for (words, noun), n in alike.items()]
    start = pick(rng, ('', 'an image with ', 'we see '))
    total = f'{_NUMBERS[len(objects)]} {vocabulary.plural}'
    end = f' among {total}' if count < len(objects) else ''
    return start + _join(parts) + end


def _places(
    rng: np.random.Generator,
    objects: Sequence[Described],
    image_size: int,
    vocabulary: Vocabulary,
) -> str:
    """Describe where some objects are in the image.

    Example: 'five shapes, two of them large, with a red star at the top and a blue heart on the
    left'.
    """
    large = sum(obj.size == 'large' for obj in objects)
    total = _NUMBERS[len(objects)]
    if large == 0:
        start = f'{total} small {vocabulary.plural}'
    elif large == len(objects):
        start = f'{total} large {vocabulary.plural}'
    else:
        start = f'{total} {vocabulary.plural}, {_NUMBERS[large]} of them large'
    spots = [(_place(obj, image_size), obj) for obj in shuffled(rng, objects)]
    parts = [f'{_describe(rng, obj, 0.4, vocabulary)} {place}' for place, obj in spots if place]
    if parts:
        start += f', with {_join(parts[:2])}'
    return pick(rng, ('there are ', '', '')) + start


def _place(obj: Described, image_size: int) -> str | None:
    """Return the words for an object's place in the image, or None if none fits well."""
    x, y = (c / image_size for c in obj.center)
    column = 'left' if x < 0.33 else 'right' if x > 0.67 else 'middle'
    row = 'top' if y < 0.33 else 'bottom' if y > 0.67 else 'middle'
    if column == row:
        return 'in the middle'
    if 'middle' not in (column, row):
        return f'in the {row} {column} corner'
    return f'at the {row}' if column == 'middle' else f'on the {column}'


def _links(objects: Sequence[Described], image_size: int) -> list[tuple[int, str, int]]:
    """Return all pairs of objects that are clearly beside each other, with the direction."""
    margin = RELATION_MARGIN * image_size
    links: list[tuple[int, str, int]] = []
    for i, a in enumerate(objects):
        for j, b in enumerate(objects):
            if i == j:
                continue
            offset = [a.center[k] - b.center[k] for k in (0, 1)]
            for direction, (axis, sign) in DIRECTIONS.items():
                step = offset[axis] * sign
                if step >= margin and step >= abs(offset[1 - axis]):
                    links.append((i, direction, j))
    return links


def _relations(
    rng: np.random.Generator,
    objects: Sequence[Described],
    links: list[tuple[int, str, int]],
    vocabulary: Vocabulary,
) -> list[str]:
    """Return two captions, each relating an object to one or two others."""
    links = shuffled(rng, links)
    templates: tuple[Callable[[str, str, str], str], ...] = (
        lambda a, where, b: f'{a} is {where} {b}',
        lambda a, where, b: f'{a} {where} {b}',
        lambda a, where, b: f'there is {a} {where} {b}',
    )
    captions = []
    used: set[int] = set()
    for _ in range(2):
        # Start the second caption from another object.
        i, direction, j = next((k for k in links if k[0] not in used), links[0])
        used.add(i)
        where, template = pick(rng, _WHERE[direction]), pick(rng, templates)
        first, second = (_describe(rng, objects[k], 0.7, vocabulary) for k in (i, j))
        text = template(first, where, second)
        more = [k for k in links if k[0] == i and k[2] != j]
        if more:
            _, direction, j = pick(rng, more)
            where = pick(rng, _WHERE[direction])
            text += f' and {where} {_describe(rng, objects[j], 0.5, vocabulary)}'
        captions.append(text)
        links = [k for k in links if {k[0], k[2]} != {i, j}]
    return captions
