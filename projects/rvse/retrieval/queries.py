"""Combined queries: `a dog - a leash`, `a beach + photo.jpg`."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from projects.common.errors import InputError

__all__ = ['combined', 'terms_of']

_SIGN = re.compile(r'\s+([+-])\s+')


def terms_of(query: str) -> list[tuple[int, str]]:
    """Split a query at each ``+`` and ``-`` between spaces.

    Returns:
        The signs, 1 or -1, and the terms; the first has the sign 1.

    Examples:
        >>> terms_of('a dog on a beach - a leash + sunset.jpg')
        [(1, 'a dog on a beach'), (-1, 'a leash'), (1, 'sunset.jpg')]
    """
    first, *rest = _SIGN.split(query.strip())
    pairs = zip(rest[::2], rest[1::2])
    return [(1, first), *((1 if sign == '+' else -1, term) for sign, term in pairs)]


def combined(query: str, embed: Callable[[str], np.ndarray]) -> np.ndarray:
    """Compute the embedding (1, C) of a query: the sum of its terms, with signs, as a unit vector.

    Args:
        query: The query. Without a sign between spaces it is a single term.
        embed: Computes the embedding (1, C) of a term, of length 1.

    Raises:
        InputError: The terms cancel each other out.
    """
    terms = terms_of(query)
    if len(terms) == 1:
        return embed(query)
    total = np.sum([sign * embed(term) for sign, term in terms], axis=0)
    length = np.linalg.norm(total)
    if length < 1e-4:
        raise InputError(f'query {query!r}: its terms cancel each other out')
    return (total / length).astype(np.float32)
