"""A server that runs tools in forks of itself: the libraries are imported once, not for every tool.

It imports third-party libraries alone, so that a tool still has to import everything of this
project itself. Requests are lines of JSON on the standard input; the answers are ``{"pid": ...}``
at the start of a process and ``{"pid": ..., "code": ...}`` at its end.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import runpy
import select
import signal
import sys
import time

LIBRARIES = (
    'mmengine.runner',
    'mmdet.datasets',
    'mmdet.evaluation',
    'mmdet.models',
    'mmpretrain.datasets',
)


def run(request: dict) -> None:
    """Become the process of a request; ends with SystemExit as a script does."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for path, target in ((os.devnull, 0), (request['stdout'], 1), (request['stderr'], 2)):
        flags = os.O_RDONLY if target == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        file = os.open(path, flags, 0o644)
        os.dup2(file, target)
        os.close(file)
    for number in (0, 1, 2):  # Python's own objects may be at the end of the server's input
        name = ('stdin', 'stdout', 'stderr')[number]
        mode = 'r' if number == 0 else 'w'
        stream = os.fdopen(number, mode, buffering=1, closefd=False)
        setattr(sys, name, stream)
        setattr(sys, f'__{name}__', stream)
    os.chdir(request['cwd'])
    os.environ.clear()
    os.environ.update(request['env'])
    time.tzset()
    sys.argv = request['argv']
    folders = os.environ.get('PYTHONPATH', '').split(os.pathsep)
    sys.path[:] = [
        os.path.dirname(sys.argv[0]),
        *filter(None, folders),
        *(path for path in sys.path if path not in ('', os.path.dirname(__file__))),
    ]
    runpy.run_path(sys.argv[0], run_name='__main__')
    sys.exit(0)


def serve() -> None:
    running: set[int] = set()
    pending = b''
    while True:
        ready, _, _ = select.select([0], [], [], 0.02 if running else None)
        for pid in list(running):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                running.discard(pid)
                answer(pid=pid, code=os.waitstatus_to_exitcode(status))
        if not ready:
            continue
        data = os.read(0, 2**16)
        if not data:
            return
        *lines, pending = (pending + data).split(b'\n')
        for line in lines:
            if not line:
                return
            pid = os.fork()
            if pid == 0:
                os.setsid()
                run(json.loads(line))
            running.add(pid)
            answer(pid=pid)


def answer(**content: int) -> None:
    os.write(1, json.dumps(content).encode() + b'\n')


if __name__ == '__main__':
    with contextlib.redirect_stdout(io.StringIO()):  # announcements of the libraries
        for library in LIBRARIES:
            importlib.import_module(library)
    serve()
