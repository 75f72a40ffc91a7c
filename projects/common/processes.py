"""Worker processes whose end is an error."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

import cv2

from .errors import InputError

__all__ = ['worker_processes']


@contextmanager
def worker_processes(
    workers: int, cv2_threads: int, afterwards: str
) -> Iterator[ProcessPoolExecutor]:
    """Start processes, and end them without waiting for what they have not begun.

    Args:
        workers: Number of processes.
        cv2_threads: Number of threads of OpenCV in each of them; see ``cv2.setNumThreads``.
        afterwards: What the same command does if it is run again, for the message.

    Raises:
        InputError: A process ended before its work was done.
    """
    # Spawn, because forking a process in which OpenCV or PyTorch has threads can hang. An executor,
    # because a Pool waits forever for what a killed process had to do, and without end starts
    # processes of a script that would start them again in each of them.
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(workers, context, cv2.setNumThreads, (cv2_threads,)) as pool:
        try:
            yield pool
        except BrokenProcessPool:
            raise InputError(
                f'one of {workers} processes was killed, mostly because memory ran out: take fewer '
                f'workers. The same command {afterwards}. A script of your own must start its work '
                "inside `if __name__ == '__main__':`"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
