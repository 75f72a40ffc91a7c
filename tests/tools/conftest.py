"""Running the tools as a user does: in processes of their own, from another directory.

To save the time in which every process imports the same libraries, Python scripts run in forks of a
process that has done so (forked.py).
"""

from __future__ import annotations

import importlib.util
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
AT_START = {'OMP_NUM_THREADS', 'LD_PRELOAD', 'PYTHONPATH', 'CUDA_VISIBLE_DEVICES'}


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


class Server:
    """The process of forked.py, started when the first tool is."""

    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None
        self.codes: dict[int, int] = {}
        self.pending = b''

    def request(self, **content) -> int:
        """Start a process and return its id."""
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / 'forked.py')],
                env={**os.environ, 'OMP_NUM_THREADS': '1'},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        self.process.stdin.write(json.dumps(content).encode() + b'\n')
        self.process.stdin.flush()
        while (started := self.read(200)) is None:
            assert self.process.poll() is None, 'the server of the tools has ended'
        return started

    def read(self, seconds: float) -> int | None:
        """Wait for answers; return the id of a process that has started."""
        output = self.process.stdout
        ready, _, _ = select.select([output], [], [], seconds)
        if not ready:
            return None
        *lines, self.pending = (self.pending + os.read(output.fileno(), 2**16)).split(b'\n')
        started = None
        for line in map(json.loads, lines):
            if 'code' in line:
                self.codes[line['pid']] = line['code']
            else:
                started = line['pid']
        return started

    def close(self) -> None:
        if self.process is not None:
            # An empty line ends it; workers of a data loader may hold the pipe open.
            self.process.stdin.write(b'\n')
            self.process.stdin.close()
            self.process.wait(60)


class Forked:
    """A tool in a fork of the server, with what the tests use of ``subprocess.Popen``."""

    returncode: int | None = None

    def __init__(self, server: Server, command: list[str], cwd: Path, env: dict) -> None:
        self.server, self.args = server, command
        self.output = Path(tempfile.mkdtemp(dir=cwd, prefix='.tool-'))
        self.pid = server.request(
            argv=command,
            cwd=str(cwd),
            env=env,
            stdout=str(self.output / 'out'),
            stderr=str(self.output / 'err'),
        )

    def poll(self) -> int | None:
        """Return the exit code, None while the process runs."""
        if self.returncode is None:
            self.server.read(0)
            self.returncode = self.server.codes.pop(self.pid, None)
        return self.returncode

    def kill(self) -> None:
        """Kill the process if it runs."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def communicate(self, timeout: float = 200) -> tuple[str, str]:
        """Wait for the end and return what was written to both streams."""
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                self.kill()
                raise subprocess.TimeoutExpired(self.args, timeout)
            self.server.read(0.05)
        texts = [(self.output / name).read_text(errors='replace') for name in ('out', 'err')]
        shutil.rmtree(self.output)
        return texts[0], texts[1]


class Tool:
    """Starts a tool of the repository in `cwd` with the toy module importable."""

    def __init__(self, cwd: Path, server: Server) -> None:
        self.cwd, self.server = cwd, server

    def start(self, script: str, *arguments: str | Path, **env: str) -> subprocess.Popen | Forked:
        command = [str(ROOT / 'tools' / script), *map(str, arguments)]
        full = {**os.environ, 'PYTHONPATH': str(HERE), 'OMP_NUM_THREADS': '1', **env}
        # A process that has looked for GPUs may not be forked; some settings count from its start.
        fork = not Path('/dev/nvidiactl').exists() and not AT_START & set(env)
        if script.endswith('.py') and fork:
            return Forked(self.server, command, self.cwd, full)
        if script.endswith('.py'):
            command.insert(0, sys.executable)
        else:  # the shell scripts take the active environment's Python
            full = {
                **full,
                # they start several processes, for which a machine may have too few GPUs
                'CUDA_VISIBLE_DEVICES': '',
                'VIRTUAL_ENV': sys.prefix,
                'PATH': f'{sys.prefix}/bin:{os.environ["PATH"]}',
                **env,
            }
        return subprocess.Popen(
            command,
            cwd=self.cwd,
            env=full,
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


@pytest.fixture(scope='session')
def tool_server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def tool(tmp_path: Path, tool_server: Server) -> Tool:
    return Tool(tmp_path, tool_server)
