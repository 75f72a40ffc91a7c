"""Run torchrun without its own traceback: a failing process already reports its error."""

import sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

if __name__ == '__main__':
    try:
        main()
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        sys.exit(f'process {rank} ended with exit code {failure.exitcode}; its message is above')
