"""Text encoder: any text model of transformers, or the text half of a dual encoder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from projects.common.errors import InputError
from projects.common.pretrained.sources import (
    adapt,
    build_model,
    find_folder,
    from_bytes,
    plain_config,
    to_bytes,
)

from ..sequences import l2norm, length_mask, pad_ids

_SPECIAL = ('bos_token', 'eos_token', 'unk_token', 'sep_token', 'pad_token', 'cls_token')


@MODELS.register_module()
class TransformersTextEncoder(BaseModule):
    """Encode captions with a text model of transformers, through ``AutoModel``.

    A dual encoder (a model with ``get_text_features``) gives its own embedding of a text; the
    tokens of any other model are pooled. The config of the model and its tokenizer are part of the
    state dict, so checkpoints are used without the hub.

    Args:
        pretrained: A folder, ``package:NAME/PATH`` for a folder in an installed package, or a
            Hugging Face Hub id.
        config: Config for random weights, with its ``model_type``, instead of ``pretrained``.
        tokenizer: A ``tokenizer.json``, or a folder or hub id with one. None uses that of
            ``pretrained``; with ``config``, a checkpoint has to bring it.
        max_tokens: Tokens of a caption at most, special ones included. None is what model and
            tokenizer allow.
        pool: Config of the pooling over tokens for models that are no dual encoders. None returns
            an embedding per token.
        channels: Channels of a linear layer behind the model. None adds none.
        frozen: Train only the linear layer.
        lora: Arguments of ``peft.LoraConfig`` for low-rank adapters of the model.

    Raises:
        FileNotFoundError: A folder does not exist.
        InputError: The model or the tokenizer cannot be loaded, or peft is missing.
    """

    def __init__(
        self,
        pretrained: str | None = None,
        config: Mapping[str, Any] | None = None,
        tokenizer: str | None = None,
        max_tokens: int | None = None,
        pool: dict | None = dict(type='MeanPool'),  # noqa: B006
        channels: int | None = None,
        frozen: bool = False,
        lora: Mapping[str, Any] | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.model: Any = build_model('text_encoder', pretrained, config, ('vis', 'image'))
        self.dual = hasattr(self.model, 'get_text_features')
        self._config = plain_config(self.model)  # before adapters change it
        self.max_tokens = max_tokens
        self.frozen = frozen
        self.gpool = MODELS.build(pool) if pool and not self.dual else None
        self.tokenizer: PreTrainedTokenizerFast | None = None
        self.fixed_length = False
        source = tokenizer or pretrained
        if source is not None:
            field = 'text_encoder.tokenizer' if tokenizer else 'text_encoder.pretrained'
            self.set_tokenizer(_read_tokenizer(field, source))
        self.linear = nn.Linear(self._width(), channels) if channels else None
        adapt('text_encoder', self.model, frozen, lora)

    @staticmethod
    def stored_arguments(state: Tensor) -> dict[str, Any]:
        """Return the arguments that build the model for a state dict with this extra state."""
        return dict(pretrained=None, tokenizer=None, config=from_bytes(state)['config'])

    def train(self, mode: bool = True) -> TransformersTextEncoder:
        """Set the mode; a frozen model stays in that of evaluation."""
        super().train(mode)
        if self.frozen:
            self.model.eval()
        return self

    def init_weights(self) -> None:
        """Initialise from ``init_cfg`` if set; transformers has already initialised the weights."""
        if self.init_cfg:
            super().init_weights()

    # ------------------------------------------------------------------------------- tokens

    def set_tokenizer(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Use a tokenizer from now on.

        Raises:
            InputError: The tokenizer has more tokens than the model.
        """
        text = getattr(self.model.config, 'text_config', self.model.config)
        if len(tokenizer) > text.vocab_size:
            raise InputError(
                f'text_encoder: the tokenizer has {len(tokenizer)} tokens, '
                f'but vocab_size of the model is {text.vocab_size}'
            )
        if tokenizer.pad_token_id is None:
            raise InputError('text_encoder: the tokenizer has no token for padding')
        limits = [tokenizer.model_max_length, getattr(text, 'max_position_embeddings', None)]
        limit = min(value for value in limits if value)
        if self.max_tokens is None and limit < 1e6:  # some tokenizers say 1e30
            self.max_tokens = limit
        if self.max_tokens is None or self.max_tokens > limit:
            raise InputError(
                f'text_encoder.max_tokens={self.max_tokens}: expected a number up to {limit:,}'
            )
        self.tokenizer = tokenizer
        self.fixed_length = False
        self.fixed_length = self.dual and self._reads_padding()

    @torch.no_grad()
    def _reads_padding(self) -> bool:
        """Return whether padding changes the embedding of a text although a mask hides it.

        Such a model reads its last place; it was trained with all texts padded to one length,
        without a mask.
        """
        mode = self.model.training
        self.model.eval()
        ids = self.caption_tokenizer()('a')
        rows = (ids, ids + [self._pad_id()] * min(2, self._limit() - len(ids)))
        device = next(self.model.parameters()).device
        alone, padded = (
            self._features(
                torch.tensor([row], device=device), torch.tensor([len(ids)], device=device)
            )
            for row in rows
        )
        self.model.train(mode)
        return not torch.allclose(alone, padded, rtol=1e-3, atol=1e-5)

    def needed_tokenizer(self) -> PreTrainedTokenizerFast:
        """Return the tokenizer.

        Raises:
            RuntimeError: There is none yet.
        """
        if self.tokenizer is None:
            raise RuntimeError(
                'text_encoder has no tokenizer: set tokenizer or pretrained, or load a checkpoint'
            )
        return self.tokenizer

    def _limit(self) -> int:
        self.needed_tokenizer()
        assert self.max_tokens is not None  # set with the tokenizer
        return self.max_tokens

    def _pad_id(self) -> int:
        return int(self.needed_tokenizer().pad_token_id)

    def caption_tokenizer(self) -> Callable[[str], list[int]]:
        """Return a function that maps a caption to its ids, for the workers of a data loader.

        Raises:
            RuntimeError: There is no tokenizer yet.
        """
        return partial(_encode, self.needed_tokenizer(), self._limit())

    def tokenize(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return ids (B, L) and lengths (B,) on the model's device."""
        return self.pad(list(map(self.caption_tokenizer(), captions)))

    def pad(self, token_ids: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """Return ids (B, L), padded, and lengths (B,) of captions' ids.

        L is the length of the longest caption, or the maximum for a model that reads padding.
        """
        padding = self._pad_id()
        rows = [list(ids) for ids in token_ids]
        if self.fixed_length:
            rows = [ids + [padding] * (self._limit() - len(ids)) for ids in rows]
        return pad_ids(rows, padding, next(self.parameters()).device)

    def unknown_words(self, caption: str) -> list[str]:
        """Return the words of a caption that the tokenizer maps to its token for unknown ones."""
        tokenizer = self.needed_tokenizer()
        found = tokenizer(caption, add_special_tokens=False, return_offsets_mapping=True)
        return [
            caption[start:end]
            for token, (start, end) in zip(found['input_ids'], found['offset_mapping'])
            if token == tokenizer.unk_token_id
        ]

    # ----------------------------------------------------------------------------- features

    def _features(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Compute (B, C) with a dual encoder, otherwise (B, L, C)."""
        mask = {}
        if not self.fixed_length:
            mask['attention_mask'] = length_mask(lengths, ids.shape[1]).long()
        if self.dual:
            return self.model.get_text_features(input_ids=ids, **mask)
        return self.model(input_ids=ids, **mask).last_hidden_state

    @torch.no_grad()
    def _width(self) -> int:
        ids = torch.zeros((1, 2), dtype=torch.long)
        return self._features(ids, torch.tensor([2])).shape[-1]

    def forward(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch of captions.

        Args:
            ids: (B, L) int64.
            lengths: (B,), from 1 to L, in any order.

        Returns:
            L2-normalised embeddings and the number of tokens (B,) they were computed from.
            Embeddings are (B, C), or without pooling (B, L, C) and zero beyond the tokens of a
            caption.
        """
        features = self._features(ids, lengths)
        if self.gpool is not None:
            features = self.gpool(features, lengths)[0]
        if self.linear is not None:
            features = self.linear(features)
        features = l2norm(features)
        if features.dim() == 3:
            features = features.masked_fill(~length_mask(lengths, ids.shape[1])[..., None], 0)
        return features, lengths

    # -------------------------------------------------------------------------------- state

    def get_extra_state(self) -> Tensor:
        """Return config and tokenizer as bytes (n,) uint8."""
        content: dict[str, Any] = dict(config=self._config)
        if self.tokenizer is not None:
            tokens = {name: getattr(self.tokenizer, name) for name in _SPECIAL}
            content['tokenizer'] = dict(
                json=_plain(self.tokenizer.backend_tokenizer).to_str(),
                special={name: str(token) for name, token in tokens.items() if token is not None},
                max_length=min(self.tokenizer.model_max_length, 10**9),
            )
        return to_bytes(content)

    def set_extra_state(self, state: Tensor) -> None:
        """Use the tokenizer of a state dict, if there is one."""
        stored = from_bytes(state).get('tokenizer') if state.numel() else None
        if stored:
            self.set_tokenizer(
                PreTrainedTokenizerFast(
                    tokenizer_object=Tokenizer.from_str(stored['json']),
                    model_max_length=stored['max_length'],
                    **stored['special'],
                )
            )


def _plain(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy without the truncation and padding of the last call, which change with it."""
    content = json.loads(tokenizer.to_str())
    return Tokenizer.from_str(json.dumps({**content, 'truncation': None, 'padding': None}))


def _encode(tokenizer: PreTrainedTokenizerFast, max_tokens: int, caption: str) -> list[int]:
    return tokenizer(caption, truncation=True, max_length=max_tokens)['input_ids']


def _read_tokenizer(field: str, source: str) -> PreTrainedTokenizerFast:
    try:
        if Path(source).is_file():
            return PreTrainedTokenizerFast(tokenizer_file=source)
        folder = find_folder(field, source)
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder)
        except (ImportError, OSError, ValueError, KeyError):
            tokenizer = None  # its class may ask for a package that tokenizer.json does without
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        return tokenizer
    except (InputError, FileNotFoundError):
        raise
    except Exception as error:  # a damaged tokenizer.json raises a bare Exception
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f'{field}={source!r}: its tokenizer cannot be read ({reason}); expected a '
            'tokenizer.json'
        ) from None
