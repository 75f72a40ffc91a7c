"""Run torchrun after a check of the port and the GPUs, and without its own traceback.

A failing process already reports its error.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

from projects.common.cli.launch import check_gpus, check_port
from projects.common.cli.report import report_user_errors


def main() -> None:
    args = parse_args(sys.argv[1:])
    check_gpus(int(args.nproc_per_node))
    if int(args.node_rank) == 0:
        check_port(args.master_port)
    try:
        run(args)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        sys.exit(f'process {rank} ended with exit code {failure.exitcode}; its message is above')


if __name__ == '__main__':
    with report_user_errors():
        main()
