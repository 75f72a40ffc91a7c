"""Describe which words a kind of scene has, and build noun phrases from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .scene import Described, pick

__all__ = ['SHAPE_WORDS', 'SIZE_WORDS', 'Phrase', 'Vocabulary', 'noun_phrase', 'texture_word']

Fields = tuple[str, ...]

# Repeated entries make a word more frequent.
TEXTURE_WORDS = {
    'plain': ('plain', 'plain', 'solid'),
    'striped': ('striped',),
    'spotted': ('spotted', 'spotted', 'dotted'),
}
_TEXTURE_TAILS = {'striped': 'with stripes', 'spotted': 'with spots'}
SIZE_WORDS = {'small': ('small', 'small', 'little'), 'large': ('large', 'large', 'big')}


@dataclass(frozen=True)
class Vocabulary:
    """Describe how the objects of a kind of scene are named.

    Attributes:
        noun: The field whose word is the noun.
        adjectives: The fields of adjectives, in the order of their words. The size precedes them.
        nouns: Words for an object whose noun is not mentioned.
        plural: Word for several objects of any kind.
        singles: Choices of a single field to identify an object by; repeated ones are more
            frequent.
        pairs: Choices of two fields.
        listed: The adjectives that every description of an object in a caption has. It may have
            the others, and the size.
    """

    noun: str
    adjectives: Fields
    nouns: Sequence[str]
    plural: str
    singles: Sequence[Fields]
    pairs: Sequence[Fields]
    listed: Fields = ()

    @property
    def fields(self) -> Fields:
        """Return all fields in the order of their words."""
        return ('size', *self.adjectives, self.noun)

    def choose(
        self, rng: np.random.Generator, obj: Described, shares: tuple[float, float, float]
    ) -> Fields:
        """Choose one, two or all fields besides the size with these probabilities.

        Fields of which nothing is known for the object are left out.
        """
        draw = rng.random()
        chosen: Fields = (*self.adjectives, self.noun)
        if draw < shares[0]:
            chosen = pick(rng, self.singles)
        elif draw < shares[0] + shares[1]:
            chosen = pick(rng, self.pairs)
        return tuple(field for field in chosen if obj.value(field) is not None)


SHAPE_WORDS = Vocabulary(
    noun='shape',
    adjectives=('texture', 'color'),
    nouns=('shape', 'shape', 'object', 'one', 'thing'),
    plural='shapes',
    singles=(('shape',), ('shape',), ('shape',), ('color',), ('color',), ('texture',)),
    pairs=(('color', 'shape'), ('color', 'shape'), ('texture', 'shape'), ('texture', 'color')),
    listed=('color',),
)


@dataclass(frozen=True)
class Phrase:
    """Represent the properties that a phrase mentions.

    Attributes:
        words: Pairs of a field and its word, in the order of the words.
    """

    words: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, obj: Described, fields: Fields) -> Phrase:
        """Return a phrase with these properties of an object, all of which are known."""
        return cls(tuple((field, str(obj.value(field))) for field in fields))

    def get(self, field: str) -> str | None:
        """Return the word of a field, or None if the phrase does not mention it."""
        return dict(self.words).get(field)

    def without(self, field: str) -> Phrase:
        """Return the phrase without a field."""
        return Phrase(tuple(pair for pair in self.words if pair[0] != field))

    def fits(self, obj: Described) -> bool:
        """Return whether the object is known to have all the properties mentioned."""
        return all(agrees(word, obj.value(field)) for field, word in self.words)


def agrees(word: str, known: str | None) -> bool:
    """Return whether a word is true of what is known: a 'tennis ball' is also a 'ball'."""
    return known is not None and (known == word or known.endswith(f' {word}'))


def texture_word(rng: np.random.Generator, value: str) -> str:
    """Return a word for a texture."""
    return pick(rng, TEXTURE_WORDS[value])


def noun_phrase(
    rng: np.random.Generator,
    phrase: Phrase,
    vocabulary: Vocabulary,
    size_word: str | None = None,
    noun: str | None = None,
    tails: bool = True,
) -> str:
    """Build a phrase without its article: 'small striped circle', 'circle with stripes'.

    Args:
        rng: Chooses among synonyms.
        phrase: The properties to mention.
        vocabulary: The words of this kind of scene.
        size_word: Replaces the word for the size ('larger').
        noun: Replaces the word for an unnamed object.
        tails: Whether a texture may follow the noun.
    """
    words = []
    tail = ''
    for field, word in phrase.words:
        if field == 'size':
            words.append(size_word or pick(rng, SIZE_WORDS[word]))
        elif field == vocabulary.noun:
            noun = word
        elif word not in TEXTURE_WORDS:
            words.append(word)
        elif tails and word in _TEXTURE_TAILS and rng.random() < 0.2:
            tail = f' {_TEXTURE_TAILS[word]}'
        else:
            words.append(texture_word(rng, word))
    words.append(noun or pick(rng, vocabulary.nouns))
    return ' '.join(words) + tail
