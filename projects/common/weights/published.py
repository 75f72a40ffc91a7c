"""Published models: a folder with the weights, config and vocabulary of a model, and no code.

``tools/misc/publish_model.py`` writes such a folder, and the inferencers read it from disk or from
the Hugging Face Hub. The weights are safetensors, which cannot hold code, and the config is parsed
as plain values and never executed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor

from ..calibration import Calibration
from ..config_text import parse_config_text
from ..errors import InputError
from ..files.annotation_files import json_bytes, read_json
from ..files.atomic import write_atomically

__all__ = [
    'CALIBRATION',
    'CONFIG',
    'DTYPES',
    'WEIGHTS',
    'find_published',
    'read_published',
    'write_published',
]

WEIGHTS, CONFIG = 'model.safetensors', 'config.py'
CALIBRATION = 'calibration.json'
"""File with the calibration of the scores, which only some models have."""
DTYPES = {'float32': torch.float32, 'float16': torch.float16}
VOCABULARY_KEY = '_extra_state'
"""Suffix of a state dict key whose tensor (n,) uint8 is a vocabulary: UTF-8, one token per line."""
HEADER = 'mmtriad'
"""Header entry of the weights file: JSON with the vocabulary files and the classes."""
ABOUT_A_MACHINE = ('work_dir', 'load_from', 'resume', 'launcher')

_HUB_ID = re.compile(r'[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*')
_FILE = re.compile(r'\.(pth|pt|pkl|ckpt|bin|safetensors|py)$')
_VOCABULARY_FILE = re.compile(r'vocab(_\d+)?\.txt')


# ------------------------------------------------------------------------------------ writing


def write_published(
    folder: str | os.PathLike,
    weights: Mapping[str, Tensor],
    config: Config,
    dataset_meta: Mapping[str, Any] | None = None,
    dtype: str = 'float32',
    calibration: Calibration | None = None,
) -> list[Path]:
    """Write ``model.safetensors``, ``config.py`` and the vocabulary of a model into a folder.

    Args:
        folder: The folder, which is created if necessary. Files of the same names are replaced, and
            a calibration that is there is removed if none is given.
        weights: The state dict.
        config: The model's config. Settings specific to the training machine, such as ``work_dir``,
            are left out.
        dataset_meta: Metainfo of the data set, of which the names and colors of the classes are
            kept.
        dtype: 'float32' or 'float16', for all floating-point tensors.
        calibration: Calibration of the model's scores, written to ``calibration.json``.

    Returns:
        The paths of the files.

    Raises:
        ValueError: A weight is too large for ``dtype``, or the config has more than plain values.
    """
    from safetensors.torch import save

    folder = Path(folder)
    tensors: dict[str, Tensor] = {}
    vocabularies: dict[str, bytes] = {}
    for key, value in weights.items():
        if key.rpartition('.')[2] == VOCABULARY_KEY:
            if value.numel():  # models without a vocabulary have an empty tensor
                vocabularies[key] = bytes(value.cpu().tolist())
        else:
            tensors[key] = _as_dtype(key, value, dtype)
    names = {key: f'vocab_{i}.txt' if i else 'vocab.txt' for i, key in enumerate(vocabularies)}
    classes = {
        key.lower(): value
        for key, value in (dataset_meta or {}).items()
        if key.lower() in ('classes', 'palette')
    }
    header = json.dumps(dict(vocabularies=names, dataset_meta=classes))
    text = _portable(config).pretty_text
    parse_config_text(text, CONFIG)  # do not write anything that cannot be read back

    contents = {CONFIG: text.encode()}
    contents.update((names[key], content + b'\n') for key, content in vocabularies.items())
    if calibration is not None:
        contents[CALIBRATION] = json_bytes(calibration.to_dict(), indent=2) + b'\n'
    else:
        (folder / CALIBRATION).unlink(missing_ok=True)  # of other weights
    contents[WEIGHTS] = save(tensors, metadata={'format': 'pt', HEADER: header})  # written last
    for name, content in contents.items():
        write_atomically(folder / name, content)
    return [folder / name for name in contents]


def _as_dtype(key: str, value: Tensor, dtype: str) -> Tensor:
    """Return a contiguous copy, because safetensors does not accept tensors that share memory."""
    value = value.detach().cpu()
    if not value.is_floating_point():
        return value.clone(memory_format=torch.contiguous_format)
    cast = value.to(DTYPES[dtype], copy=True, memory_format=torch.contiguous_format)
    if not torch.equal(cast.isfinite(), value.isfinite()):
        largest = value[value.isfinite()].abs().max().item()
        raise InputError(f'{key}: a value of {largest:g} is too large for {dtype}')
    return cast


def _portable(config: Config) -> Config:
    values = config.to_dict()
    return Config({key: value for key, value in values.items() if key not in ABOUT_A_MACHINE})


# ------------------------------------------------------------------------------------ reading


def find_published(source: str | os.PathLike) -> Path | None:
    """Return the folder of a published model, downloading it if a Hub id names it.

    Args:
        source: A folder, or an ``owner/name`` on the Hugging Face Hub. The Hub is only queried if
            neither ``source`` nor a folder ``owner`` exists locally.

    Returns:
        The folder, or None if ``source`` can only be the path of a file.

    Raises:
        ValueError: The Hub cannot be reached, or does not have this model.
    """
    path, text = Path(source), os.fspath(source)
    if path.is_dir():
        return path
    is_id = _HUB_ID.fullmatch(text) and not _FILE.search(text)
    if path.exists() or not is_id or path.parent.exists():
        return None
    try:
        from huggingface_hub import snapshot_download

        patterns = [WEIGHTS, CONFIG, CALIBRATION, 'vocab*.txt']
        return Path(snapshot_download(text, allow_patterns=patterns))
    except Exception as error:  # many classes: no network, no such model, no access
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f'weights {text}: no such file or folder here, and the Hugging Face hub does not give '
            f'it ({reason}); download it elsewhere and give its folder, with {WEIGHTS} and {CONFIG}'
        ) from None


def read_published(folder: str | os.PathLike) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a published model.

    Args:
        folder: A folder written by :func:`write_published`.

    Returns:
        The state dict, and an entry ``meta`` as in MMEngine's checkpoints: ``cfg``, the text of the
        config, ``dataset_meta`` and, if the model has one, ``calibration``.

    Raises:
        FileNotFoundError: A file is missing; the message names it.
        ValueError: A file is damaged or does not belong to a published model.
    """
    from safetensors import SafetensorError, safe_open

    folder = Path(folder)
    text = _read(folder, CONFIG).decode(errors='replace')
    parse_config_text(text, str(folder / CONFIG))
    path = _existing(folder, WEIGHTS)
    try:
        with safe_open(path, framework='pt') as file:
            metadata = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  not a dict
    except SafetensorError as error:
        raise InputError(f'{path}: damaged or not a safetensors file ({error})') from None
    try:
        header = json.loads(metadata.get(HEADER, '{}'))
        vocabularies = dict(header.get('vocabularies', {}))
        dataset_meta = dict(header.get('dataset_meta', {}))
    except (ValueError, TypeError, AttributeError):
        raise InputError(f'{path}: entry {HEADER} of its header is damaged') from None
    for key, name in vocabularies.items():
        if not _VOCABULARY_FILE.fullmatch(str(name)):  # a path could lead out of the folder
            raise InputError(f'{path}: its header names {name!r}, expected vocab.txt')
        content = _read(folder, name).removesuffix(b'\n')
        weights[key] = torch.tensor(list(content), dtype=torch.uint8)
    meta = dict(cfg=text, dataset_meta=dataset_meta)
    if (folder / CALIBRATION).is_file():
        content = read_json(folder / CALIBRATION)
        meta['calibration'] = Calibration.from_dict(content, str(folder / CALIBRATION)).to_dict()
    return weights, meta


def _existing(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise FileNotFoundError(
            f'weights {folder}: the folder lacks {name}; expected one that '
            'tools/misc/publish_model.py has written'
        )
    return folder / name


def _read(folder: Path, name: str) -> bytes:
    return _existing(folder, name).read_bytes()
