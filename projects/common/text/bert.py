"""The text encoder: Hugging Face's BERT with its tokenizer."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor
from transformers import AutoTokenizer, BertConfig, BertModel

from ..errors import InputError
from ..speed.transfer import to_device
from ..weights.loading import record_loading
from ..weights.matching import Match
from .wordpiece import WordPieceTokenizer


@MODELS.register_module()
class BERTTextEncoder(BaseModule):
    """Encode sentences into one feature per token.

    The vocabulary comes from ``vocab_file`` if set, else from ``pretrained``, else it is learned
    from the training sentences (:class:`~projects.common.text.LearnVocabularyHook`). It is part of
    the state dict, so weights always come with the vocabulary that they were trained with.

    Args:
        pretrained: A local folder or a Hugging Face Hub id with BERT weights. None or '' starts
            from random weights and logs this.
        vocab_file: A ``vocab.txt``.
        max_tokens: Number of tokens per sentence, including [CLS] and [SEP]; 40 in the paper
            (section 4.1).
        lowercase: Whether to lowercase the sentences.
        bert: Arguments of ``transformers.BertConfig`` for random weights. Its defaults are those of
            BERT-base (12 layers, 768 channels, 30,522 word pieces).

    Raises:
        ValueError: ``pretrained`` cannot be loaded or has no vocabulary, or the vocabulary has more
            tokens than the embedding has rows.
    """

    def __init__(
        self,
        pretrained: str | None = None,
        vocab_file: str | None = None,
        max_tokens: int = 40,
        lowercase: bool = True,
        bert: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.max_tokens = max_tokens
        self.lowercase = lowercase
        self.tokenizer: WordPieceTokenizer | None = None
        tokenizer = None  # read first: weights are large
        if vocab_file:
            tokenizer = WordPieceTokenizer.from_file(vocab_file, lowercase)
        elif pretrained:
            tokenizer = WordPieceTokenizer(_pretrained_vocabulary(pretrained), lowercase)
        if pretrained:
            self.bert = _load_pretrained(pretrained)
        else:
            print_log('BERT starts from random weights: `pretrained` is not set', 'current')
            self.bert = BertModel(BertConfig(**(bert or {})), add_pooling_layer=False)
        if tokenizer is not None:
            self.set_tokenizer(tokenizer)

    @classmethod
    def weight_semantics(cls, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the weights mean; see :mod:`projects.common.weights.semantics`."""
        meaning = {'lowercase': arguments['lowercase']}
        if arguments.get('bert') and not arguments.get('pretrained'):
            meaning['bert.num_attention_heads'] = arguments['bert'].get('num_attention_heads')
        return meaning

    @property
    def out_channels(self) -> int:
        """Return the number of channels of a token's feature."""
        return self.bert.config.hidden_size

    def set_tokenizer(self, tokenizer: WordPieceTokenizer) -> None:
        """Use ``tokenizer`` from now on.

        Raises:
            ValueError: The tokenizer has more tokens than the embedding has rows.
        """
        rows = self.bert.config.vocab_size
        if len(tokenizer) > rows:
            raise InputError(
                f'text_encoder: the vocabulary has {len(tokenizer)} tokens, '
                f'but bert.vocab_size is {rows}'
            )
        self.tokenizer = tokenizer

    def needed_tokenizer(self) -> WordPieceTokenizer:
        """Return the tokenizer.

        Raises:
            RuntimeError: There is no vocabulary yet.
        """
        if self.tokenizer is None:
            raise RuntimeError(
                'text_encoder has no vocabulary: set vocab_file or pretrained, load a checkpoint, '
                "or add dict(type='LearnVocabularyHook') to custom_hooks to learn one"
            )
        return self.tokenizer

    def too_long(self, sentence: str) -> bool:
        """Return whether a sentence has more than ``max_tokens`` tokens."""
        return bool(self.needed_tokenizer()([sentence], self.max_tokens + 1)[1].all())

    def tokenize(self, sentences: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return token ids and attention mask, both (B, max_tokens) int64 on the model's device.

        Raises:
            RuntimeError: There is no vocabulary yet.
        """
        tokenizer = self.needed_tokenizer()
        both = torch.stack(tokenizer(sentences, self.max_tokens))
        ids, mask = to_device(both, next(self.parameters()).device)
        return ids, mask

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Compute the last layer's features (B, L, C) of tokens (B, L).

        ``attention_mask`` is 0 on padding.
        """
        # A mask for every query. transformers would read one of two dimensions on the host, to drop
        # it where nothing is padded.
        mask = attention_mask[:, None].expand(-1, input_ids.shape[1], -1)
        return self.bert(input_ids=input_ids, attention_mask=mask).last_hidden_state

    def init_weights(self) -> None:
        """Initialize from ``init_cfg`` if set; transformers has already initialized the weights."""
        if self.init_cfg:
            super().init_weights()

    def get_extra_state(self) -> Tensor:
        """Return the vocabulary as bytes, (n,) uint8.

        It is a tensor because checkpoints that contain only tensors can be loaded everywhere.
        """
        tokens = self.tokenizer.vocabulary if self.tokenizer else []
        return torch.tensor(list('\n'.join(tokens).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Load the vocabulary of a state dict, unless it is empty."""
        if state.numel():
            tokens = bytes(state.cpu().tolist()).decode().split('\n')
            self.set_tokenizer(WordPieceTokenizer(tokens, self.lowercase))


def _pretrained_vocabulary(source: str) -> list[str]:
    """Return the tokens of a folder or hub id, in the order of their ids."""
    _load(BertConfig, source)
    folder, files = Path(source), ('vocab.txt', 'tokenizer.json')
    if folder.is_dir() and not any((folder / name).is_file() for name in files):
        raise InputError(
            f'text_encoder.pretrained={source!r}: the folder has no vocabulary, {files[0]} or '
            f'{files[1]}; copy it there, or set text_encoder.vocab_file'
        )
    try:
        vocabulary = AutoTokenizer.from_pretrained(source).get_vocab()
    except Exception as error:  # a damaged tokenizer.json raises a bare Exception
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f'text_encoder.pretrained={source!r}: its vocabulary cannot be read ({reason}); '
            'text_encoder.vocab_file takes a vocab.txt'
        ) from None
    return sorted(vocabulary, key=vocabulary.__getitem__)


def _load(kind: Any, source: str, **options: Any) -> Any:
    """Call ``from_pretrained`` of a class of transformers."""
    if os.sep in source and not Path(source).is_dir() and source.count('/') != 1:
        raise FileNotFoundError(f'text_encoder.pretrained: no folder {source}')
    try:
        if Path(source).is_dir() and not Path(source, 'config.json').is_file():
            raise FileNotFoundError('no config.json')
        return kind.from_pretrained(source, **options)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f'text_encoder.pretrained={source!r}: neither a folder with BERT weights '
            f'nor a hub id that can be reached ({reason})'
        ) from None


def _load_pretrained(source: str) -> BertModel:
    model, loaded = _load(BertModel, source, add_pooling_layer=False, output_loading_info=True)
    kind = BertConfig.get_config_dict(source)[0].get('model_type', 'bert')
    if kind != 'bert':  # RoBERTa has tensors of the same names, and counts positions from 2
        raise InputError(
            f'text_encoder.pretrained={source!r}: a model of type {kind}, expected bert; '
            'text_encoder.type=TransformersTokenEncoder loads other text models'
        )
    missing = sorted(loaded['missing_keys'])
    total = len(model.state_dict())
    if missing:  # transformers would initialize them randomly, with a warning
        raise InputError(
            f'text_encoder.pretrained={source!r}: {total - len(missing)} of {total} tensors of '
            f'BERT match; the first that does not is {missing[0]}, which the weights lack'
        )
    record_loading(source, type(model).__name__, Match(total, sorted(model.state_dict())))
    return model
