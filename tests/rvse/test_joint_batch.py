"""Several processes with parts of a batch compute what one computes with the whole batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS

import projects.rvse.register  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
CASES = (
    'ITMTripletLoss',
    'HardNegativeLoss',
    'SemiHardNegativeLoss',
    'SCTLoss',
    'SelHNLoss',
    'SSPLoss',
    'SelHN, as released',
    'SelHN, cross attention',
    'SelHN, repeated images',
    'SelHN, several captions',
    'AOQ',
    'NCR',
    'Meta-SPN',
)


@pytest.fixture(scope='module')
def results(tmp_path_factory) -> dict[int, list[dict]]:
    """Run the worker with one, two and four processes, each on its part of the same batch."""
    folder = tmp_path_factory.mktemp('joint')
    environment = {**os.environ, 'CUDA_VISIBLE_DEVICES': '', 'PYTHONPATH': str(ROOT)}
    found = {}
    for world in (1, 2, 4):
        done = subprocess.run(
            [sys.executable, Path(__file__).with_name('joint_batch_worker.py'), str(world), folder],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found[world] = [
            torch.load(folder / f'{world}_{rank}.pt', weights_only=True) for rank in range(world)
        ]
    return found


@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize('world', [2, 4])
def test_several_processes_equal_one(results, name, world):
    (alone,) = results[1]
    assert set(alone) == set(CASES)
    expected = alone[name]
    assert expected['losses'][-1]['loss'] != expected['losses'][0]['loss']
    for found in results[world]:
        for before, after in zip(expected['losses'], found[name]['losses'], strict=True):
            assert after == pytest.approx(before, rel=1e-6, abs=1e-9)
        gradients = found[name]['gradients']
        assert gradients.keys() == expected['gradients'].keys()
        assert any(gradient.any() for gradient in gradients.values())
        for key, gradient in gradients.items():
            torch.testing.assert_close(gradient, expected['gradients'][key], rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(found[name]['scores'], expected['scores'])
        order = found[name]['scores'].argsort(dim=1)
        assert torch.equal(order, expected['scores'].argsort(dim=1))
    if name == 'NCR':
        labels = torch.stack([found[name]['labels'] for found in results[world]]).T.flatten()
        torch.testing.assert_close(labels, expected['labels'])
        assert labels.min() < labels.max()
    if name == 'Meta-SPN':
        assert gradients['criterion.weighting.0.weight'].any()


@pytest.mark.parametrize('name', ['ITMTripletLoss', 'SelHNLoss', 'SemiHardNegativeLoss', 'SCTLoss'])
@pytest.mark.parametrize('reduction', ['sum', 'mean', 'batch_mean'])
def test_rows_of_a_matrix_add_up_to_the_matrix(name, reduction):
    """The mean over parts of uneven size, times their factor, is the loss of the whole matrix."""
    torch.manual_seed(0)
    loss = MODELS.build(dict(type=name, reduction=reduction))
    S = torch.rand(9, 9, dtype=torch.float64)
    same = torch.arange(9) // 2
    positives = same[:, None] == same
    parts = []
    for start, stop in ((0, 2), (2, 6), (6, 9)):
        rows = slice(start, stop)
        part = loss(S[rows], positives[rows], captions=S.T[rows], offset=start)
        parts.append(part * loss.joint_factor(S[rows], 3))
    torch.testing.assert_close(sum(parts) / 3, loss(S, positives))


def test_cosines_are_float32_under_autocast():
    """SelHN's threshold of 0.01 is no more than two or three steps of bfloat16 near 1."""
    torch.manual_seed(0)
    similarity = MODELS.build(dict(type='CosineSimilarity'))
    images, captions = (torch.nn.functional.normalize(torch.rand(8, 64), dim=1) for _ in range(2))
    lengths = torch.ones(8, dtype=torch.int64)
    with torch.autocast('cpu', torch.bfloat16):
        scores = similarity(images, lengths, captions, lengths)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, images @ captions.T)
