"""Generate five captions that describe a whole image, each mentioning different aspects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from .language import DIRECTIONS, RELATION_MARGIN, Phrase, noun_phrase
from .scene import SceneObject, pick, shuffled

_NUMBERS = ('no', 'one', 'two', 'three', 'four', 'five', 'six', 'seven')
_PLURALS = {'cross': 'crosses'}
_WHERE = {
    'left': ('to the left of', 'left of'),
    'right': ('to the right of', 'right of'),
    'above': ('above',),
    'below': ('below', 'under'),
}


def make_captions(
    rng: np.random.Generator, objects: Sequence[SceneObject], image_size: int, background: str
) -> tuple[str, ...]:
    """Generate five true captions of a scene.

    In random order, they describe the objects by shape and color, spatial relations (twice, for
    different pairs), full descriptions of some objects, and places in the image with the number of
    objects by size.
    """
    captions = [
        _inventory(rng, objects, background),
        _listing(rng, objects),
        _places(rng, objects, image_size),
        *_relations(rng, objects, image_size),
    ]
    return tuple(shuffled(rng, captions))


def _article(words: str) -> str:
    return ('an ' if words[0] in 'aeiou' else 'a ') + words


def _join(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ', '.join(parts[:-1]) + ' and ' + parts[-1]


def _counted(count: int, words: str, noun: str) -> str:
    """Return a phrase like 'a red star' or 'two red stars'."""
    if count == 1:
        return _article(f'{words} {noun}')
    return f'{_NUMBERS[count]} {words} {_PLURALS.get(noun, noun + "s")}'


def _describe(rng: np.random.Generator, obj: SceneObject, keep: float) -> str:
    """Describe an object with article, color and shape, and maybe size and texture.

    Size and texture are each mentioned with probability `keep`.
    """
    size = obj.size if rng.random() < keep else None
    texture = obj.texture if rng.random() < keep else None
    phrase = Phrase(size, texture, obj.color, obj.shape)
    return _article(noun_phrase(rng, phrase))


def _inventory(rng: np.random.Generator, objects: Sequence[SceneObject], background: str) -> str:
    """Return a phrase like 'three circles and a red star on a dark background'."""
    groups = Counter((obj.shape, obj.color) for obj in objects)
    shapes = shuffled(rng, sorted({obj.shape for obj in objects}))
    ordered = sorted(groups.items(), key=lambda group: shapes.index(group[0][0]))
    parts = [_counted(count, color, shape) for (shape, color), count in ordered]
    return f'{_join(parts)} on a {background} background'


def _listing(rng: np.random.Generator, objects: Sequence[SceneObject]) -> str:
    """Describe some objects in full and count all of them.

    Example: 'a large striped red circle and two small plain blue hearts among five shapes'.
    """
    count = min(len(objects), 3 + int(rng.random() < 0.4))
    alike = Counter((o.size, o.texture, o.color, o.shape) for o in shuffled(rng, objects)[:count])
    parts = [_counted(n, ' '.join(words[:3]), words[3]) for words, n in alike.items()]
    start = pick(rng, ('', 'an image with ', 'we see '))
    end = f' among {_NUMBERS[len(objects)]} shapes' if count < len(objects) else ''
    return start + _join(parts) + end


def _places(rng: np.random.Generator, objects: Sequence[SceneObject], image_size: int) -> str:
    """Describe where some objects are in the image.

    Example: 'five shapes, two of them large, with a red star at the top and a blue heart on the
    left'.
    """
    large = sum(obj.size == 'large' for obj in objects)
    total = _NUMBERS[len(objects)]
    if large == 0:
        start = f'{total} small shapes'
    elif large == len(objects):
        start = f'{total} large shapes'
    else:
        start = f'{total} shapes, {_NUMBERS[large]} of them large'
    spots = [(_place(obj, image_size), obj) for obj in shuffled(rng, objects)]
    parts = [f'{_describe(rng, obj, 0.4)} {place}' for place, obj in spots if place][:2]
    if parts:
        start += f', with {_join(parts)}'
    return pick(rng, ('there are ', '', '')) + start


def _place(obj: SceneObject, image_size: int) -> str | None:
    """Return the words for an object's place in the image, or None if none fits well."""
    x, y = (c / image_size for c in obj.center)
    column = 'left' if x < 0.33 else 'right' if x > 0.67 else 'middle'
    row = 'top' if y < 0.33 else 'bottom' if y > 0.67 else 'middle'
    if column == row:
        return 'in the middle'
    if 'middle' not in (column, row):
        return f'in the {row} {column} corner'
    return f'at the {row}' if column == 'middle' else f'on the {column}'


def _relations(
    rng: np.random.Generator, objects: Sequence[SceneObject], image_size: int
) -> list[str]:
    """Return two captions, each relating an object to one or two others."""
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
        where = pick(rng, _WHERE[direction])
        text = pick(rng, templates)(
            _describe(rng, objects[i], 0.7), where, _describe(rng, objects[j], 0.7)
        )
        more = [k for k in links if k[0] == i and k[2] != j]
        if more:
            _, direction, j = pick(rng, more)
            text += f' and {pick(rng, _WHERE[direction])} {_describe(rng, objects[j], 0.5)}'
        captions.append(text)
        links = [k for k in links if {k[0], k[2]} != {i, j}]
    return captions
