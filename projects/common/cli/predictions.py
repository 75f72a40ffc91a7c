"""What analysis tools read: predictions, the data set that was tested, the model's project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..files.annotation_files import read_json, shown

if TYPE_CHECKING:
    from mmengine.config import Config

__all__ = ['build_dataset', 'project_of', 'read_predictions']


def read_predictions(path: str) -> Any:
    """Return what ``tools/test.py --out`` wrote to a file that ends in `.json` or `.pkl`.

    Raises:
        InputError: The file does not exist.
        ValueError: It is damaged, or asks for more than plain data.
    """
    from ..files.unpickle import load_pickle

    if not Path(path).is_file():
        raise InputError(f'predictions {path}: no such file')
    return load_pickle(path) if path.endswith('.pkl') else read_json(path)


def build_dataset(cfg: Config, path: str, loader: str = 'test_dataloader') -> Any:
    """Build the data set of a loader of a config, which reads no images.

    Args:
        cfg: The config.
        path: Its file, for messages.
        loader: 'test_dataloader' or 'val_dataloader'.

    Raises:
        InputError: The config has no such loader.
    """
    from mmengine.registry import DATASETS, DefaultScope

    if cfg.get(loader) is None:
        raise InputError(f'config {path}: no {loader!r}')
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmengine'):
        return DATASETS.build({**cfg[loader].dataset, 'pipeline': []})


def project_of(cfg: Config, path: str) -> str:
    """Return the name of the project that the class of a config's model, or a base of it, is of.

    Args:
        cfg: The config.
        path: Its file, for messages.

    Raises:
        InputError: The model is of no project.
    """
    from mmengine.registry import MODELS, DefaultScope

    kind = (cfg.get('model') or {}).get('type')
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmengine'):
        cls = MODELS.get(kind) if isinstance(kind, str) else kind
    for base in getattr(cls, '__mro__', ()):
        package, _, rest = base.__module__.partition('.')
        if package == 'projects' and not rest.startswith('common.'):
            return rest.partition('.')[0]
    raise InputError(
        f'config {path}: model.type: found {shown(kind)}, expected a model of projects/ or a '
        'subclass of one'
    )
