"""Fixtures for all tests."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # `import projects`
os.environ.setdefault('OMP_NUM_THREADS', '1')  # before torch starts its threads; subprocesses too
os.environ.setdefault('HF_HUB_OFFLINE', '1')  # no test may wait for a network

import pytest


@pytest.fixture(scope='session')
def repo_root() -> Path:
    """The checkout that is under test."""
    return ROOT


def shared_folder(name: str) -> Path:
    folder = Path(os.environ.get('MMTRIAD_SHARED', ROOT.parent / 'shared')) / name
    if not folder.is_dir():
        pytest.skip(f'{folder} is absent (MMTRIAD_SHARED names its parent)')
    return folder


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """Real sample data beside the checkout; skips where there is none."""
    return shared_folder('data')


@pytest.fixture(scope='session')
def shared_reference() -> Path:
    """Outputs of the released code beside the checkout; skips where there are none."""
    return shared_folder('reference')


@pytest.fixture(autouse=True, scope='session')
def _one_torch_thread() -> None:
    """Results and times that do not depend on the number of cores."""
    import torch

    torch.set_num_threads(1)
