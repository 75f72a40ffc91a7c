"""Define the logical form of a description, and put it into words."""

from __future__ import annotations

from dataclasses import dataclass

from projects.common.scenes.wording import Phrase

__all__ = ['CLOTHED', 'Description', 'noun_words', 'wordings']

CLOTHED = ('person',)
"""Classes whose color is that of their clothes: 'the person in red'."""

ORDINALS = {2: 'second', 3: 'third'}
_ORDERED = {
    'left': ('the leftmost {}', 'the {} on the far left', 'the {} furthest to the left'),
    'right': ('the rightmost {}', 'the {} on the far right', 'the {} furthest to the right'),
    'above': ('the {} at the top',),
    'below': ('the {} at the bottom',),
}
_OF_TWO = {
    'left': ('the left {}', 'the {} on the left'),
    'right': ('the right {}', 'the {} on the right'),
    'above': ('the upper {}', 'the top {}'),
    'below': ('the lower {}', 'the bottom {}'),
}
_HALVES = (
    'the {} on the {} side', 'the {} on the {} side of the picture',
    'the {} in the {} half of the picture',
)  # fmt: skip
_MIDDLE = ('the middle {}', 'the {} in the middle')
_SIZES = {
    ('large', False): ('the largest {}', 'the biggest {}'),
    ('small', False): ('the smallest {}',),
    ('large', True): ('the larger {}', 'the bigger {}'),
    ('small', True): ('the smaller {}',),
}
_RELATIONS = {
    'left': ('to the left of', 'on the left of', 'left of'),
    'right': ('to the right of', 'on the right of', 'right of'),
    'beside': ('next to', 'beside', 'right next to'),
}


@dataclass(frozen=True)
class Description:
    """Represent what a sentence says of an object.

    Attributes:
        phrase: Its class (field ``name``) and perhaps its ``color``.
        kind: The words that it needs: 'attribute', 'size', 'position' or 'relation'.
        size: 'large' or 'small', compared with all that the phrase fits.
        rank: Direction and place among all that the phrase fits, where 1 is the outermost;
            ``('middle', 0)`` is the middle one of three from left to right.
        of_two: Whether the phrase fits two objects.
        relation: 'left', 'right' or 'beside', and the phrase of the other object.
        side: 'left' or 'right', the half of the image.
    """

    phrase: Phrase
    kind: str
    size: str | None = None
    rank: tuple[str, int] | None = None
    of_two: bool = False
    relation: tuple[str, Phrase] | None = None
    side: str | None = None


def noun_words(phrase: Phrase) -> str:
    """Return the words of a phrase without an article, such as 'red car' or 'person in red'."""
    color, name = phrase.get('color'), phrase.get('name')
    if color is None:
        return str(name)
    return f'{name} in {color}' if name in CLOTHED else f'{color} {name}'


def wordings(description: Description) -> list[str]:
    """Return all wordings of a description.

    Args:
        description: The description.
    """
    words = noun_words(description.phrase)
    templates: tuple[str, ...] = ('the {}',)
    if description.relation is not None:
        direction, anchor = description.relation
        other = noun_words(anchor)
        templates = tuple(f'the {{}} {between} the {other}' for between in _RELATIONS[direction])
    elif description.side is not None:
        templates = tuple(template.format('{}', description.side) for template in _HALVES)
    elif description.size is not None:
        templates = _SIZES[description.size, description.of_two]
    elif description.rank is not None:
        direction, place = description.rank
        if direction == 'middle':
            templates = _MIDDLE
        elif place > 1:
            templates = (f'the {ORDINALS[place]} {{}} from the {direction}',)
        else:
            templates = (_OF_TWO if description.of_two else _ORDERED)[direction]
    return [template.format(words) for template in templates]
