"""Fixtures for all tests."""

import importlib.util
import logging
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # `import projects`
os.environ.setdefault('OMP_NUM_THREADS', '1')  # before torch starts its threads; subprocesses too
os.environ.setdefault('HF_HUB_OFFLINE', '1')  # no test may wait for a network

import numpy as np
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


@pytest.fixture(autouse=True)
def _no_function_mode_is_left() -> Iterator[None]:
    """Leave the context of a training that failed on purpose, which its hook could not."""
    import torch

    depth = torch._C._len_torch_function_stack()
    yield
    while torch._C._len_torch_function_stack() > depth:
        torch.overrides._pop_mode()


@pytest.fixture(scope='module')
def errors():
    """Largest error and tolerance of every quantity, by file; printed at the end."""
    found: dict[str, list[tuple[float, float, str]]] = {}
    yield found
    print(f'\n{"golden":24}{"largest error":>14}{"tolerance":>11}  quantity nearest to its limit')
    for file, rows in found.items():
        if not rows:  # a test failed before its first comparison
            continue
        error, tolerance, what = max(rows, key=lambda row: row[0] / row[1])
        print(f'{file:24}{error:14.1e}{tolerance:11.0e}  {what}, of {len(rows)}')


class Golden(dict):
    """Arrays of a file that remember their name."""

    def __init__(self, path, errors):
        with np.load(path) as arrays:
            super().__init__(arrays)
        self.rows = errors.setdefault(path.stem, [])

    def check(self, ours, what: str, tolerance: float) -> None:
        """Compares with the array ``what``: largest absolute error."""
        ours, golden = ours.detach().numpy(), self[what]
        assert ours.shape == golden.shape
        self.rows.append((float(np.abs(ours - golden).max()), tolerance, what))
        np.testing.assert_allclose(ours, golden, rtol=0, atol=tolerance)

    def check_relative(self, ours: float, what: str, tolerance: float) -> None:
        """Compares numbers: error in parts of the golden one."""
        golden = self[what].item()
        self.rows.append((abs(ours - golden) / abs(golden), tolerance, f'{what} (relative)'))
        assert ours == pytest.approx(golden, rel=tolerance, abs=0)


@pytest.fixture(scope='module')
def reference(shared_reference, errors):
    """detweights.py of the reference folder."""
    import torch

    spec = importlib.util.spec_from_file_location('detweights', shared_reference / 'detweights.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.root = shared_reference
    module.golden = lambda name: Golden(shared_reference / 'goldens' / f'{name}.npz', errors)
    module.array = lambda name, shape: torch.from_numpy(module.inputs(name, shape, 0))
    return module


@pytest.fixture(scope='session')
def copy_sources(repo_root: Path) -> Callable[[Path], None]:
    """Copies what the distribution is built from, so that the checkout stays clean."""

    def copy(target: Path) -> None:
        target.mkdir(exist_ok=True)
        for name in ('pyproject.toml', 'setup.py', 'README.md', 'LICENSE', 'model-index.yml'):
            shutil.copy(repo_root / name, target)
        for name in ('projects', 'configs'):
            ignored = shutil.ignore_patterns('__pycache__')
            shutil.copytree(repo_root / name, target / name, ignore=ignored)

    return copy


@pytest.fixture(scope='session')
def wheel(copy_sources, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel."""
    source = tmp_path_factory.mktemp('source')
    copy_sources(source)
    offline = ('--no-build-isolation', '--no-deps', '--no-index')
    done = subprocess.run(
        [sys.executable, '-m', 'pip', 'wheel', '-q', *offline, '-w', '.', '.'],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    (built,) = source.glob('*.whl')
    return built


class _Collect(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.INFO:
            self.lines.append(record.getMessage())


@pytest.fixture(autouse=True)
def fresh_logger() -> None:
    """MMEngine's current logger outlives a test, with its level and the stream it writes to."""
    from mmengine.logging import MMLogger

    MMLogger._instance_dict.clear()


@pytest.fixture
def call_tool(repo_root, monkeypatch, capsys) -> Callable[..., SimpleNamespace]:
    """Runs a file of tools/ in this process as from the shell.

    `call_tool('misc/x.py', *arguments, rc=0)` returns what it printed, `.out` and `.err`, after
    comparing its exit code.
    """

    def call(script: str, *arguments, rc: int = 0) -> SimpleNamespace:
        path = str(repo_root / 'tools' / script)
        monkeypatch.setattr(sys, 'argv', [path, *map(str, arguments)])
        code = 0
        try:
            runpy.run_path(path, run_name='__main__')
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        assert code == rc, (out, err)
        return SimpleNamespace(out=out, err=err)

    return call


@pytest.fixture
def file_server(repo_root: Path) -> Iterator:
    """A server of files that misbehaves as told (file_server.py)."""
    if 'file_server' not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            'file_server', repo_root / 'tests/file_server.py'
        )
        sys.modules['file_server'] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules['file_server'])
    server = sys.modules['file_server'].FileServer()
    yield server
    server.close()


@pytest.fixture
def log() -> Iterator[list[str]]:
    """What was logged through mmengine's current logger, from the level of information on."""
    from mmengine.logging import MMLogger

    handler = _Collect()
    loggers = {logging.getLogger('mmengine'), MMLogger.get_current_instance()}
    for logger in loggers:
        logger.addHandler(handler)
    yield handler.lines
    for logger in loggers:
        logger.removeHandler(handler)
