"""Recognize checkpoint layouts of other code bases by tensor names, and name their converters.

A project lists the layouts that it converts in its module ``layouts``. They are only imported when
a file does not fit.
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
    """Represent the checkpoint layout of another code base.

    Attributes:
        name: Description of a file in this layout for messages, with an article.
        tool: Path of the converter relative to the root of the repository, or None if there is
            none.
        patterns: Regular expressions. A file has this layout if each of them matches the beginning
            of a name. Names of tensors in a list of state dicts start with the index in the list
            and a colon, as in ``0:fc.weight``.
    """

    name: str
    tool: str | None
    patterns: Sequence[str]

    def fits(self, names: Iterable[str]) -> bool:
        """Return whether the tensor names belong to this layout."""
        names = list(names)
        return all(any(re.match(p, name) for name in names) for p in self.patterns)

    @property
    def advice(self) -> str:
        """Return the advice for messages to the owner of such a file."""
        if self.tool is None:
            return f'it is {self.name}, for which there is no converter'
        return f'it is {self.name}, which {self.tool} makes fit'


def names_in(content: Any) -> list[str]:
    """Return the names of all tensors and arrays in a checkpoint.

    They may be the whole file, its entry ``state_dict``, ``model`` or ``blobs``, or a list of state
    dicts in one of these. A prefix ``module.``, as added by data parallelism, is removed.

    Args:
        content: The loaded content of the file.
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
    """Iterate over the layouts of all projects in this repository that can be imported."""
    import projects

    for project in pkgutil.iter_modules(projects.__path__):
        name = f'projects.{project.name}.layouts'
        try:
            module = importlib.import_module(name)
        except ImportError:  # no such module, or a missing dependency
            continue
        yield from getattr(module, 'LAYOUTS', ())


def recognise(content: Any) -> Layout | None:
    """Return the layout of a checkpoint, or None if it is unknown."""
    names = names_in(content)
    return next((layout for layout in known_layouts() if names and layout.fits(names)), None)


def recognise_pickle(path: str | os.PathLike) -> Layout | None:
    """Return the layout of a pickle of arrays, as written by Caffe2 and detectron2, or None."""
    from ..files.unpickle import load_pickle

    try:
        return recognise(load_pickle(path))
    except Exception:  # not a pickle of plain arrays, so there is no layout to report
        return None
