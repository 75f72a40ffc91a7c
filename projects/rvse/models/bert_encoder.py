"""Text encoder of RVSE++: BERT, a linear layer and pooling (section 3.4)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from .sequences import l2norm, length_mask, pad_ids
from .size_augmentation import augment_words

_SPECIAL = re.compile(r'\[.+\]$')


@MODELS.register_module()
class BERTCaptionEncoder(BaseModule):
    """Encode captions with BERT, a linear layer and pooling.

    Args:
        encoder: See :class:`projects.common.text.BERTTextEncoder`.
        channels: Channels d of the embedding.
        pool: Config of the pooling over tokens, including [CLS] and [SEP]. None returns an
            embedding per token.
        mask_rate: Rate of the size augmentation in training, drawn per word; see
            :func:`augment_words`.
    """

    def __init__(
        self,
        encoder: dict | None = None,
        channels: int = 1024,
        pool: dict | None = None,
        mask_rate: float = 0.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.encoder = MODELS.build({'type': 'BERTTextEncoder', **(encoder or {})})
        self.linear = nn.Linear(self.encoder.out_channels, channels)
        self.gpool = MODELS.build(pool) if pool else None
        self.mask_rate = mask_rate
        self._table: _TokenTable | None = None

    # Interface of projects.common.text.LearnVocabularyHook.
    @property
    def tokenizer(self) -> Any:
        """Return BERT's tokenizer, or None while there is no vocabulary."""
        return self.encoder.tokenizer

    @property
    def lowercase(self) -> bool:
        """Return whether captions are lower-cased."""
        return self.encoder.lowercase

    def set_tokenizer(self, tokenizer) -> None:
        """Set the tokenizer, as in :class:`projects.common.text.BERTTextEncoder`."""
        self.encoder.set_tokenizer(tokenizer)

    def caption_tokenizer(self) -> Callable[[str], list[int]]:
        """Return a function that maps a caption to its ids, for the workers of a data loader.

        Raises:
            RuntimeError: There is no vocabulary yet.
        """
        return partial(self.encoder.needed_tokenizer().encode, max_length=self.encoder.max_tokens)

    def tokenize(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return ids (B, L) and lengths (B,) on the model's device.

        L is the length of the longest caption.
        """
        return self.pad(list(map(self.caption_tokenizer(), captions)))

    def pad(self, token_ids: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """Return ids (B, L), padded with [PAD], and lengths (B,) of captions' ids."""
        padding = self.encoder.needed_tokenizer().pad_id
        return pad_ids(token_ids, padding, self.linear.weight.device)

    def unknown_words(self, caption: str) -> list[str]:
        """Return the words of a caption that become [UNK]."""
        return self.encoder.tokenizer.unknown_words(caption)

    def forward(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch of captions.

        Args:
            ids: (B, L) int64.
            lengths: (B,), from 1 to L, in any order.

        Returns:
            L2-normalised embeddings and the number of tokens (B,) they were computed from.
            Embeddings are (B, C) with a pool, otherwise (B, L, C) and zero beyond the tokens of a
            caption.
        """
        if self.training and self.mask_rate:
            ids, lengths = self._augment(ids, lengths)
        mask = length_mask(lengths, ids.shape[1])
        features = self.linear(self.encoder(ids, mask.long()))
        if self.gpool is not None:
            return l2norm(self.gpool(features, lengths)[0]), lengths
        return l2norm(features).masked_fill(~mask[..., None], 0), lengths

    def _augment(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.encoder.tokenizer.vocabulary
        table = self._table
        if table is None or table.tokens is not tokens or table.continues.device != ids.device:
            table = self._table = _TokenTable(tokens, ids.device)
        exempt = table.exempt[ids]
        # tokens of one word share the index of its first token
        words = (~table.continues[ids] | exempt).long().cumsum(dim=1) - 1
        return augment_words(
            ids,
            lengths,
            table.mask_id,
            table.replacements,
            self.mask_rate,
            words.clamp(min=0),
            exempt,
        )


class _TokenTable:
    """Hold what the augmentation asks of each token of a vocabulary, on the model's device."""

    def __init__(self, tokens: Sequence[str], device: torch.device) -> None:
        self.tokens = tokens
        self.mask_id = tokens.index('[MASK]')
        continues = torch.tensor([token.startswith('##') for token in tokens])
        # no special tokens such as [CLS] or [unused7], no word endings
        real = ~continues & torch.tensor([not _SPECIAL.match(token) for token in tokens])
        self.continues = continues.to(device)
        exempt = torch.tensor([token in ('[CLS]', '[SEP]', '[PAD]') for token in tokens])
        self.exempt = exempt.to(device)
        self.replacements = real.nonzero()[:, 0].to(device)
