"""Running the tools as a user does: in processes of their own, from another directory."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def load_toy():
    """The toy module, registered once in this process however many tests ask for it."""
    if 'toy' not in sys.modules:
        spec = importlib.util.spec_from_file_location('toy', HERE / 'toy.py')
        sys.modules['toy'] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules['toy'])
    return sys.modules['toy']


@pytest.fixture
def toy_config(tmp_path: Path):
    """Writes the toy config: `toy_config(extra_lines)` returns its path."""
    return lambda extra='': load_toy().write_config(tmp_path, extra)


class Tool:
    """Starts a tool of the repository in `cwd` with the toy module importable."""

    def __init__(self, cwd: Path) -> None:
        self.cwd = cwd

    def start(self, script: str, *arguments: str | Path, **env: str) -> subprocess.Popen:
        command = [str(ROOT / 'tools' / script), *map(str, arguments)]
        if script.endswith('.py'):
            command.insert(0, sys.executable)
        else:  # the shell scripts take the active environment's Python
            env = {
                'VIRTUAL_ENV': sys.prefix,
                'PATH': f'{sys.prefix}/bin:{os.environ["PATH"]}',
                **env,
            }
        return subprocess.Popen(
            command,
            cwd=self.cwd,
            env={**os.environ, 'PYTHONPATH': str(HERE), 'OMP_NUM_THREADS': '1', **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(
        self, script: str, *arguments: str | Path, **env: str
    ) -> subprocess.CompletedProcess:
        process = self.start(script, *arguments, **env)
        out, err = process.communicate(timeout=200)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture
def free_port() -> Callable[[], str]:
    """Gives a port on which nobody listens."""

    def find() -> str:
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            return str(probe.getsockname()[1])

    return find


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    return Tool(tmp_path)
