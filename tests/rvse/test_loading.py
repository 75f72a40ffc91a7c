"""Batches as the loaders make them: stacked inputs and tokenized captions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.runner import Runner
from torch.utils._python_dispatch import TorchDispatchMode

import projects.rvse.register  # noqa: F401
from projects.rvse.datasets import stack_pairs

ROOT = Path(__file__).resolve().parents[2]
LINES = [f'a {color} dog {verb} .' for color in ('red', 'blue') for verb in ('runs', 'sits')] * 10


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('precomp')
    generator = np.random.default_rng(0)
    for split in ('train', 'dev', 'test'):
        np.save(folder / f'{split}_ims.npy', generator.normal(size=(8, 4, 12)).astype('f4'))
        (folder / f'{split}_caps.txt').write_text('\n'.join(LINES) + '\n')
    return folder


def runner_of(name: str, data: Path, work_dir: Path, tokenize: bool = True) -> Runner:
    cfg = Config.fromfile(ROOT / 'configs/rvse' / f'{name}.py')
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = f'{name}_{work_dir.name}_{tokenize}'
    cfg.log_level = 'ERROR'
    cfg.randomness.seed = 0
    cfg.model.image_encoder.update(in_channels=12, channels=16)
    cfg.model.text_encoder.update(channels=16)
    if cfg.model.text_encoder.type == 'BiGRUTextEncoder':
        cfg.model.text_encoder.update(word_channels=8)
    else:
        bert = dict(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        )
        cfg.model.text_encoder.encoder.update(bert=bert)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(batch_size=8, num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(data)
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    cfg.param_scheduler = None
    if not tokenize:
        del cfg.default_hooks['tokenize']
    return Runner.from_cfg(cfg)


@pytest.mark.parametrize('shapes', [[(3, 4)] * 3, [(3, 4), (2, 4), (3, 4)]])
def test_equal_inputs_are_stacked(shapes):
    batch = [dict(inputs=torch.rand(shape), data_samples=i) for i, shape in enumerate(shapes)]
    data, plain = stack_pairs(batch), pseudo_collate(batch)
    assert isinstance(data['inputs'], torch.Tensor) == (len(set(shapes)) == 1)
    assert all(torch.equal(a, b) for a, b in zip(data['inputs'], plain['inputs'], strict=True))
    assert data['data_samples'] == plain['data_samples']


@pytest.mark.parametrize(
    'name', ['rvsepp_selhn_1xb128-30e_f30k', 'scan-t2i-avg_selhn_1xb128-30e_f30k']
)
def test_captions_are_tokenized_in_the_loader(name, data, tmp_path, monkeypatch):
    """The weights after an epoch are the same, and the model does not tokenize while it trains."""
    weights = []
    for early in (True, False):
        runner = runner_of(name, data, tmp_path / str(early), early)
        calls = []
        tokenize = runner.model.text_encoder.tokenize

        def counted(captions, model=runner.model, calls=calls, tokenize=tokenize):
            calls.append(model.training)
            return tokenize(captions)

        monkeypatch.setattr(runner.model.text_encoder, 'tokenize', counted)
        runner.train()
        assert calls.count(True) == (0 if early else 5)
        assert calls.count(False) > 0
        weights.append(runner.model.state_dict())
    assert weights[0].keys() == weights[1].keys()
    for key, value in weights[0].items():
        assert torch.equal(value, weights[1][key]), key


class _Transfers(TorchDispatchMode):
    """Count copies of tensors of the batch, and tensors made of lists."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if 'lift_fresh' in str(func):
            self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('name', ['rvsepp_selhn_1xb128-30e_f30k'])
def test_a_step_makes_a_handful_of_tensors(name, data, tmp_path):
    """Tensors that a step makes of lists, and copies to a GPU, do not grow with the batch."""
    runner = runner_of(name, data, tmp_path)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.call_hook('before_train')
    batch = next(iter(runner.train_dataloader))
    assert isinstance(batch['inputs'], torch.Tensor)
    model = runner.model.train()
    model(**model.data_preprocessor(batch, True), mode='loss')  # tables are made once
    with _Transfers() as transfers:
        model(**model.data_preprocessor(batch, True), mode='loss')
    assert transfers.count <= 5
