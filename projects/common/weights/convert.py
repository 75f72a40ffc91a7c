"""Convert weights from and to other code bases: read files, rename tensors, check strictly."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..files.atomic import is_zip, write_atomically
from ..files.unpickle import load_pickle
from .checkpoint import load_checkpoint_file
from .layouts import recognise

__all__ = [
    'Conversion',
    'KeyMap',
    'check_weights',
    'describe_mismatch',
    'print_names',
    'read_weights',
    'write_checkpoint',
]


_T = TypeVar('_T')


@dataclass(frozen=True)
class Conversion:
    """Hold converted weights.

    Attributes:
        weights: Tensors by name.
        dropped: Names of source tensors that have no place in the result.
        made: Names of result tensors that the source does not have.
    """

    weights: dict[str, Tensor]
    dropped: tuple[str, ...] = ()
    made: tuple[str, ...] = ()


class KeyMap:
    """Translate tensor names between another code base and ours.

    Args:
        rules: Pairs (theirs, ours) of name prefixes. ``{}`` matches one part without a dot, which
            is the same in both. The first matching pair is used, in either direction.

    Examples:
        >>> keys = KeyMap([('blocks.{}.mlp.fc1.', 'layers.{}.mlp.0.'), ('blocks.', 'layers.')])
        >>> keys.to_ours('blocks.3.mlp.fc1.bias'), keys.to_theirs('layers.3.norm.bias')
        ('layers.3.mlp.0.bias', 'blocks.3.norm.bias')
    """

    def __init__(self, rules: Iterable[tuple[str, str]]) -> None:
        rules = list(rules)
        self._to_ours = [(_pattern(theirs), ours) for theirs, ours in rules]
        self._to_theirs = [(_pattern(ours), theirs) for theirs, ours in rules]

    def to_ours(self, key: str) -> str | None:
        """Return our name for one of their tensors, or None if no rule matches."""
        return _rename(key, self._to_ours)

    def to_theirs(self, key: str) -> str | None:
        """Return their name for one of our tensors, or None if no rule matches."""
        return _rename(key, self._to_theirs)

    def all_to_ours(self, tensors: Mapping[str, _T]) -> dict[str, _T]:
        """Rename all entries to our names.

        Raises:
            ValueError: No rule matches a name.
        """
        return _rename_all(tensors, self.to_ours)

    def all_to_theirs(self, tensors: Mapping[str, _T]) -> dict[str, _T]:
        """Rename all entries to their names.

        Raises:
            ValueError: No rule matches a name.
        """
        return _rename_all(tensors, self.to_theirs)


def _pattern(beginning: str) -> re.Pattern:
    return re.compile(re.escape(beginning).replace(r'\{\}', r'([^.]+)'))


def _rename(key: str, rules: list[tuple[re.Pattern, str]]) -> str | None:
    for pattern, beginning in rules:
        found = pattern.match(key)
        if found:
            return beginning.format(*found.groups()) + key[found.end() :]
    return None


def _rename_all(tensors: Mapping[str, _T], rename: Callable[[str], str | None]) -> dict[str, _T]:
    renamed = {}
    for key, value in tensors.items():
        name = rename(key)
        if name is None:
            raise InputError(f'{key}: the other layout has no such tensor')
        renamed[name] = value
    return renamed


def read_weights(
    path: str | os.PathLike, trust: bool = False
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a checkpoint and its other entries.

    Supported are files written by ``torch.save`` and the ``.pkl`` files of detectron2 and Caffe2
    (pickled arrays). The tensors may be the whole file or its entry ``state_dict``, ``model`` or
    ``blobs``. A prefix ``module.`` of all names, as added by DDP, is removed.

    Args:
        path: The file.
        trust: Unpickle without restrictions, which runs any code that the file contains.

    Returns:
        Tensors by name, and the other entries of the file.

    Raises:
        FileNotFoundError: The file does not exist.
        pickle.UnpicklingError: The file is damaged or uses globals that weights do not need.
        ValueError: The file holds no weights.
    """
    path = Path(path)
    if path.suffix == '.pkl' and not is_zip(path):
        content = load_pickle(path, trust)
    else:
        content = load_checkpoint_file(path, trust=trust)
    rest: dict[str, Any] = {}
    whole = content
    if isinstance(content, Mapping):
        for name in ('state_dict', 'model', 'blobs'):
            if isinstance(content.get(name), Mapping):
                rest = {key: value for key, value in content.items() if key != name}
                content = content[name]
                break
    if not isinstance(content, Mapping) or not content:
        layout = recognise(whole)
        found = f'; {layout.advice}' if layout else ''
        raise InputError(f'{path}: holds no weights, expected tensors by name{found}')
    weights = {}
    for key, value in content.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in 'biuf' and value.itemsize <= 8:
            value = torch.from_numpy(value.astype(value.dtype.newbyteorder('='), copy=False))
        if not isinstance(value, Tensor):
            layout = recognise(whole)
            raise InputError(
                f'{path}: {layout.advice}'
                if layout
                else f'{path}: entry {key!r} is of type {type(value).__name__}, expected a tensor; '
                'the weights are looked for in the whole file and in state_dict, model and blobs'
            )
        weights[str(key)] = value
    if all(key.startswith('module.') for key in weights):
        weights = {key.removeprefix('module.'): value for key, value in weights.items()}
    return weights, rest


def write_checkpoint(path: str | os.PathLike, content: Mapping[str, Any]) -> None:
    """Write a checkpoint with ``torch.save`` so that an interruption leaves no partial file."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    write_atomically(Path(path), buffer.getbuffer())


def describe_mismatch(
    found: Mapping[str, Tensor], expected: Mapping[str, Sequence[int]]
) -> str | None:
    """Describe how weights differ from a model in one line, or return None if they do not.

    The line names the first key of each kind of difference.

    Args:
        found: Tensors by name.
        expected: Shapes by name.
    """
    missing = [key for key in expected if key not in found]
    unexpected = [key for key in found if key not in expected]
    misshapen = [
        f'{key} is {tuple(found[key].shape)}, expected {tuple(shape)}'
        for key, shape in expected.items()
        if key in found and tuple(found[key].shape) != tuple(shape)
    ]
    kinds = (('missing', missing), ('unexpected', unexpected), ('misshapen', misshapen))
    parts = [f'{len(keys)} {kind} (first: {keys[0]})' for kind, keys in kinds if keys]
    return '; '.join(parts) or None


def check_weights(
    found: Mapping[str, Tensor], expected: Mapping[str, Sequence[int]], what: str
) -> None:
    """Reject weights that differ from ``expected`` in a name or a shape.

    Raises:
        ValueError: The weights differ. The message consists of ``what`` and
            :func:`describe_mismatch`.
    """
    problem = describe_mismatch(found, expected)
    if problem:
        raise InputError(f'{what}: of {len(expected)} tensors {problem}')


def print_names(names: Sequence[str], what: str) -> None:
    """Print the number of names, labeled ``what``, and one name per line; nothing if empty."""
    if names:
        print(f'{len(names)} {what}:', *names, sep='\n  ')
