"""Text encoder: word embeddings and a bidirectional GRU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from projects.common.errors import InputError
from projects.rvse.text import Vocabulary

from .gru import run_gru
from .sequences import l2norm, length_mask
from .size_augmentation import augment_words


@MODELS.register_module()
class BiGRUTextEncoder(BaseModule):
    """Captions to one embedding each, or to one for every word.

    The vocabulary travels inside the state dict, so weights are never parted from it.

    Args:
        vocab_file: The vocabulary's json; None until :meth:`set_vocabulary` or a checkpoint.
        vocab_size: Rows of the embedding; None is that of the vocabulary, and one more for
            ``<mask>`` where ``mask_rate`` is not 0.
        word_channels: Channels of a word's embedding.
        channels: Channels d of each direction of the GRU; they are averaged.
        pool: What pools words into one embedding; None leaves one for each word.
        word_dropout: Dropout of the words' embeddings (0.4 in SGRAF).
        mask_rate: Size augmentation while training; see :func:`augment_words`. ``<start>`` and
            ``<end>`` take part, as released.
        bidirectional: False is a GRU that reads forwards alone, as VSE++ has it.

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
        """Embeddings uniform in [-0.1, 0.1], as released."""
        nn.init.uniform_(self.embed.weight, -0.1, 0.1)
        super().init_weights()

    def set_vocabulary(self, vocabulary: Vocabulary) -> None:
        """Takes ``vocabulary`` over.

        Raises:
            ValueError: It needs more rows than the embedding has.
        """
        needed = len(vocabulary) + bool(self.mask_rate)
        if needed > self.embed.num_embeddings:
            raise InputError(
                f'text_encoder: the vocabulary needs {needed} rows'
                f'{" with <mask>" if self.mask_rate else ""}, '
                f'but vocab_size is {self.embed.num_embeddings}'
            )
        self.vocabulary = vocabulary

    def tokenize(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids (B, L), padded with 0, and lengths (B,) on the model's device.

        Raises:
            RuntimeError: There is no vocabulary yet.
        """
        if self.vocabulary is None:
            raise RuntimeError(
                'text_encoder has no vocabulary: set vocab_file or load a checkpoint that has one'
            )
        ids, lengths = self.vocabulary(captions)
        device = self.embed.weight.device
        return ids.to(device), lengths.to(device)

    def forward(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            ids: (B, L) int64.
            lengths: (B,), from 1 to L, in any order.

        Returns:
            L2-normalised embeddings, (B, C) with a pool, else (B, L, C) and zero beyond a
            caption's words; and the number of words (B,) that made them.
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
        """The vocabulary as bytes, (n,) uint8: checkpoints of tensors alone load everywhere."""
        words = self.vocabulary.words if self.vocabulary else []
        return torch.tensor(list('\n'.join(words).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Takes over the vocabulary of a state dict, unless it has none."""
        if state.numel():
            self.set_vocabulary(Vocabulary(bytes(state.cpu().tolist()).decode().split('\n')))
