"""The analysis tools against counts and means by hand."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F


@pytest.fixture(scope='module')
def load(repo_root: Path):
    def load_tool(name: str) -> ModuleType:
        path = repo_root / 'tools' / 'analysis_tools' / f'{name}.py'
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load_tool


class Attention(nn.Module):
    """One head over `tokens` tokens, with a mask as relative positions give it."""

    def __init__(self, channels: int, masked: bool) -> None:
        super().__init__()
        self.qkv = nn.Linear(channels, 3 * channels)
        self.masked = masked

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).unsqueeze(1).chunk(3, dim=-1)
        tokens = x.shape[1]
        bias = torch.zeros(1, 1, tokens, tokens) if self.masked else None
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


@pytest.mark.parametrize('masked', [False, True])
def test_macs_by_hand(masked: bool, load) -> None:
    tool = load('get_flops')
    channels, tokens = 16, 20
    model = nn.Sequential()
    model.add_module('conv', nn.Conv2d(3, channels, 3, padding=1))
    model.add_module('attention', Attention(channels, masked))
    image = torch.zeros(1, 3, 4, 5)

    def run() -> None:
        model.attention(model.conv(image).flatten(2).transpose(1, 2))

    macs = tool.count_macs(model, run)
    conv = 3 * channels * 9 * tokens
    linear = tokens * channels * 3 * channels
    products = 2 * tokens * tokens * channels  # scores, and their mean of the values
    assert macs[''] == (conv + linear, products)
    parameters = tool.count_parameters(model)
    assert parameters['conv'] == 3 * channels * 9 + channels
    assert parameters['attention'] == parameters['attention.qkv'] == 3 * channels * (channels + 1)
    assert parameters[''] == parameters['conv'] + parameters['attention']


def test_flops_of_the_parts_add_up(load) -> None:
    tool = load('get_flops')

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x):
            return self.b(self.a(x))

    model = Model()
    macs = tool.count_macs(model, lambda: model(torch.zeros(5, 4)))
    assert (macs['a'], macs['b'], macs['']) == ((160, 0), (80, 0), (240, 0))


def write_log(folder: Path, records: list[dict], tail: str = '') -> None:
    (folder / 'vis_data').mkdir(parents=True)
    text = ''.join(json.dumps(record) + '\n' for record in records)
    (folder / 'vis_data' / 'scalars.json').write_text(text + tail)


def test_logs_of_a_resumed_run_are_joined(load, tmp_path: Path) -> None:
    tool = load('analyze_logs')
    step = [dict(loss=5.0 - i, time=0.5, data_time=0.1, iter=i, step=i) for i in range(4)]
    write_log(tmp_path / 'run' / '20250101_000000', step[:3], tail='{"loss": 1')  # killed
    write_log(tmp_path / 'run' / '20250102_000000', [dict(step[2], loss=2.5), step[3]])
    steps, values = tool.curve(tool.read_run(tmp_path / 'run'), 'loss')
    assert steps.tolist() == [0, 1, 2, 3]
    assert values.tolist() == [5.0, 4.0, 2.5, 2.0]
    assert tool.smooth(values, 2).tolist() == [5.0, 4.5, 3.25, 2.25]


def test_analyze_logs_draws_and_names_what_is_missing(tool, tmp_path: Path) -> None:
    write_log(tmp_path / 'run' / 'a', [dict(loss=1.0, time=0.25, data_time=0.0, iter=1, step=1)])
    done = tool('analysis_tools/analyze_logs.py', 'run', '--out', 'curves.png')
    assert done.returncode == 0, done.stderr
    assert '0.2500 s per iteration' in done.stdout
    assert cv2.imread(str(tmp_path / 'curves.png')) is not None
    done = tool('analysis_tools/analyze_logs.py', 'run', '--keys', 'los')
    assert done.returncode == 1
    assert 'no run logs it; there are data_time, iter, loss' in done.stderr


BROWSE = """
custom_imports = dict(imports=['projects.plvl.register'], allow_failed_imports=False)
default_scope = 'mmdet'
visualizer = dict(type='GroundingVisualizer')
train_dataloader = dict(
    batch_size=1,
    dataset=dict(
        type='JSONLinesGroundingDataset', data_root='{root}', ann_file='a.jsonl',
        data_prefix=dict(img=''),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadGroundingAnnotations'),
            dict(type='mmdet.Resize', scale=(96, 96), keep_ratio=False),
            dict(type='mmdet.PackDetInputs', meta_keys=('text', 'img_shape')),
        ]))
"""


def test_browse_dataset_draws_samples(tool, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / 'a.png'), np.full((80, 120, 3), 200, np.uint8))
    line = dict(image='a.png', sentence='the grey one', bbox=[10, 10, 60, 50])
    line['mask'] = [[10, 10, 60, 10, 60, 50, 10, 50]]
    (tmp_path / 'a.jsonl').write_text(json.dumps(line) + '\n')
    (tmp_path / 'browse.py').write_text(BROWSE.format(root=tmp_path))
    done = tool('analysis_tools/browse_dataset.py', 'browse.py', '--out-dir', 'drawn')
    assert done.returncode == 0, done.stderr
    (picture,) = (tmp_path / 'drawn').glob('*.jpg')
    pixels = cv2.imread(str(picture))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20  # more than one grey


def test_browsed_images_without_a_visualizer_and_of_a_test(load) -> None:
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    tool = load('browse_dataset')
    sample = DetDataSample(metainfo=dict(ori_shape=(20, 30)))
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[5.0, 5.0, 15.0, 15.0]]), labels=torch.tensor([0])
    )
    item = dict(inputs=torch.zeros(3, 40, 40).byte(), data_samples=sample)
    assert tool.draw(None, item, 'train').shape == (40, 40, 3)
    sizes = []
    visualizer = SimpleNamespace(draw=lambda image, *_, **__: sizes.append(image.shape))
    for split in ('train', 'test'):
        tool.draw(visualizer, item, split)
    assert sizes == [(40, 40, 3), (20, 30, 3)]  # the truth of a test is in original pixels
    with pytest.raises(ValueError, match='expected images'):
        tool.draw(None, dict(inputs=torch.zeros(36, 2048)), 'train')
