"""verify_data.py against scenes that are whole, and with one thing gone."""

import numpy as np
import pytest

from projects.common.scenes import write_dataset
from projects.pdsl.datasets.published import published_count
from projects.pdsl.proposals import write_store

PLVL = 'configs/plvl/plvl_tiny_1xb16-3k_scenes.py'
PDSL = 'configs/pdsl/pdsl_tiny_1xb4-600_scenes.py'
RVSE = 'configs/rvse/rvse_tiny_1xb32-3e_scenes.py'


@pytest.fixture
def scenes(tmp_path, monkeypatch):
    folder = tmp_path / 'scenes'
    write_dataset(folder, num_train=4, num_val=2, num_test=3, image_size=64, progress=False)
    monkeypatch.setenv('SCENES_ROOT', str(folder))
    return folder


def pictures(scenes) -> list:
    return sorted((scenes / 'images').rglob('*.jpg')) or sorted((scenes / 'images').rglob('*.png'))


@pytest.mark.parametrize('config', [PLVL, RVSE])
def test_scenes(call_tool, repo_root, scenes, config):
    out = call_tool('misc/verify_data.py', repo_root / config).out
    assert 'of 4 images' in out and 'of 2 images' in out and 'of 3 images' in out
    assert out.endswith('complete\n')
    gone = pictures(scenes)[0]
    gone.unlink()
    out = call_tool('misc/verify_data.py', repo_root / config, rc=1).out
    assert 'MISSING' in out and gone.name in out and 'complete' not in out


def test_proposals(call_tool, repo_root, scenes):
    out = call_tool('misc/verify_data.py', repo_root / PDSL, rc=1).out
    assert out.count('index.json: does not exist') == 3
    boxes, scores = np.array([[0, 0, 9, 9]], np.float32), np.ones(1, np.float32)
    every = [path.stem for path in pictures(scenes)]
    assert len(every) == 9
    write_store(scenes / 'proposals', ((name, boxes, scores) for name in every[1:]))
    out = call_tool('misc/verify_data.py', repo_root / PDSL, rc=1).out
    assert out.count('MISSING') == 1
    assert 'no proposals of 1 images' in out and every[0] in out


@pytest.mark.parametrize('slash', ['', '/'])
def test_published_counts(call_tool, repo_root, shared_data, monkeypatch, slash):
    """The sample has 24 of VOC's 1,449 images of segmentation val."""
    assert published_count('data/VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt') == 1449
    assert published_count('data/mine/val.txt') is None
    monkeypatch.setenv('DATA_ROOT', f'{shared_data}/voc_sample{slash}')
    config = repo_root / 'configs/pdsl/pdsl_r18_4xb1-100k_voc12.py'
    out = call_tool('misc/verify_data.py', config, rc=1).out
    assert 'train  VOCTagDataset: 36 samples of 36 images' in out
    assert 'MISSING  24 images, expected 1,449 as published' in out


def test_nothing_there(call_tool, repo_root, tmp_path, monkeypatch):
    monkeypatch.setenv('DATA_ROOT', f'{tmp_path}/')
    config = repo_root / 'configs/rvse/rvse-mlp_selhn_1xb128-20e_f30k.py'
    out = call_tool('misc/verify_data.py', config, rc=1).out
    assert 'train  PrecompMatchingDataset: unreadable' in out
    assert 'train_caps.txt' in out
