"""A model, a data set and a config that train in a second, with randomness everywhere."""

import random
import time
from pathlib import Path

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from torch import nn


@DATASETS.register_module()
class ToyDataset(torch.utils.data.Dataset):
    """Points and a label, each disturbed by all three generators."""

    def __init__(self, size: int = 24, data_root: str | None = None, seconds: float = 0.0) -> None:
        if data_root is not None and not Path(data_root).is_dir():
            raise FileNotFoundError(f'ToyDataset: data_root {data_root}: no such folder')
        self.size = size
        self.seconds = seconds  # time that loading a sample takes

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict:
        time.sleep(self.seconds)
        noise = random.random() + np.random.rand() + torch.rand(())
        x = torch.full((4,), float(index)) / self.size + noise
        return dict(inputs=x, target=torch.tensor(float(index % 2)))


@MODELS.register_module()
class ToyModel(BaseModel):
    """Two layers with dropout between."""

    def __init__(self, width: int = 8, dropout: float = 0.5, **kwargs) -> None:
        super().__init__(**kwargs)
        self.layers = nn.Sequential(nn.Linear(4, width), nn.Dropout(dropout), nn.Linear(width, 1))

    def forward(self, inputs, target, mode='tensor'):
        out = self.layers(inputs).squeeze(-1)
        if mode == 'loss':
            return dict(loss=(out - target).square().mean())
        return (
            [dict(pred_value=o, gt_value=t) for o, t in zip(out, target)]
            if mode == 'predict'
            else out
        )


@METRICS.register_module()
class ToyMetric(BaseMetric):
    default_prefix = 'toy'

    def process(self, data_batch, data_samples) -> None:
        self.results += [float((s['pred_value'] - s['gt_value']).abs()) for s in data_samples]

    def compute_metrics(self, results: list) -> dict:
        return dict(score=1 / (1 + sum(results) / len(results)))


CONFIG = """
_base_ = ['{base}']
custom_imports = dict(imports=['toy', 'projects.common.register'], allow_failed_imports=False)
default_scope = 'mmengine'
data_root = None
train_sampler = dict(type='DefaultSampler', shuffle=True)
model = dict(type='ToyModel')
common = dict(batch_size=4, num_workers=0, collate_fn=dict(type='default_collate'))
train_dataloader = dict(
    sampler=train_sampler, dataset=dict(type='ToyDataset', data_root=data_root), **common)
val_dataloader = dict(
    sampler=dict(type='DefaultSampler', shuffle=False), dataset=dict(type='ToyDataset', size=8),
    **common)
test_dataloader = val_dataloader
val_evaluator = dict(type='ToyMetric')
test_evaluator = val_evaluator
train_cfg = dict(by_epoch=True, max_epochs=4)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.01))
param_scheduler = dict(type='PolynomialLR', power=0.9, by_epoch=False)
default_hooks = dict(
    checkpoint=dict(save_best='toy/score', rule='greater'), logger=dict(interval=1))
randomness = dict(seed=3)
"""


def write_config(folder: Path, extra: str = '') -> Path:
    """Write the toy config, with `extra` lines at its end, into `folder`."""
    base = Path(__file__).resolve().parents[2] / 'configs/_base_/default_runtime.py'
    path = folder / 'toy_config.py'
    path.write_text(CONFIG.format(base=base) + extra)
    return path
