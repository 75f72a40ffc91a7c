"""SelHN as the loss of somebody else's model: by config alone, and in a plain PyTorch loop.

One model lies in a folder of its own, with a loss of its own, and imports nothing of this project;
the other is mmpretrain's.
"""

import importlib
import json
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from projects.rvse.losses import SelHNLoss

MARGIN, EPS = 0.2, 0.01

HOST_MODULE = """
import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch.utils.data import TensorDataset
from {scope}.registry import DATASETS, MODELS


@MODELS.register_module()
class HostInfoNCE(torch.nn.Module):
    def forward(self, scores):
        target = torch.arange(len(scores))
        return F.cross_entropy(scores / 0.07, target) + F.cross_entropy(scores.T / 0.07, target)


@MODELS.register_module()
class HostRetriever(BaseModel):
    def __init__(self, channels, loss):
        super().__init__()
        self.image_encoder = torch.nn.Linear(12, channels)
        self.text_encoder = torch.nn.EmbeddingBag(20, channels)
        self.loss_module = MODELS.build(loss)

    def forward(self, images, words, mode='tensor'):
        images = F.normalize(self.image_encoder(images), dim=1)
        scores = images @ F.normalize(self.text_encoder(words), dim=1).T
        return dict(loss=self.loss_module(scores)) if mode == 'loss' else scores


@DATASETS.register_module()
class HostPairs(TensorDataset):
    def __init__(self, count):
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(count, 12, generator=generator)
        super().__init__(images, torch.randint(20, (count, 4), generator=generator))
"""

HOST_CONFIG = """
default_scope = '{scope}'
custom_imports = dict(imports=['host_of_{scope}'], allow_failed_imports=False)
model = dict(type='HostRetriever', channels=16, loss=dict(type='HostInfoNCE'))
train_dataloader = dict(
    batch_size=8,
    dataset=dict(type='HostPairs', count=8),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=40)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=1.0))
default_hooks = dict(logger=dict(type='LoggerHook', interval=1))
randomness = dict(seed=0)
log_level = 'WARNING'
"""

# All that its user writes.
LEAF_CONFIG = """
_base_ = './host.py'
custom_imports = dict(
    imports=['host_of_{scope}', 'projects.rvse.register'], allow_failed_imports=False
)
model = dict(loss=dict(_delete_=True, type='SelHNLoss'))
"""


def selhn_by_hand(S: np.ndarray) -> float:
    """Eq. 9 to 12, term by term: the mean over anchors and both directions."""
    B = len(S)
    terms = []
    for scores in (S, S.T):
        for i in range(B):
            negatives = [scores[i, j] for j in range(B) if j != i]
            hardest = max(negatives)
            if abs(hardest - scores[i, i]) > EPS:  # Eq. 11
                terms.append(max(hardest - scores[i, i] + MARGIN, 0))
            else:  # Eq. 12
                terms.append(sum(max(n - scores[i, i] + MARGIN, 0) for n in negatives) / B)
    return sum(terms) / len(terms)


def float64(S: torch.Tensor) -> np.ndarray:
    return S.detach().double().numpy()


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmdet'])
def test_another_projects_model_by_config(tmp_path, monkeypatch, scope):
    (tmp_path / f'host_of_{scope}.py').write_text(HOST_MODULE.format(scope=scope))
    (tmp_path / 'host.py').write_text(HOST_CONFIG.format(scope=scope))
    (tmp_path / 'leaf.py').write_text(LEAF_CONFIG.format(scope=scope))
    monkeypatch.syspath_prepend(str(tmp_path))

    cfg = Config.fromfile(tmp_path / 'leaf.py')
    cfg.work_dir = str(tmp_path / 'work')
    cfg.experiment_name = f'drop_in_{scope}'
    registries = importlib.import_module(f'{scope}.registry')
    try:
        runner = Runner.from_cfg(cfg)
        model = runner.model
        assert type(model.loss_module) is SelHNLoss
        batch = runner.train_dataloader.dataset[:]
        before = {key: value.clone() for key, value in model.state_dict().items()}
        untrained = float64(model(*batch))
        runner.train()
    finally:
        for name in ('HostRetriever', 'HostInfoNCE'):
            registries.MODELS.module_dict.pop(name)
        registries.DATASETS.module_dict.pop('HostPairs')

    (log,) = tmp_path.glob('work/*/vis_data/scalars.json')
    losses = [json.loads(line)['loss'] for line in log.read_text().splitlines()]
    assert len(losses) == 40
    assert losses[0] == pytest.approx(selhn_by_hand(untrained), rel=1e-5)
    assert selhn_by_hand(float64(model(*batch))) < losses[0] / 2
    for key, value in model.state_dict().items():
        assert not torch.equal(value, before[key]), key


