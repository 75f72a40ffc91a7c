"""`make gpu-check` on the pretended GPU: all it can judge passes; each defect fails its line."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

TESTS = Path(__file__).resolve().parents[1]
WORKER = Path(__file__).with_name('gpu_check_worker.py')


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TESTS / f'pretended_gpu/{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """Scenes and reports; skips where the pretended GPU cannot be built."""
    if (reason := load('build').why_not()) is not None:
        pytest.skip(reason)
    return tmp_path_factory.mktemp('gpu_check')


@pytest.fixture
def taken_port() -> Iterator[str]:
    with socket.socket() as other:
        other.bind(('', 0))
        other.listen()
        yield str(other.getsockname()[1])


def check(folder: Path, *only: str, defect: str = '', gpus: int = 1) -> dict[str, dict]:
    """Run checks and return their lines by name, after comparing the exit status with them."""
    command = [sys.executable, TESTS / 'pretended_gpu/run.py', WORKER]
    environment = {**os.environ, 'DEFECT': defect, 'PRETENDED_GPUS': str(gpus)}
    environment.pop('CUDA_VISIBLE_DEVICES', None)
    done = subprocess.run(
        [*command, '--work-dir', folder, '--only', *only],
        env={**environment, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode in (0, 1), done.stderr[-3000:]
    content = json.loads((folder / 'report.json').read_text())
    assert content['pretended'] is True
    lines = {line['check']: line for line in content['lines']}
    failed = [name for name, line in lines.items() if line['status'] == 'FAIL']
    assert done.returncode == bool(failed)
    for name, line in lines.items():
        assert name in done.stdout and name in (folder / 'report.md').read_text()
        assert line['advice'] or line['status'] == 'ok'
    return lines


def failed(lines: dict[str, dict]) -> dict[str, dict]:
    return {name: line for name, line in lines.items() if line['status'] == 'FAIL'}


def test_what_one_step_shows(folder):
    """Operators, cosines, an overflow and counts."""
    lines = check(folder, 'environment', 'precision/cosines', 'precision/plvl', 'speed/plvl')
    assert not failed(lines)
    assert lines['environment/torchvision: RoIAlign backward']['figure'] == '0'
    assert lines['precision/plvl/overflow: MuonAdamW left the weights']['figure'] == 'yes'
    assert lines['environment/mmcv']['status'] == 'skipped'


def test_muon_that_ignores_the_scaler(folder):
    lines = failed(check(folder, 'precision/plvl/overflow', defect='muon_ignores_the_scaler'))
    assert list(lines) == ['precision/plvl/overflow: MuonAdamW left the weights']
    assert 'found_inf' in lines.popitem()[1]['advice']


def test_a_step_that_reads_every_parameter_and_groups_of_one(folder):
    defects = 'step_reads_every_parameter separate_parameter_groups'
    lines = failed(check(folder, 'speed/plvl', defect=defects))
    names = ['host waits', 'host waits of the optimizer', "launches of the paper's optimizer"]
    assert list(lines) == [f'speed/plvl: {name}' for name in names]
    assert 'gpu_check_worker.py' in lines['speed/plvl: host waits']['advice']  # where


def test_cosines_and_rois_in_half_precision(folder):
    defects = 'cosines_in_half_precision rois_in_half_precision'
    lines = failed(check(folder, 'precision/cosines', 'precision/pdsl/bf16', defect=defects))
    assert list(lines) == [
        'precision/cosines: error under bf16',
        'precision/pdsl/bf16: pixels by which corners of RoIs move',
    ]


def test_an_operator_that_is_not_deterministic(folder):
    lines = failed(check(folder, 'deterministic/plvl', defect='bicubic_position_tables'))
    assert list(lines) == ['deterministic/plvl']
    assert 'upsample_bicubic2d_backward' in lines['deterministic/plvl']['advice']


def test_two_processes_where_there_is_one_gpu(folder, toy_config, tool, taken_port, monkeypatch):
    """Tests that start two processes hide the GPUs: what fails next is the port."""
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)  # hidden by whoever runs the tests
    library = str(load('build').library())
    done = tool('dist_train.sh', toy_config(), '2', PORT=taken_port, LD_PRELOAD=library)
    assert done.returncode == 1 and f'port {taken_port} is in use' in done.stderr
    shown = {'CUDA_VISIBLE_DEVICES': '0', 'LD_PRELOAD': library}
    done = tool('dist_train.sh', toy_config(), '2', PORT=taken_port, **shown)
    assert '2 processes for 1 GPU of this machine' in done.stderr


def test_without_a_gpu(call_tool, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    done = call_tool('misc/gpu_check.py', '--work-dir', tmp_path, rc=1)
    (line,) = done.err.strip().splitlines()
    assert 'no GPU' in line and 'check_env.py' in line
    done = call_tool('misc/gpu_check.py', '--list', '--work-dir', tmp_path)
    assert 'parity/pdsl' in done.out.splitlines()


@pytest.mark.parametrize('gpus', [2, 5, 8, 16])
def test_parts_of_a_batch_add_up(monkeypatch, gpus):
    """What the processes have together is what one process has."""
    from tools.gpu_check import processes

    monkeypatch.setattr(torch.cuda, 'device_count', lambda: gpus)
    world, batch = processes.processes(), list(range(12))
    parts = [processes.part_of(batch, rank, world) for rank in range(world)]
    assert all(parts) and sum(parts, []) == processes.part_of(batch, 0, 1)


@pytest.mark.slow
@pytest.mark.parametrize('section', ['parity', 'precision', 'deterministic', 'compile', 'speed'])
def test_a_section(folder, section):
    lines = check(folder, section)
    assert lines and not failed(lines)


@pytest.mark.slow
def test_several_processes(folder):
    lines = check(folder, 'processes', gpus=2)
    assert not failed(lines)
    assert lines['processes/norms: outputs']['status'] == 'ok'


@pytest.mark.slow
def test_captions_that_are_copied_one_by_one(folder):
    lines = failed(check(folder, 'speed/rvse', defect='captions_are_copied_one_by_one'))
    assert list(lines) == [
        f'speed/rvse: {name}' for name in ('host waits', 'copies', 'of them not pinned')
    ]


@pytest.mark.slow
def test_negatives_and_norms_of_the_own_process(folder):
    defects = 'negatives_of_the_own_process norms_of_the_own_process'
    lines = failed(check(folder, 'processes', defect=defects, gpus=2))
    assert 'processes/matching: gradients equal those of the joint batch' in lines
    assert 'processes/norms: outputs' in lines
    assert {name.split(':')[0] for name in lines} == {'processes/matching', 'processes/norms'}


@pytest.mark.slow
def test_images_without_proposals_that_are_left_out(folder):
    defect = 'images_without_proposals_are_left_out'
    lines = failed(check(folder, 'processes/instances', defect=defect, gpus=2))
    assert lines and all('gradient of zero' in line['advice'] for line in lines.values())
