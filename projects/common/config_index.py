"""Find the available configs, both in a checkout and in an installed wheel."""

from __future__ import annotations

import difflib
import fnmatch
import os
from pathlib import Path

__all__ = ['config_folder', 'find_config', 'list_models']

_HERE = Path(__file__).resolve()


def config_folder() -> Path:
    """Return the folder of the configs: next to ``projects/``, or where the wheel installs them."""
    installed = _HERE.parent / '.mim' / 'configs'  # set by setup.py; the name follows OpenMMLab
    return installed if installed.is_dir() else _HERE.parents[2] / 'configs'


def _leaf_configs() -> dict[str, Path]:
    """Return all configs except the ``_base_`` files, by name."""
    found = sorted(config_folder().rglob('*.py'))
    return {path.stem: path for path in found if '_base_' not in path.parts}


def list_models(pattern: str = '*') -> list[str]:
    """Return the names of the configs, as accepted by :func:`find_config` and the inferencers.

    Args:
        pattern: Shell-style wildcards, such as ``'plvl_*refcoco*'``.
    """
    return sorted(fnmatch.filter(_leaf_configs(), pattern))


def find_config(model: str | os.PathLike) -> Path:
    """Return the path of a config specified by path or by name.

    Raises:
        FileNotFoundError: There is no such config.
    """
    path = Path(model)
    if path.is_file():
        return path
    configs = _leaf_configs()
    if str(model) in configs:
        return configs[str(model)]
    near = difflib.get_close_matches(path.stem, configs, n=1)
    hint = f'; nearest: {near[0]}' if near else ''
    raise FileNotFoundError(
        f'model {model}: neither a config file nor a name of list_models(){hint}'
    )
