"""Word vocabulary of the BiGRU text encoders, in the released JSON layout."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from projects.common.errors import InputError
from projects.common.files.annotation_files import read_json

from .word_tokenize import word_tokenize

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ['Vocabulary']

SPECIAL_WORDS = ('<pad>', '<start>', '<end>', '<unk>')


class Vocabulary:
    """Map words to ids; ``<pad>``, ``<start>``, ``<end>`` and ``<unk>`` have ids 0 to 3.

    Captions are lower-cased and split by :func:`word_tokenize`. The ``<mask>`` token of the
    training augmentation is not an entry. Its id, :attr:`mask_id`, follows that of the last word,
    so an embedding that learns it has ``len(vocabulary) + 1`` rows.

    Args:
        words: The words. The index of a word is its id.

    Raises:
        ValueError: The list does not start with the four special words, or has a duplicate.

    Example:
        >>> vocabulary = Vocabulary.build(['a dog runs', 'a dog'], min_count=2)
        >>> vocabulary.words
        ['<pad>', '<start>', '<end>', '<unk>', 'a', 'dog']
        >>> vocabulary.encode('A dog sleeps')
        [1, 4, 5, 3, 2]
    """

    pad_id, start_id, end_id, unk_id = range(4)

    def __init__(self, words: Sequence[str]) -> None:
        if tuple(words[:4]) != SPECIAL_WORDS:
            raise InputError(
                f'vocabulary: it begins with {list(words[:4])}, expected {list(SPECIAL_WORDS)}'
            )
        self.words = list(words)
        self._ids = {word: i for i, word in enumerate(self.words)}
        if len(self._ids) != len(self.words):
            twice = next(word for word, n in Counter(self.words).items() if n > 1)
            raise InputError(f'vocabulary: {twice!r} stands in it twice')

    def __len__(self) -> int:
        """Return the number of words, without ``<mask>``."""
        return len(self.words)

    @property
    def mask_id(self) -> int:
        """Return the id of ``<mask>``, one past the last word."""
        return len(self.words)

    @classmethod
    def build(cls, captions: Iterable[str], min_count: int = 4) -> Vocabulary:
        """Build a vocabulary of the words that occur at least ``min_count`` times.

        The released vocabularies use the captions of train and dev and a ``min_count`` of 4. Words
        are sorted by frequency, then alphabetically; the released order differs.
        """
        counts = Counter(word for caption in captions for word in word_tokenize(caption.lower()))
        words = [word for word, n in counts.items() if n >= min_count and word not in SPECIAL_WORDS]
        return cls([*SPECIAL_WORDS, *sorted(words, key=lambda word: (-counts[word], word))])

    @classmethod
    def from_file(cls, path: str | Path) -> Vocabulary:
        """Load the released JSON file.

        It has the form ``{word2idx, idx2word, idx}``; only ``word2idx`` is needed.

        Raises:
            FileNotFoundError: The file does not exist.
            ValueError: The file is not a vocabulary.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(
                f'{path}: no such vocabulary; tools/dataset_converters/itm.py vocab builds one'
            )
        try:
            ids = dict(read_json(path)['word2idx'].items())
            words = sorted(ids, key=ids.__getitem__)
            found = [ids[word] for word in words]
        except (KeyError, TypeError, AttributeError):
            raise InputError(
                f"{path}: expected json with 'word2idx', a dict of words and their ids"
            ) from None
        if found != list(range(len(words))):
            raise InputError(
                f'{path}: the {len(words)} ids of word2idx are not 0 to {len(words) - 1}'
            )
        try:
            return cls(words)
        except ValueError as error:
            raise InputError(f'{path}: {error}') from None

    def save(self, path: str | Path) -> None:
        """Write the released JSON layout, which the released code can read."""
        content = {
            'word2idx': self._ids,
            'idx2word': {str(i): word for word, i in self._ids.items()},
            'idx': len(self),
        }
        Path(path).write_text(json.dumps(content), encoding='utf-8')

    def unknown_words(self, caption: str) -> list[str]:
        """Return the words of a caption that become ``<unk>``."""
        return [word for word in word_tokenize(caption.lower()) if word not in self._ids]

    def encode(self, caption: str) -> list[int]:
        """Return the ids of a caption's words, enclosed by ``<start>`` and ``<end>``."""
        ids = (self._ids.get(word, self.unk_id) for word in word_tokenize(caption.lower()))
        return [self.start_id, *ids, self.end_id]

    def __call__(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return ids (B, L), zero-padded to the longest caption, and lengths (B,), both int64."""
        import torch  # exported models use the rest of the class without it

        rows = [torch.tensor(self.encode(caption)) for caption in captions]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.pad_id)
        return ids, torch.tensor([len(row) for row in rows])
