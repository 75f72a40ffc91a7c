"""Run a Python script on the pretended GPU.

    python tests/pretended_gpu/run.py SCRIPT [ARGUMENTS]

``PRETENDED_GPUS`` is the number of GPUs (default: 1). Processes that the script starts see the same
GPUs if they run this file too; those that it forks need nothing.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def main() -> None:
    sys.path[:1] = [str(HERE), str(ROOT)]
    import build

    if (reason := build.why_not()) is not None:
        sys.exit(f'error: {reason}')
    library = str(build.library())
    if library not in os.environ.get('LD_PRELOAD', ''):  # counts from the start of a process
        os.environ['LD_PRELOAD'] = library
        os.execv(sys.executable, [sys.executable, *sys.argv])
    import values

    sys.argv = sys.argv[1:]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
    with values.Values():
        runpy.run_path(sys.argv[0], run_name='__main__')


if __name__ == '__main__':
    main()
