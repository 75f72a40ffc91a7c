"""Hooks in a real training loop."""

import json

import pytest
import torch
from mmengine.registry import MODELS
from mmengine.runner import Runner
from mmpretrain.structures import DataSample

import projects.rvse.register  # noqa: F401
from projects.rvse.losses import HardNegativeLoss, ITMTripletLoss
from projects.rvse.text import Vocabulary

CAPTIONS = ['a dog runs', 'two dogs run fast', 'a red ball', 'grass']


def model():
    torch.manual_seed(0)
    matcher = MODELS.build(
        dict(
            type='ImageTextMatcher',
            image_encoder=dict(type='RegionFC', in_channels=12, channels=16, pool=dict(type='GPO')),
            text_encoder=dict(
                type='BiGRUTextEncoder',
                vocab_size=20,
                word_channels=8,
                channels=16,
                pool=dict(type='GPO'),
            ),
            similarity=dict(type='CosineSimilarity'),
            loss=dict(type='HardNegativeLoss'),
        )
    )
    matcher.text_encoder.set_vocabulary(Vocabulary.build(CAPTIONS, min_count=1))
    return matcher


def batch() -> list[dict]:
    generator = torch.Generator().manual_seed(1)
    return [
        dict(inputs=torch.randn(5, 12, generator=generator), data_samples=DataSample(text=text))
        for text in CAPTIONS
    ]


def train(work_dir, hooks: list[dict], epochs: int, lr: float):
    matcher = model()
    seen = []
    own_loss = matcher.loss

    def loss(inputs, data_samples):
        seen.append(type(matcher.criterion))
        return own_loss(inputs, data_samples)

    matcher.loss = loss
    runner = Runner(
        model=matcher,
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=4,
            dataset=batch(),
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=lr), clip_grad=dict(max_norm=1e-3)),
        custom_hooks=hooks,
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        default_scope='mmpretrain',
        experiment_name=f'rvse_{work_dir.name}_{epochs}',
    )
    runner.train()
    (log,) = work_dir.glob('*/vis_data/scalars.json')
    matcher.loss = own_loss
    return matcher, seen, [json.loads(line) for line in log.read_text().splitlines()]


def test_gradient_norm_is_logged_unclipped(tmp_path):
    matcher, _, lines = train(tmp_path, [dict(type='GradientNormHook')], epochs=2, lr=0.0)
    matcher.zero_grad()
    data = batch()
    losses = matcher.loss([d['inputs'] for d in data], [d['data_samples'] for d in data])
    losses['loss'].backward()
    norm = matcher.image_encoder.fc.weight.grad.norm().item()
    assert norm > 1e-3  # the clip would show
    assert len(lines) == 2
    for line in lines:
        assert line['fc_grad_norm'] == pytest.approx(norm, rel=1e-4)
        assert line['loss'] == pytest.approx(losses['loss'].item(), rel=1e-4)
        assert line['delta_s'] == pytest.approx(losses['delta_s'].item(), rel=1e-4)
        assert line['triplet_share'] == 0


def test_unknown_parameter_is_named(tmp_path):
    hook = dict(type='GradientNormHook', parameter='fc.weight')
    with pytest.raises(ValueError, match="parameter='fc.weight', which ImageTextMatcher does not"):
        train(tmp_path, [hook], epochs=1, lr=0.0)


def test_warm_up_uses_the_other_loss_first(tmp_path):
    hook = dict(type='LossWarmUpHook', loss=dict(type='ITMTripletLoss'), epochs=1)
    _, seen, lines = train(tmp_path, [hook], epochs=3, lr=0.01)
    assert seen == [ITMTripletLoss, HardNegativeLoss, HardNegativeLoss]
    assert [line['triplet_share'] for line in lines] == [1, 0, 0]


def test_vocabulary_of_the_training_captions(tmp_path):
    from types import SimpleNamespace

    from mmengine.logging import MMLogger

    from projects.rvse.engine import BuildVocabularyHook

    matcher = model()
    own = matcher.text_encoder.vocabulary
    dataset = SimpleNamespace(captions=lambda: ['a cat', 'a cat', 'a bird'])
    runner = SimpleNamespace(
        model=matcher,
        train_dataloader=SimpleNamespace(dataset=dataset),
        logger=MMLogger.get_current_instance(),
    )
    hook = BuildVocabularyHook(min_count=2)
    hook.before_train(runner)
    assert matcher.text_encoder.vocabulary is own
    matcher.text_encoder.vocabulary = None
    hook.before_train(runner)
    assert matcher.text_encoder.vocabulary.words[4:] == ['a', 'cat']
