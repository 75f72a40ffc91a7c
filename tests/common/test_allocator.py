import platform
import subprocess
import sys

import pytest

# The module by its path: the package imports torch, whose blocks would count, too.
SCRIPT = """
import ctypes, runpy, sys

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
names = 'arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost'.split()
class Statistics(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in names]
libc.mallinfo2.restype = Statistics

def show(size):
    block = libc.malloc(size)
    mapped = libc.mallinfo2().hblkhd >= size  # the block has pages of its own
    libc.free(block)
    print(mapped, libc.mallinfo2().fordblks >= size)  # free, and still the process's

show(2**24)
print(runpy.run_path(sys.argv[1])['keep_freed_memory']())
show(2**24)
show(2**26)  # as large as a layer's weights: these would fill the memory with holes
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='glibc alone has these settings')
def test_freed_memory_stays(repo_root):
    path = repo_root / 'projects' / 'common' / 'speed' / 'allocator.py'
    done = subprocess.run(
        [sys.executable, '-c', SCRIPT, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [
        'True', 'False', 'True', 'False', 'True', 'True', 'False'
    ]  # fmt: skip
