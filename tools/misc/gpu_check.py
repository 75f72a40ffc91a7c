"""Check the projects on this machine's GPUs: a table, a report and an exit status.

python tools/misc/gpu_check.py --only parity precision/pdsl
"""

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from projects.common.cli.report import report_user_errors


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--only', nargs='+', default=[], metavar='NAME',
        help='sections or checks, such as parity or precision/pdsl (default: all)',
    )  # fmt: skip
    parser.add_argument('--list', action='store_true', help='print the names of the checks')
    parser.add_argument(
        '--work-dir', default='work_dirs/gpu_check', help='folder of the report and of the data'
    )
    parser.add_argument(
        '--full', action='store_true', help="measure speed with the papers' sizes as well"
    )
    parser.add_argument('--process', nargs=3, help=argparse.SUPPRESS)  # one of several
    args = parser.parse_args()
    os.environ.setdefault('HF_HUB_OFFLINE', '1')
    os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # before cuBLAS starts

    from tools.gpu_check import main as check

    context = check.context_of(Path(args.work_dir), args.full)
    if args.process:
        rank, world, folder = args.process
        return check.one_process(context, int(rank), int(world), Path(folder))
    if args.list:
        print('\n'.join(one.name for one in check.chosen(args.only)))
        return 0
    return check.main(context, args.only)


if __name__ == '__main__':
    with report_user_errors():
        sys.exit(main())
