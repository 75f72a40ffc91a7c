"""A hook that builds the word vocabulary from the training captions if there is none."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from projects.common.build import copies_of, refresh_averages, unwrapped
from projects.rvse.text import Vocabulary

__all__ = ['BuildVocabularyHook']


@HOOKS.register_module()
class BuildVocabularyHook(Hook):
    """Set the vocabulary of a BiGRU text encoder to that of the training captions.

    An encoder that already has a vocabulary, from a file or a checkpoint, is left alone. The result
    only depends on the captions, so all processes build the same vocabulary. Copies of the encoder
    in averaged models, which ``EMAHook`` creates before training, receive it as well.

    Args:
        min_count: See :meth:`projects.rvse.text.Vocabulary.build`.
    """

    def __init__(self, min_count: int = 4) -> None:
        self.min_count = min_count

    def before_train(self, runner) -> None:
        """Build the vocabulary if the encoder has none."""
        model = unwrapped(runner.model)
        encoder = model.text_encoder
        if encoder.vocabulary is None:
            captions = runner.train_dataloader.dataset.captions()
            vocabulary = Vocabulary.build(captions, self.min_count)
            encoder.set_vocabulary(vocabulary)
            runner.logger.info(f'a vocabulary of {len(vocabulary)} words')
        for copy in copies_of(encoder, runner):
            if copy.vocabulary is None:
                copy.set_vocabulary(encoder.vocabulary)
        refresh_averages(runner)
