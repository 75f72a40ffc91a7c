"""Any text model of transformers with its tokenizer, both of which a checkpoint holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from ..errors import InputError
from ..speed.transfer import to_device
from ..weights.sources import build_model, find_folder, from_bytes, plain_config, to_bytes

__all__ = ['TransformersText', 'TransformersTokenEncoder']

_SPECIAL = ('bos_token', 'eos_token', 'unk_token', 'sep_token', 'pad_token', 'cls_token')


class TransformersText(BaseModule):
    """Hold a text model of transformers and its tokenizer; the base of the encoders.

    The config of the model and its tokenizer are part of the state dict, so checkpoints are used
    without the hub. Of a dual encoder (a model with ``get_text_features``), only the half of the
    texts is kept.

    Args:
        pretrained: A folder, ``package:NAME/PATH`` for a folder in an installed package, or a
            Hugging Face Hub id.
        config: Config for random weights, with its ``model_type``, instead of ``pretrained``.
        tokenizer: A ``tokenizer.json``, or a folder or hub id with one. None uses that of
            ``pretrained``; with ``config``, a checkpoint has to bring it.
        max_tokens: Tokens of a text at most, special ones included. None is what model and
            tokenizer allow.

    Raises:
        FileNotFoundError: A folder does not exist.
        InputError: The model or the tokenizer cannot be loaded.
    """

    def __init__(
        self,
        pretrained: str | None = None,
        config: Mapping[str, Any] | None = None,
        tokenizer: str | None = None,
        max_tokens: int | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.model: Any = build_model('text_encoder', pretrained, config, ('vis', 'image'))
        self._config = plain_config(self.model)
        self.max_tokens = max_tokens
        self.tokenizer: PreTrainedTokenizerFast | None = None
        source = tokenizer or pretrained
        if source is not None:
            field = 'text_encoder.tokenizer' if tokenizer else 'text_encoder.pretrained'
            self.set_tokenizer(_read_tokenizer(field, source))

    @staticmethod
    def stored_arguments(state: Tensor) -> dict[str, Any]:
        """Return the arguments that build the model for a state dict with this extra state."""
        return dict(pretrained=None, tokenizer=None, config=from_bytes(state)['config'])

    @property
    def dual(self) -> bool:
        """Return whether the model is half of a dual encoder."""
        return hasattr(self.model, 'get_text_features')

    def init_weights(self) -> None:
        """Initialise from ``init_cfg`` if set; transformers has already initialised the weights."""
        if self.init_cfg:
            super().init_weights()

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


@MODELS.register_module()
class TransformersTokenEncoder(TransformersText):
    """Encode sentences into one feature per token, in place of :class:`.BERTTextEncoder`.

    RoBERTa, MPNet, DistilBERT, MiniLM, the multilingual ones and any other text model that
    ``AutoModel`` builds and that has a fast tokenizer, which also decides about lower case.

    Args:
        pretrained: See :class:`TransformersText`.
        config: See :class:`TransformersText`.
        tokenizer: See :class:`TransformersText`.
        max_tokens: Number of tokens per sentence, special ones included.

    Raises:
        FileNotFoundError: A folder does not exist.
        InputError: The model or the tokenizer cannot be loaded, or the model is a dual encoder,
            whose tokens are not trained.
    """

    def __init__(
        self,
        pretrained: str | None = None,
        config: Mapping[str, Any] | None = None,
        tokenizer: str | None = None,
        max_tokens: int = 40,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(pretrained, config, tokenizer, max_tokens, init_cfg)
        if self.dual:
            raise InputError(
                f'text_encoder: {type(self.model).__name__} is a dual encoder, which learns an '
                'embedding of the whole text; expected a model of tokens, such as BERT or RoBERTa'
            )

    @property
    def out_channels(self) -> int:
        """Return the number of channels of a token's feature."""
        return self.model.config.hidden_size

    def too_long(self, sentence: str) -> bool:
        """Return whether a sentence has more than ``max_tokens`` tokens."""
        return len(self.needed_tokenizer()(sentence)['input_ids']) > (self.max_tokens or 0)

    def tokenize(self, sentences: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return token ids and attention mask, both (B, max_tokens) int64 on the model's device.

        Raises:
            RuntimeError: There is no tokenizer yet.
        """
        found = self.needed_tokenizer()(
            list(sentences),
            padding='max_length',
            truncation=True,
            max_length=self.max_tokens,
            return_tensors='pt',
        )
        both = torch.stack([found['input_ids'], found['attention_mask']])
        ids, mask = to_device(both, next(self.parameters()).device)
        return ids, mask

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Compute the last layer's features (B, L, C) of tokens (B, L).

        ``attention_mask`` is 0 on padding.
        """
        return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def _plain(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy without the truncation and padding of the last call, which change with it."""
    content = json.loads(tokenizer.to_str())
    return Tokenizer.from_str(json.dumps({**content, 'truncation': None, 'padding': None}))


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
