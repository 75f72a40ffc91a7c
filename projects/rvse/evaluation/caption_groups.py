"""Groups of captions by length and by words, whose recalls an analysis compares."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

__all__ = ['caption_groups']

LENGTHS = ((1, 5), (6, 8), (9, 10), (11, 12), (13, 15), (16, 20), (21, None))
"""First and last number of words of each group."""
WORDS = {
    'colors': (
        'black', 'white', 'red', 'green', 'blue', 'yellow', 'orange', 'brown', 'pink', 'purple',
        'gray', 'grey',
    ),
    'numbers': (
        'two', 'three', 'four', 'five', 'six', 'several', 'many', 'couple', 'pair', 'group',
    ),
    'positions': (
        'left', 'right', 'above', 'below', 'under', 'behind', 'front', 'beside', 'between', 'near',
        'next', 'top', 'bottom', 'middle', 'over', 'around',
    ),
    'sizes': ('small', 'little', 'tiny', 'large', 'big', 'huge', 'tall', 'short', 'long'),
    'people': (
        'man', 'woman', 'men', 'women', 'boy', 'girl', 'person', 'people', 'child', 'children',
        'player', 'baby', 'kid', 'lady', 'guy',
    ),
}  # fmt: skip
MOST_WORDS = 20
LEAST_CAPTIONS = 20


def words_of(caption: str) -> list[str]:
    """Return the words of a caption in lower case, without punctuation."""
    return re.findall(r"[\w']+", caption.lower())


def caption_groups(captions: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """Group captions by length, by kinds of words and by their most frequent words.

    A caption can be in several groups of words. Empty groups are left out.

    Returns:
        Masks (C,) of bool by title and name of the group.
    """
    words = [words_of(caption) for caption in captions]
    lengths = np.array([len(each) for each in words])
    by_length = {
        f'{low} to {high}' if high else f'{low} and more': (lengths >= low)
        & (lengths <= (high or np.inf))
        for low, high in LENGTHS
    }
    sets = [set(each) for each in words]

    def having(members: Sequence[str]) -> np.ndarray:
        return np.array([not each.isdisjoint(members) for each in sets])

    kinds = {name: having(members) for name, members in WORDS.items()}
    kinds['none of these'] = ~np.any(list(kinds.values()), axis=0)
    counts = Counter(word for each in sets for word in each if word not in ENGLISH_STOP_WORDS)
    frequent = [word for word, count in counts.most_common(MOST_WORDS) if count >= LEAST_CAPTIONS]
    groups = {
        'Caption length (words)': by_length,
        'Kinds of words': kinds,
        'Frequent words': {word: having([word]) for word in frequent},
    }
    return {
        title: {name: mask for name, mask in members.items() if mask.any()}
        for title, members in groups.items()
    }
