"""The losses that need more than a matrix train in two processes as in one, from configs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from .test_training import data  # noqa: F401

pytestmark = pytest.mark.slow  # test_joint_batch.py has the losses; here are their configs

NAMES = (
    'bfan-equal_aoq_1xb128-15e_f30k',
    'bfan-equal_meta-spn_1xb128-15e_f30k',
    'sgr_ncr_1xb128-45e_f30k',
    'sgr_ncr-joint_1xb128-40e_f30k',
)


@pytest.fixture(scope='module')
def logs(data, tmp_path_factory) -> dict[int, dict]:  # noqa: F811
    """Train with one and with two processes, with the same joint batches."""
    folder = tmp_path_factory.mktemp('training')
    found = {}
    for world in (1, 2):
        worker = Path(__file__).with_name('training_worker.py')
        done = subprocess.run(
            [sys.executable, worker, str(world), folder, data, *NAMES],
            env={**os.environ, 'CUDA_VISIBLE_DEVICES': ''},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found[world] = torch.load(folder / f'{world}_0.pt', weights_only=True)
    return found


@pytest.mark.parametrize('name', NAMES)
def test_two_processes_train_as_one(logs, name):
    """Offline mining, NCR's split and labels, and Meta-SPN's step ahead see the joint batch."""
    one, two = (logs[world][name] for world in (1, 2))
    assert one.keys() == two.keys() >= {'train/loss'}
    assert len(one['train/loss']) >= 30
    # Later steps amplify rounding errors. In CoTrainLoop, moreover, the last batch of unmatched
    # pairs is filled up to equal parts.
    equal = 20
    for key in one:
        if key != 'train/loss_others':
            torch.testing.assert_close(two[key][:equal], one[key][:equal], rtol=1e-3, atol=1e-4)
    if 'train/loss_others' in one:
        assert len(one['train/loss_others']) == len(two['train/loss_others']) > 0
