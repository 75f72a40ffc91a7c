"""Token ids of sentences from the tokenizer in a description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import InputError

__all__ = ['Tokens']


class Tokens:
    """Tokenize sentences with the ``tokenizers`` library.

    Args:
        content: ``json``, a tokenizer as this library writes it; ``max_tokens``, the length at
            which sentences are cut off; ``pad_id``.

    Raises:
        InputError: The content is something else.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        from tokenizers import Tokenizer

        try:
            self.max_tokens, self.pad_id = int(content['max_tokens']), int(content['pad_id'])
            self._tokenizer = Tokenizer.from_str(content['json'])
        except Exception as error:  # the library raises a bare Exception for damaged content
            reason = f'{type(error).__name__}: {error}'
            raise InputError(f'tokenizer: it cannot be read ({reason})') from None
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.max_tokens)

    def __call__(self, sentences: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return ids (B, L), padded to the longest sentence, and lengths (B,), both int64."""
        rows = [row.ids for row in self._tokenizer.encode_batch(list(sentences))]
        return pad_rows(rows, self.pad_id)


def pad_rows(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ids (B, L), padded to the longest row, and lengths (B,), both int64."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    ids = np.full((len(rows), int(lengths.max())), pad_id, dtype=np.int64)
    for row, given in zip(ids, rows):
        row[: len(given)] = given
    return ids, lengths


def check_sentences(sentences: str | Sequence[str]) -> list[str]:
    """Return sentences as a list.

    Raises:
        InputError: There is none, or one is empty.
    """
    found = [sentences] if isinstance(sentences, str) else list(sentences)
    if not found:
        raise InputError('sentences: none given, expected 1 or more')
    for sentence in found:
        if not isinstance(sentence, str) or not sentence.strip():
            raise InputError(f'sentence {sentence!r}: expected words')
    return found
