"""Layouts of other code bases' checkpoints: recognised by names of tensors, with their converter.

A project lists the layouts that it converts in a module ``layouts`` of its own; they are found
there when a file does not fit, and not before.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

__all__ = ['Layout', 'known_layouts', 'names_in', 'recognise']


@dataclass(frozen=True)
class Layout:
    """A checkpoint layout of another code base.

    Attributes:
        name: What messages call a file in this layout, with its article.
        tool: The converter, as a path from the root of the repository; None where there is none.
        patterns: Regular expressions; a file has this layout where each one is found at the
            beginning of a name. Tensors in a list of state dicts begin with their place in it and
            a colon, as in ``0:fc.weight``.
    """

    name: str
    tool: str | None
    patterns: Sequence[str]

    def fits(self, names: Iterable[str]) -> bool:
        """Whether names of tensors are those of this layout."""
        names = list(names)
        return all(any(re.match(p, name) for name in names) for p in self.patterns)

    @property
    def advice(self) -> str:
        """What a message says to the owner of such a file."""
        if self.tool is None:
            return f'it is {self.name}, for which there is no converter'
        return f'it is {self.name}, which {self.tool} makes fit'


def names_in(content: Any) -> list[str]:
    """Return the names of all tensors and arrays of what a checkpoint file holds.

    They may be the whole file, its entry ``state_dict``, ``model`` or ``blobs``, or a list of
    state dicts in one of these. A prefix ``module.``, which data parallelism leaves, is taken off.

    Args:
        content: What the file was read into.
    """
    if not isinstance(content, Mapping):
        return []
    for name in ('state_dict', 'model', 'blobs'):
        if isinstance(content.get(name), (Mapping, Sequence)):
            content = content[name]
            break
    if isinstance(content, Sequence):
        parts = enumerate(content) if not isinstance(content, (str, bytes)) else ()
        return [f'{i}:{name}' for i, part in parts for name in names_in(part)]
    return [
        str(name).removeprefix('module.')
        for name, value in content.items()
        if isinstance(value, (Tensor, np.ndarray))
    ]


def known_layouts() -> Iterator[Layout]:
    """Iterate over the layouts of all projects of this repository that can be imported."""
    import projects

    for project in pkgutil.iter_modules(projects.__path__):
        name = f'projects.{project.name}.layouts'
        try:
            module = importlib.import_module(name)
        except ImportError:  # it has none, or what it needs is not installed
            continue
        yield from getattr(module, 'LAYOUTS', ())


def recognise(content: Any) -> Layout | None:
    """Return the layout of what a checkpoint file holds; None where it is not known."""
    names = names_in(content)
    return next((layout for layout in known_layouts() if names and layout.fits(names)), None)


def recognise_pickle(path: str | os.PathLike) -> Layout | None:
    """Return the layout of a pickle of arrays, as Caffe2 and detectron2 write; None for others."""
    from ..files.unpickle import load_pickle

    try:
        return recognise(load_pickle(path))
    except Exception:  # no pickle of plain arrays: not ours to explain
        return None