def test_a_model_of_mmpretrain_by_config():
    """Barlow Twins compares all channels of one view with all of another, each with its own."""
    from mmpretrain.models import BarlowTwins
    from mmpretrain.registry import MODELS

    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    neck = dict(in_channels=120, hid_channels=16, out_channels=6, num_layers=2)
    model = MODELS.build(
        dict(
            type='BarlowTwins',
            data_preprocessor=dict(type='SelfSupDataPreprocessor'),
            backbone=dict(type='LeNet5'),
            neck=dict(type='NonLinearNeck', with_avg_pool=True, **neck),
            head=dict(
                type='LatentCrossCorrelationHead', in_channels=6, loss=dict(type='SelHNLoss')
            ),
        )
    )
    assert type(model) is BarlowTwins
    views = list(torch.randn(2, 10, 1, 32, 32))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    with torch.no_grad():
        first, second = (model.neck(model.backbone(view))[0] for view in views)
        matrix = F.batch_norm(first, None, None, training=True).T
        matrix = matrix @ F.batch_norm(second, None, None, training=True) / 10
    loss = model(views, [], mode='loss')['loss']
    assert loss.item() == pytest.approx(selhn_by_hand(float64(matrix)), rel=1e-4)
    before = {key: value.clone() for key, value in model.named_parameters()}
    loss.backward()
    optimizer.step()
    for key, value in model.named_parameters():
        assert not torch.equal(value, before[key]), key
    assert model(views, [], mode='loss')['loss'] < loss


def loop_of_the_readme(repo_root) -> str:
    text = (repo_root / 'projects' / 'rvse' / 'README.md').read_text(encoding='utf-8')
    section = text.split('\n## SelHN in your own project\n')[1].split('\n## ')[0]
    return re.search(r'```python\n(.*?)```', section, re.DOTALL)[1]


def test_the_loop_of_the_readme(repo_root):
    code = loop_of_the_readme(repo_root)
    imports = ('import ', 'from ')
    loop = [line for line in code.splitlines() if line and not line.startswith(imports)]
    assert len(loop) == 8

    torch.manual_seed(0)
    images, words = torch.randn(32, 12), torch.randint(20, (32, 4))
    encoders = dict(
        image_encoder=torch.nn.Sequential(
            torch.nn.Linear(12, 32), torch.nn.ReLU(), torch.nn.Linear(32, 16)
        ),
        text_encoder=torch.nn.EmbeddingBag(20, 16),
    )

    def scores() -> np.ndarray:
        v = F.normalize(encoders['image_encoder'](images), dim=1)
        return float64(v @ F.normalize(encoders['text_encoder'](words), dim=1).T)

    untrained = scores()
    batches = [(images[i : i + 8], words[i : i + 8]) for i in range(0, 32, 8)]
    exec(code, dict(encoders, loader=batches * 100))
    trained = scores()
    assert selhn_by_hand(trained) < selhn_by_hand(untrained) / 2
    margin = [np.diag(S).mean() - S[~np.eye(32, dtype=bool)].mean() for S in (untrained, trained)]
    assert margin[1] > margin[0] + MARGIN
