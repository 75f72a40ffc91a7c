"""The JSON file beside exported networks, which says how to use them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files.annotation_files import read_json

__all__ = ['network_path', 'read_sidecar', 'sidecar_path', 'write_sidecar']

VERSION = 1
FIELDS: dict[str, type | tuple[type, ...]] = {
    'version': int, 'project': str, 'dtype': str, 'networks': dict, 'mean': list, 'std': list,
    'resize': list,
}  # fmt: skip


def sidecar_path(out: str | os.PathLike) -> Path:
    """Return the path of the description of ``out``, which ends in ``.onnx``: ``<stem>.json``."""
    return Path(out).with_suffix('.json')


def network_path(out: str | os.PathLike, name: str) -> Path:
    """Return the path of one of several networks: ``<stem>.<name>.onnx``."""
    return Path(out).with_suffix(f'.{name}.onnx')


def write_sidecar(out: str | os.PathLike, content: Mapping[str, Any]) -> Path:
    """Write the description of exported networks and return its path."""
    path = sidecar_path(out)
    text = json.dumps({'version': VERSION, **content}, ensure_ascii=False, indent=1)
    path.write_text(text + '\n', encoding='utf-8')
    return path


def read_sidecar(path: str | os.PathLike, project: str | None = None) -> dict[str, Any]:
    """Read and check the description of exported networks.

    Args:
        path: The ``.json`` file that ``tools/deployment/export_onnx.py`` wrote.
        project: 'plvl', 'pdsl' or 'rvse' if only networks of this project are expected.

    Returns:
        The content. The values of ``networks`` are paths of existing files.

    Raises:
        FileNotFoundError: The file or one of the networks does not exist.
        InputError: The file is not such a description, or describes another project.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such file; tools/deployment/export_onnx.py writes it')
    if path.suffix == '.onnx':
        raise InputError(f'{path}: a network; expected the .json file beside it')
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f'{path}: found a {type(content).__name__}, expected an object')
    for field, kind in FIELDS.items():
        if not isinstance(content.get(field), kind):
            found = f'found {content[field]!r}' if field in content else 'it is missing'
            raise InputError(f'{path}: {field}: {found}; expected what export_onnx.py writes')
    if content['version'] != VERSION:
        raise InputError(f'{path}: version: found {content["version"]}, expected {VERSION}')
    if project is not None and content['project'] != project:
        raise InputError(f'{path}: project: found {content["project"]!r}, expected {project!r}')
    for name, file in content['networks'].items():
        if not isinstance(file, str) or Path(file).name != file:
            raise InputError(f'{path}: networks.{name}: found {file!r}, expected a name of a file')
        content['networks'][name] = path.parent / file
        if not content['networks'][name].is_file():
            raise FileNotFoundError(f'{path}: networks.{name}: no such file as {file} beside it')
    return content
