"""Learn word pieces from the training sentences if there is no vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ..build import copies_of, refresh_averages, unwrapped
from .wordpiece import WordPieceTokenizer


@HOOKS.register_module()
class LearnVocabularyHook(Hook):
    """Learn a vocabulary for the model's text encoder from the training sentences.

    The hook does nothing if the encoder already has a vocabulary (from a file, pretrained weights
    or a resumed checkpoint). The vocabulary is also written to ``<work_dir>/vocab.txt``. Copies of
    the encoder in averaged models, which ``EMAHook`` creates before training, receive it as well.

    Args:
        vocab_size: Maximum number of word pieces to learn.

    Raises:
        RuntimeError: The encoder has no vocabulary and is not BERT, whose vocabulary is learned.
    """

    def __init__(self, vocab_size: int = 4096) -> None:
        self.vocab_size = vocab_size

    def before_train(self, runner) -> None:
        """Learn the vocabulary in the main process and send it to all others."""
        model = unwrapped(runner.model)
        encoder = model.text_encoder
        if encoder.tokenizer is None:
            if not hasattr(encoder, 'lowercase'):  # its tokenizer is not made of word pieces
                encoder.needed_tokenizer()
            self._learn(runner, encoder)
        for copy in copies_of(encoder, runner):
            if copy.tokenizer is None:
                copy.set_tokenizer(encoder.tokenizer)
        refresh_averages(runner)

    def _learn(self, runner, encoder: Any) -> None:
        learnt: list = [None]
        if is_main_process():
            dataset = runner.train_dataloader.dataset
            sentences = (dataset.get_data_info(i)['text'] for i in range(len(dataset)))
            tokenizer = WordPieceTokenizer.learn(sentences, self.vocab_size, encoder.lowercase)
            tokenizer.save(Path(runner.work_dir) / 'vocab.txt')
            learnt = [tokenizer.vocabulary]
        broadcast_object_list(learnt)
        encoder.set_tokenizer(WordPieceTokenizer(learnt[0], encoder.lowercase))
        runner.logger.info(f'learnt {len(learnt[0])} word pieces from the training sentences')
