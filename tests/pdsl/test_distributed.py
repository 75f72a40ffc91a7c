"""Two processes train as one does, whatever their images contain (docs/distributed.md)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).with_name('distributed_worker.py')
MODELS = (
    'default',
    'default, chunks',
    'released',
    'released, chunks',
    'cascade',
    'without moving boxes',
    'self-training',
)


@pytest.fixture(scope='module')
def gradients(tmp_path_factory) -> dict[str, dict]:
    """Gradients by file name: of one process, and of each of two."""
    folder = tmp_path_factory.mktemp('gradients')
    environment = {**os.environ, 'CUDA_VISIBLE_DEVICES': '', 'PYTHONPATH': str(ROOT)}
    runs = [
        subprocess.Popen(
            [sys.executable, WORKER, str(world), folder],
            env={**environment, 'RANK': str(rank)},
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for world, rank in ((1, 0), (2, 0), (2, 1))
    ]
    errors = [run.communicate(timeout=300)[1] for run in runs]
    assert not any(run.returncode for run in runs), '\n'.join(each[-3000:] for each in errors)
    return {path.stem: torch.load(path) for path in folder.glob('*.pt')}


@pytest.mark.parametrize('model', MODELS)
def test_two_processes_have_the_mean_of_single_images(gradients, model):
    """Of every parameter, in each case of the worker: the same in both, zeros included."""
    alone, first, second = (gradients[key] for key in ('1_0', '2_0', '2_1'))
    cases = [case for name, case in alone if name == model]
    assert len(cases) == 8
    for case in cases:
        wanted = alone[model, case]
        assert len(wanted) > 20
        assert not [name for name, grad in wanted.items() if grad is None], case
        learnt = max(grad.abs().max() for grad in wanted.values())
        assert learnt > 1e-4 or case == 'none with proposals'
        for name, grad in wanted.items():
            assert torch.isfinite(grad).all(), (case, name)
            assert torch.equal(first[model, case][name], second[model, case][name]), (case, name)
            torch.testing.assert_close(first[model, case][name], grad, rtol=1e-4, atol=1e-6)
