"""Averaged models, which are copied before a vocabulary is learnt, hold it in their checkpoints."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.model import ExponentialMovingAverage
from torch import nn

from projects.common.text import BERTTextEncoder, LearnVocabularyHook
from projects.rvse.engine import BuildVocabularyHook
from projects.rvse.models import BiGRUTextEncoder

SENTENCES = ['a red circle', 'the blue square', 'a red square left of it'] * 3


class Matcher(nn.Module):
    """A model with a text encoder, and perhaps a teacher that averages the encoder."""

    def __init__(self, encoder: nn.Module, teacher: bool) -> None:
        super().__init__()
        self.text_encoder = encoder
        if teacher:
            self.teacher = ExponentialMovingAverage(encoder, momentum=0.5)


def pieces():
    small = dict(vocab_size=60, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
                 intermediate_size=8)  # fmt: skip
    return BERTTextEncoder(bert=small), LearnVocabularyHook(vocab_size=60)


def words():
    return BiGRUTextEncoder(vocab_size=60, word_channels=4, channels=4), BuildVocabularyHook(1)


class Sentences:
    def __len__(self) -> int:
        return len(SENTENCES)

    def get_data_info(self, index: int) -> dict:
        return dict(text=SENTENCES[index])

    def captions(self) -> list[str]:
        return SENTENCES


@pytest.mark.parametrize('made', [pieces, words])
@pytest.mark.parametrize('teacher', [False, True])
@pytest.mark.parametrize(
    'options', [dict(), dict(update_buffers=True), dict(begin_iter=5)], ids=['', 'buffers', 'later']
)
def test_checkpoints_have_the_vocabulary(made, teacher, options, tmp_path) -> None:
    encoder, learn = made()
    model, ema = Matcher(encoder, teacher), EMAHook(**options)
    runner = SimpleNamespace(
        model=model,
        hooks=[ema, learn],
        iter=0,
        max_iters=10,
        work_dir=str(tmp_path),
        logger=SimpleNamespace(info=print),
        train_dataloader=SimpleNamespace(dataset=Sentences()),
    )
    ema.before_run(runner)  # copies a model without a vocabulary
    for hook in (ema, learn):
        hook.before_train(runner)
    for runner.iter in range(2):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 1
        ema.after_train_iter(runner, 0)
    checkpoint = dict(state_dict=model.state_dict())
    ema.before_save_checkpoint(runner, checkpoint)
    keys = [key for key in checkpoint['state_dict'] if key.endswith('_extra_state')]
    assert len(keys) == 1 + teacher
    for key in keys:
        assert checkpoint['state_dict'][key].numel() > 20
        assert torch.equal(
            checkpoint['state_dict'][key], checkpoint['ema_state_dict'][f'module.{key}']
        )
    fresh = Matcher(made()[0], teacher)
    fresh.load_state_dict(checkpoint['state_dict'])
    tokens, _ = fresh.text_encoder.tokenize(['a red square'])
    assert torch.equal(tokens, encoder.tokenize(['a red square'])[0])
