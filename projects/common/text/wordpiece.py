"""WordPiece tokenization with a vocabulary from a file or learned from sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import BertWordPieceTokenizer
from torch import Tensor

from ..errors import InputError
from ..files.annotation_files import read_lines

SPECIAL_TOKENS = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]')


class WordPieceTokenizer:
    """Tokenize text like BERT, based on the ``tokenizers`` library.

    Args:
        vocabulary: The tokens. The index of a token in the list is its id. The five special tokens
            of BERT must be among them.
        lowercase: Lowercase the text and strip accents, like the uncased BERT models.

    Raises:
        ValueError: A special token is missing or a token occurs twice.

    Examples:
        >>> tokenizer = WordPieceTokenizer.learn(['the red circle', 'the blue star'])
        >>> ids, mask = tokenizer(['the red star'], max_length=8)
        >>> ids.shape, mask.sum().item()
        (torch.Size([1, 8]), 5)
    """

    def __init__(self, vocabulary: Sequence[str], lowercase: bool = True) -> None:
        missing = [token for token in SPECIAL_TOKENS if token not in vocabulary]
        if missing:
            raise InputError(f'vocabulary: {missing[0]!r} is missing; BERT needs {SPECIAL_TOKENS}')
        ids = {token: i for i, token in enumerate(vocabulary)}
        if len(ids) != len(vocabulary):
            raise InputError(
                f'vocabulary: {len(vocabulary)} tokens, but only {len(ids)} different ones'
            )
        self.vocabulary = list(vocabulary)
        self.lowercase = lowercase
        self.pad_id = ids['[PAD]']
        self._tokenizer = BertWordPieceTokenizer(vocab=ids, lowercase=lowercase)

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.vocabulary)

    @classmethod
    def from_file(cls, path: str | Path, lowercase: bool = True) -> WordPieceTokenizer:
        """Read BERT's ``vocab.txt`` with one token per line.

        Raises:
            FileNotFoundError: The file does not exist.
            ValueError: The file is not a BERT vocabulary.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(
                f'{path}: no such vocabulary file; expected a vocab.txt with one token a line'
            )
        tokens = read_lines(path)
        try:
            return cls(tokens, lowercase)
        except ValueError as error:
            raise InputError(f'{path}: {error}') from None

    @classmethod
    def learn(
        cls, sentences: Iterable[str], vocab_size: int = 4096, lowercase: bool = True
    ) -> WordPieceTokenizer:
        """Learn a vocabulary of the characters and the most frequent words of ``sentences``.

        Words beyond ``vocab_size`` are split into characters. The result depends only on the
        sentences; the trainers of the ``tokenizers`` library break ties differently in each
        process.

        Raises:
            ValueError: ``vocab_size`` is too small for the characters alone.
        """
        splitter = BertWordPieceTokenizer(lowercase=lowercase)
        counts: Counter[str] = Counter()
        for sentence in sentences:
            text = splitter.normalizer.normalize_str(sentence)
            counts.update(word for word, _ in splitter.pre_tokenizer.pre_tokenize_str(text))
        characters = sorted({character for word in counts for character in word})
        pieces = [*SPECIAL_TOKENS, *characters, *(f'##{character}' for character in characters)]
        if len(pieces) > vocab_size:
            raise InputError(
                f'vocab_size {vocab_size}: the sentences have {len(characters)} different '
                f'characters, which need {len(pieces)} tokens'
            )
        words = sorted((word for word in counts if len(word) > 1), key=lambda w: (-counts[w], w))
        return cls([*pieces, *words][:vocab_size], lowercase)

    def __call__(self, sentences: Sequence[str], max_length: int) -> tuple[Tensor, Tensor]:
        """Tokenize a batch as ``[CLS] pieces [SEP] [PAD] ...``.

        Args:
            sentences: ``B`` texts.
            max_length: Number of tokens per row; longer sentences are truncated to ``max_length -
                2`` pieces.

        Returns:
            The ids (B, max_length) and the attention mask of the same shape, both int64. The mask
            is 0 on padding.
        """
        tokenizer = self._tokenizer
        tokenizer.enable_truncation(max_length)
        tokenizer.enable_padding(length=max_length, pad_id=self.pad_id)
        rows = tokenizer.encode_batch(list(sentences))
        return (
            torch.tensor([row.ids for row in rows]),
            torch.tensor([row.attention_mask for row in rows]),
        )

    def encode(self, sentence: str, max_length: int) -> list[int]:
        """Return the ids of ``[CLS] pieces [SEP]`` of a sentence, at most ``max_length``."""
        self._tokenizer.enable_truncation(max_length)
        self._tokenizer.no_padding()
        return self._tokenizer.encode(sentence).ids

    def unknown_words(self, sentence: str) -> list[str]:
        """Return the words of a sentence that become [UNK]."""
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        found = self._tokenizer.encode(sentence)
        return [
            sentence[start:end]
            for token, (start, end) in zip(found.tokens, found.offsets)
            if token == '[UNK]'
        ]

    def described(self, max_length: int) -> dict[str, Any]:
        """Return the content of :class:`projects.common.deployment.tokens.Tokens`."""
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        return dict(json=self._tokenizer.to_str(), max_tokens=max_length, pad_id=self.pad_id)

    def save(self, path: str | Path) -> None:
        """Write a ``vocab.txt`` that :meth:`from_file` can read."""
        Path(path).write_text('\n'.join(self.vocabulary) + '\n', encoding='utf-8')
