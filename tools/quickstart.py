"""Generate scenes, train a small model on them, test it and draw images.

python tools/quickstart.py plvl --seed 0
"""

import argparse
import importlib
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from projects.common.cli.report import report_user_errors

PROJECTS = ('plvl', 'pdsl', 'rvse')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('project', nargs='?', default='plvl', choices=PROJECTS)
    parser.add_argument('--seed', type=int, default=0, help='seed of the training (default: 0)')
    parser.add_argument(
        '--work-dir', help='folder of the results (default: work_dirs/quickstart/<project>)'
    )
    args = parser.parse_args()
    os.chdir(ROOT)  # the paths in the configs and in the output are relative to it
    work_dir = Path(args.work_dir or f'work_dirs/quickstart/{args.project}')
    shared, quickstart = (
        importlib.import_module(f'demo.quickstart.{name}') for name in ('shared', args.project)
    )
    with shared.library_output_to(work_dir / 'libraries.log'):
        quickstart.main(work_dir, args.seed)


if __name__ == '__main__':
    with report_user_errors():
        main()
