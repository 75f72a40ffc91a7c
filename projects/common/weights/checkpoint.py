"""Load checkpoints without executing their content."""

from __future__ import annotations

import argparse
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_dist_info
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

from ..files.atomic import is_zip
from .layouts import recognise_pickle

__all__ = [
    'load_checkpoint_file',
    'use_safe_checkpoint_loading',
]


def _statistic(owner: type, name: str) -> Any:
    """Replace `getattr`, by which pickled log histories refer to their methods."""
    if owner is not HistoryBuffer or name not in ('min', 'max', 'current', 'mean'):
        raise pickle.UnpicklingError(f'global getattr({owner!r}, {name!r}) is not admitted')
    return getattr(owner, name)


def _admitted_globals() -> list:
    """Return the globals that checkpoints use beyond tensors.

    These are log histories, NumPy numbers and arrays, and command-line arguments, which many
    training scripts store and which are plain attributes. Both of NumPy's module paths are listed,
    because files written under NumPy 1 refer to `numpy.core`.
    """
    numpy: Any = np  # its type stubs know neither path
    core = (numpy._core if hasattr(np, '_core') else numpy.core).multiarray
    dtypes = {type(np.dtype(code)) for code in '?bBhHiIlLqQefdgFDSU'}
    return [
        HistoryBuffer,
        argparse.Namespace,
        (_statistic, 'builtins.getattr'),
        (_statistic, '__builtin__.getattr'),
        np.ndarray,
        np.dtype,
        *sorted(dtypes, key=str),
        *((getattr(core, name), f'numpy.{path}.multiarray.{name}')
          for name in ('_reconstruct', 'scalar') for path in ('core', '_core')),
    ]  # fmt: skip


def load_checkpoint_file(
    path: str | os.PathLike, map_location: Any = 'cpu', trust: bool = False
) -> Any:
    """Load a checkpoint with `weights_only=True` and allow MMEngine's own types.

    Args:
        path: Path of a local checkpoint.
        map_location: See `torch.load`.
        trust: Unpickle without restrictions, which runs any code that the file contains.

    Raises:
        FileNotFoundError: The file does not exist.
        pickle.UnpicklingError: The file is damaged, is not a checkpoint, or uses a global that
            weights do not need. The message names the file, the global and the option that allows
            it.
    """
    path = os.path.expanduser(os.fspath(path))
    if not os.path.isfile(path):
        raise FileNotFoundError(f'checkpoint {path}: no such file')
    if trust:
        return torch.load(path, map_location=map_location, weights_only=False)
    try:
        with torch.serialization.safe_globals(_admitted_globals()):
            return torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # damaged files raise almost any exception
        raise pickle.UnpicklingError(
            f'checkpoint {path}: {_why_unreadable(error, path)}'
        ) from error


def _why_unreadable(error: Exception, path: str) -> str:
    """Explain why PyTorch cannot read a file, in terms that help its owner."""
    layout = None if is_zip(path) else recognise_pickle(path)
    if layout is not None:
        return layout.advice
    if not isinstance(error, pickle.UnpicklingError):
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return f'damaged or no checkpoint ({reason})'
    # "GLOBAL a.b was not an allowed global" and "Trying to call reduce/instantiate a.b"
    found = re.search(
        r'(?:GLOBAL|global|call reduce for|[Uu]nsupported class) `?<?(?:class \')?([\w.]+)',
        str(error),
    )
    if found is None:
        return 'not readable as a checkpoint'
    return (
        f'asks for {found[1]}, which weights do not need and which could run code. If you trust '
        'whoever made this file, pass --trust-checkpoint'
    )


def use_safe_checkpoint_loading(trust: bool = False) -> None:
    """Make MMEngine load checkpoints with :func:`load_checkpoint_file` in this process.

    MMEngine's own loader falls back to unrestricted unpickling if `weights_only=True` fails. This
    function affects local paths and http(s) URLs, for `load_from`, resuming, testing and
    `init_cfg`.

    Args:
        trust: Unpickle without restrictions, for files from trusted sources.
    """

    def load_from_local(filename: str, map_location: Any = None) -> Any:
        return load_checkpoint_file(filename, map_location, trust)

    def load_from_http(filename: str, map_location: Any = None) -> Any:
        rank, world_size = get_dist_info()
        folder = Path(torch.hub.get_dir()) / 'checkpoints'
        target = folder / os.path.basename(filename.split('?')[0])
        if rank == 0 and not target.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(filename, str(target))
        if world_size > 1:
            torch.distributed.barrier()
        return load_checkpoint_file(target, map_location, trust)

    CheckpointLoader.register_scheme('', load_from_local, force=True)
    CheckpointLoader.register_scheme(('http://', 'https://'), load_from_http, force=True)
