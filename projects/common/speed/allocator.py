"""How the C library hands memory out."""

from __future__ import annotations

import ctypes
import platform

__all__ = ['keep_freed_memory']

# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST_THRESHOLD = 32 * 2**20  # glibc refuses more


def keep_freed_memory() -> bool:
    """Lets this process keep memory that it frees, for what it allocates next.

    glibc gives blocks as large as a layer's activations back to the system at once, so that every
    forward pass writes to fresh pages, which the system clears and maps one by one: a tenth of
    PLVL's time on a CPU. Memory use stays at its highest until the process ends. Blocks of 32 MiB
    and more still go back at once: glibc does not find the place of a freed aligned block again,
    and the gradient of PDSL's first fully connected layer took 392 MiB more at every step. It
    matters to CPU tensors alone; PyTorch keeps CUDA memory itself.

    Returns:
        Whether it was possible; other C libraries are left alone.
    """
    if platform.libc_ver()[0] != 'glibc':
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_THRESHOLD) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    )
