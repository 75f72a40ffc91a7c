"""Images grow at the given iterations, also after a resume."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

from projects.common.errors import InputError
from projects.plvl.datasets.transforms import GroundingResize
from projects.plvl.engine import ProgressiveResizeHook


class Images(Dataset):
    def __init__(self, *transforms) -> None:
        self.pipeline = Compose(list(transforms))

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(self.pipeline(dict(img=np.zeros((40, 60, 3), np.uint8)))['img'])


class Repeated(Dataset):
    """Wrap a dataset, as MMEngine's RepeatDataset does."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.dataset[index]


class Recorder(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, inputs, mode='loss'):
        self.sizes.append(tuple(inputs.shape[1:3]))
        return dict(loss=self.weight * 1.0)


def train(tmp_path, sizes, iterations, dataset=None, workers=0, **options):
    dataset = dataset or Images(GroundingResize(scale=(32, 32), keep_ratio=False))
    model = Recorder()
    runner = Runner(
        model,
        str(tmp_path),
        train_dataloader=DataLoader(
            dataset, 2, num_workers=workers, collate_fn=lambda rows: dict(inputs=torch.stack(rows))
        ),
        train_cfg=dict(by_epoch=False, max_iters=iterations),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        custom_hooks=[ProgressiveResizeHook(sizes)],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2)),
        experiment_name=f'{tmp_path.name}{iterations}',
        log_level='ERROR',
        **options,
    )
    runner.train()
    return [side for side, _ in model.sizes]


def test_every_iteration_has_its_size(tmp_path):
    assert train(tmp_path, {0: 8, 2: 16, 3: 32}, 5) == [8, 8, 16, 32, 32]


def test_wrapped_datasets(tmp_path):
    dataset = Repeated(Images(GroundingResize(scale=(32, 32), keep_ratio=False)))
    assert train(tmp_path, {0: 8, 1: 16}, 2, dataset) == [8, 16]


def test_resume_continues_with_the_size_of_its_iteration(tmp_path):
    assert train(tmp_path, {0: 8, 1: 16, 3: 24}, 2) == [8, 16]
    assert train(tmp_path, {0: 8, 1: 16, 3: 24}, 4, resume=True) == [16, 24]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(sizes={2: 16}), r'sizes=\{2: 16\}: expected an entry for iteration 0'),
        (dict(sizes={0: 8}, workers=1), 'num_workers: 1, expected 0'),
        (dict(sizes={0: 8}, dataset=Images()), 'no GroundingResize'),
    ],
)
def test_wrong_input_is_one_line(tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        train(tmp_path, iterations=2, **arguments)
