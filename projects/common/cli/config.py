"""Read config files and apply overrides from the command line."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config_index import config_folder
from ..errors import InputError
from .overrides import merge_cfg_options
from .report import one_line, raised_at

if TYPE_CHECKING:
    from mmengine.config import Config

__all__ = ['load_config']


def load_config(path: str | os.PathLike, cfg_options: Mapping[str, Any] | None = None) -> Config:
    """Read a config file and apply checked overrides.

    Args:
        path: Config file.
        cfg_options: Mapping from dotted keys to values, as parsed from `--cfg-options`.

    Raises:
        InputError: The file is missing or is not a config, or an override would have no effect.
    """
    from mmengine.config import Config

    path = Path(path)
    if not path.is_file():
        folder = config_folder()
        found = {str(p.relative_to(folder.parent)): p for p in folder.rglob('*.py')}
        by_name = {p.name: shown for shown, p in found.items()}
        near = difflib.get_close_matches(path.name, by_name, n=1)
        hint = f'; nearest: {by_name[near[0]]}' if near else ''
        raise InputError(f'config {path}: no such file{hint}')
    try:
        cfg = Config.fromfile(path)
    except FileNotFoundError as error:  # a missing `_base_`
        raise InputError(f'config {path}: {error}') from error
    except (SyntaxError, OSError) as error:
        raise InputError(f'config {path}: {type(error).__name__}: {error}') from error
    except (KeyError, TypeError) as error:
        # An unset environment variable, or a key defined twice in the bases.
        if not raised_at(error)[0].endswith('mmengine/config/config.py'):
            raise
        raise InputError(f'config {path}: {one_line(error)}') from error
    except ImportError as error:
        missing: BaseException | None = error
        while missing is not None and not isinstance(missing, ModuleNotFoundError):
            missing = missing.__cause__ or missing.__context__
        if missing is None:
            raise
        raise InputError(
            f'config {path}: custom_imports: {missing} (is its folder on PYTHONPATH?)'
        ) from error
    if cfg_options:
        merge_cfg_options(cfg, cfg_options)
    return cfg
