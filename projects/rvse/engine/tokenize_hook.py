"""A hook that lets the workers of the training loader tokenize captions."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from projects.common.build import unwrapped

__all__ = ['TokenizeInLoaderHook']


@HOOKS.register_module()
class TokenizeInLoaderHook(Hook):
    """Tokenize training captions in the loader, not between two steps of the model.

    Text encoders without ``caption_tokenizer`` and ``pad``, and data sets other than this
    project's, are left alone: their captions are tokenized by the model.
    """

    priority = 'LOW'  # runs after the hooks that build the vocabulary

    def before_train(self, runner) -> None:
        """Give the training set the tokenizer of the model."""
        encoder: Any = getattr(unwrapped(runner.model), 'text_encoder', None)
        if not (hasattr(encoder, 'caption_tokenizer') and hasattr(encoder, 'pad')):
            return
        dataset: Any = runner.train_dataloader.dataset
        while hasattr(dataset, 'dataset'):  # wrappers may pass attributes through
            dataset = dataset.dataset
        if hasattr(dataset, 'tokenize'):
            dataset.tokenize = encoder.caption_tokenizer()
