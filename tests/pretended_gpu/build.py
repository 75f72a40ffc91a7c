"""Compile the pretended CUDA runtime: seconds, once for a version of PyTorch and of its sources.

    python tests/pretended_gpu/build.py      # prints the path of the library

A process that preloads the library (``LD_PRELOAD``) has a GPU whose kernels do nothing.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Driver functions that PyTorch looks up by name when it starts a context.
DRIVER = [
    'cuCtxGetCurrent',
    'cuCtxSetCurrent',
    'cuDeviceGet',
    'cuDeviceGetAttribute',
    'cuDevicePrimaryCtxRetain',
    'cuFuncGetAttribute',
    'cuFuncSetAttribute',
    'cuFuncSetCacheConfig',
    'cuLaunchCooperativeKernel',
    'cuLaunchKernel',
    'cuLinkAddData_v2',
    'cuLinkComplete',
    'cuLinkCreate_v2',
    'cuModuleGetFunction',
    'cuModuleLoad',
    'cuModuleLoadData',
    'cuModuleLoadDataEx',
    'cuModuleUnload',
    'cuOccupancyMaxActiveBlocksPerMultiprocessor',
    'cuPointerGetAttribute',
    'cuTensorMapEncodeTiled',
]


def why_not() -> str | None:
    """Return what this machine lacks, or None."""
    if platform.system() != 'Linux' or platform.machine() != 'x86_64':
        return f'the pretended GPU needs Linux on x86_64, found {platform.platform()}'
    for tool in ('g++', 'nm'):
        if shutil.which(tool) is None:
            return f'the pretended GPU is compiled with {tool}, which is not installed'
    if not _include().is_dir():
        return f"the pretended GPU needs CUDA's headers, which no package has at {_include()}"
    return None


def library() -> Path:
    """Return the path of the library, which is compiled if it is not in the cache."""
    files = (Path(__file__), HERE / 'runtime.cpp', *sorted(HERE.glob('include/crt/*.h')))
    sources = b''.join(path.read_bytes() for path in files)
    version = importlib.metadata.version('torch')
    key = hashlib.sha256(sources + version.encode()).hexdigest()[:16]
    cache = Path(os.environ.get('MMTRIAD_CACHE') or Path.home() / '.cache' / 'mmtriad')
    target = cache / f'pretended-gpu-{key}' / 'libcuda.so.1'
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            _compile(Path(folder))
            os.replace(Path(folder, target.name), target)  # other processes may build it too
    return target


def _compile(folder: Path) -> None:
    compiler = ['g++', '-O1', '-fPIC', '-w']
    runtime = folder / 'runtime.o'
    headers = ['-I', str(HERE / 'include'), '-I', str(_include())]
    _run([*compiler, *headers, '-c', str(HERE / 'runtime.cpp'), '-o', str(runtime)])
    torch = Path(find_spec('torch').origin).parent / 'lib'
    users = [*torch.glob('lib*cuda*.so'), torch / 'libtorch_python.so']
    vision = Path(find_spec('torchvision').origin).parent / '_C.so'
    imported = _symbols('--undefined-only', *users, *([vision] if vision.is_file() else []))
    wanted = {name for name in imported if re.match(r'cuda[A-Z]|__cuda', name)} | set(DRIVER)
    missing = sorted(wanted - _symbols('--defined-only', runtime, dynamic=False))
    rest = folder / 'rest.cpp'
    lines = [f'int {name}() {{ return 0; }}' for name in missing]
    rest.write_text('extern "C" {\n' + '\n'.join(lines) + '\n}\n')
    # By this name PyTorch looks for the driver; it finds the library that is loaded already.
    name = '-Wl,-soname,libcuda.so.1'
    _run([*compiler, '-shared', name, str(runtime), str(rest), '-o', str(folder / 'libcuda.so.1')])


def _symbols(which: str, *files: Path, dynamic: bool = True) -> set[str]:
    options = ['-D'] if dynamic else []
    listed = _run(['nm', *options, which, *map(str, files)])
    return {line.split()[-1].split('@')[0] for line in listed.splitlines() if len(line.split()) > 1}


def _include() -> Path:
    """Return the folder of the headers that come with PyTorch's CUDA libraries."""
    spec = find_spec('nvidia')
    roots = list(spec.submodule_search_locations) if spec else ['nvidia']
    found = [p.parent for root in roots for p in Path(root).glob('*/include/cuda_runtime_api.h')]
    return found[0] if found else Path(roots[0], 'cu13', 'include')


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f'{" ".join(command[:4])} ...: {done.stderr.strip()[:600]}')
    return done.stdout


if __name__ == '__main__':
    reason = why_not()
    print(reason or library())
