"""Text encoder: word embeddings and a bidirectional GRU."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from projects.common.errors import InputError
from projects.rvse.text import Vocabulary

from .gru import run_gru
from .sequences import l2norm, length_mask, pad_ids
from .size_augmentation import augment_words


@MODELS.register_module()
class BiGRUTextEncoder(BaseModule):
    """Encode captions with word embeddings and a GRU, with one embedding per caption or word.

    The vocabulary is part of the state dict, so weights always come with it.

    Args:
        vocab_file: JSON file of the vocabulary. If None, the vocabulary has to come from
            :meth:`set_vocabulary` or a checkpoint.
        vocab_size: Number of rows of the embedding. None is the size of the vocabulary, plus one
            for ``<mask>`` if ``mask_rate`` is not 0.
        word_channels: Channels of the word embeddings.
        channels: Channels d of each direction of the GRU. The directions are averaged.
        pool: Config of the pooling over words. None returns an embedding per word.
        word_dropout: Dropout of the word embeddings (0.4 in SGRAF).
        mask_rate: Rate of the size augmentation in training; see :func:`augment_words`. As
            released, ``<start>`` and ``<end>`` are augmented too.
        bidirectional: Whether the GRU is bidirectional. VSE++ only reads forwards.

    Raises:
        ValueError: Neither ``vocab_file`` nor ``vocab_size`` is set, or the vocabulary has more
            words than the embedding has rows.
    """

    def __init__(
        self,
        vocab_file: str | None = None,
        vocab_size: int | None = None,
        word_channels: int = 300,
        channels: int = 1024,
        pool: dict | None = None,
        word_dropout: float = 0.0,
        mask_rate: float = 0.0,
        bidirectional: bool = True,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.mask_rate = mask_rate
        self.vocabulary: Vocabulary | None = None
        vocabulary = Vocabulary.from_file(vocab_file) if vocab_file else None
        if vocab_size is None:
            if vocabulary is None:
                raise InputError('text_encoder: set vocab_file, or vocab_size to load one later')
            vocab_size = len(vocabulary) + bool(mask_rate)
        self.embed = nn.Embedding(vocab_size, word_channels)
        self.dropout = nn.Dropout(word_dropout)
        self.rnn = nn.GRU(word_channels, channels, batch_first=True, bidirectional=bidirectional)
        self.gpool = MODELS.build(pool) if pool else None
        if vocabulary:
            self.set_vocabulary(vocabulary)

    def init_weights(self) -> None:
        """Initialise the embeddings uniformly in [-0.1, 0.1], as released."""
        nn.init.uniform_(self.embed.weight, -0.1, 0.1)
        super().init_weights()

    def set_vocabulary(self, vocabulary: Vocabulary) -> None:
        """Set the vocabulary.

        Raises:
            ValueError: The vocabulary needs more rows than the embedding has.
        """
        needed = len(vocabulary) + bool(self.mask_rate)
        if needed > self.embed.num_embeddings:
            raise InputError(
                f'text_encoder: the vocabulary needs {needed} rows'
                f'{" with <mask>" if self.mask_rate else ""}, '
                f'but vocab_size is {self.embed.num_embeddings}'
            )
        self.vocabulary = vocabulary

    def caption_tokenizer(self) -> Callable[[str], list[int]]:
        """Return a function that maps a caption to its ids, for the workers of a data loader.

        Raises:
            RuntimeError: There is no vocabulary yet.
        """
        if self.vocabulary is None:
            raise RuntimeError(
                'text_encoder has no vocabulary: set vocab_file or load a checkpoint that has one'
            )
        return self.vocabulary.encode

    def tokenize(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return ids (B, L), zero-padded, and lengths (B,) on the model's device.

        Raises:
            RuntimeError: There is no vocabulary yet.
        """
        return self.pad(list(map(self.caption_tokenizer(), captions)))

    def pad(self, token_ids: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """Return ids (B, L), zero-padded, and lengths (B,) of captions' ids."""
        return pad_ids(token_ids, Vocabulary.pad_id, self.embed.weight.device)

    def unknown_words(self, caption: str) -> list[str]:
        """Return the words of a caption that become ``<unk>``."""
        return self.vocabulary.unknown_words(caption) if self.vocabulary else []

    def forward(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch of captions.

        Args:
            ids: (B, L) int64.
            lengths: (B,), from 1 to L, in any order.

        Returns:
            L2-normalised embeddings and the number of words (B,) they were computed from.
            Embeddings are (B, C) with a pool, otherwise (B, L, C) and zero beyond the words of a
            caption.
        """
        if self.training and self.mask_rate:
            mask_id = self.embed.num_embeddings - 1
            words = torch.arange(4, len(self.vocabulary) if self.vocabulary else mask_id)
            ids, lengths = augment_words(ids, lengths, mask_id, words, self.mask_rate)
        words = self.dropout(self.embed(ids))
        features = run_gru(self.rnn, words, lengths)
        if self.rnn.bidirectional:
            forward, backward = features.chunk(2, dim=-1)
            features = (forward + backward) / 2
        if self.gpool is not None:
            return l2norm(self.gpool(features, lengths)[0]), lengths
        pads = ~length_mask(lengths, features.shape[1])[..., None]
        return l2norm(features).masked_fill(pads, 0), lengths

    def get_extra_state(self) -> Tensor:
        """Return the vocabulary as bytes (n,) uint8.

        Checkpoints that contain only tensors can be loaded everywhere.
        """
        words = self.vocabulary.words if self.vocabulary else []
        return torch.tensor(list('\n'.join(words).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Set the vocabulary from a state dict, unless it is empty."""
        if state.numel():
            self.set_vocabulary(Vocabulary(bytes(state.cpu().tolist()).decode().split('\n')))
