"""Find weights that have the right shapes but another meaning under the current config.

The weights of attention with a different number of heads are an example. They are detected by the
config that MMEngine stores in a checkpoint. Classes declare the meaning of their weights with

- ``semantic_arguments``: names of constructor arguments that must be equal;
- ``weight_semantics(arguments)``: a class method that returns, by name, what the weights mean under
  these constructor arguments. Values that both configs name must be equal.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.logging import print_log
from mmengine.registry import MODELS, DefaultScope

from ..config_text import config_of_checkpoint
from ..errors import InputError

__all__ = ['check_semantics']


def check_semantics(content: Any, model: Mapping, scope: str, source: str | os.PathLike) -> None:
    """Reject a checkpoint whose weights have a different meaning under the current config.

    Nothing is compared if the checkpoint has no config, as is the case for converted ones.

    Args:
        content: The loaded content of the file.
        model: Config of the model that the weights are for.
        scope: The ``default_scope`` in which names are looked up.
        source: The name of the file in messages.

    Raises:
        ValueError: A value differs that does not affect the shapes of the weights.
    """
    meta = content.get('meta') if isinstance(content, Mapping) else None
    if not isinstance(meta, Mapping) or not isinstance(meta.get('cfg'), str):
        return
    try:
        theirs = config_of_checkpoint(dict(meta=meta), os.fspath(source)).get('model')
    except ValueError as error:
        print_log(f'{error}: names and shapes alone were compared', 'current')
        return
    if not isinstance(theirs, Mapping):
        return
    with DefaultScope.overwrite_default_scope(scope):
        for where, (found, expected) in _differences(theirs, model, 'model'):
            raise InputError(
                f'checkpoint {source}: {where} is {found!r} in its config, but {expected!r} here; '
                'the shapes of the weights are the same and their meaning is not'
            )


def _differences(theirs: Any, ours: Any, where: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield the places where two configs give weights a different meaning."""
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        if where.endswith('.data_preprocessor'):  # it applies to the inputs of every model
            for name in ('mean', 'std', 'bgr_to_rgb', 'rgb_to_bgr'):
                pair = _plain(theirs.get(name)), _plain(ours.get(name))
                if pair[0] != pair[1]:
                    yield f'{where}.{name}', pair
        found, expected = _semantics(theirs), _semantics(ours)
        if found is not None or expected is not None:
            if theirs.get('type') != ours.get('type'):
                yield f'{where}.type', (theirs.get('type'), ours.get('type'))
                return
            found, expected = found or {}, expected or {}
            for name in (each for each in expected if each in found):
                pair = _plain(found[name]), _plain(expected[name])
                if pair[0] != pair[1]:
                    yield f'{where}.{name}', pair
        for key in ours:
            if key in theirs:
                yield from _differences(theirs[key], ours[key], f'{where}.{key}')
    elif isinstance(theirs, (list, tuple)) and isinstance(ours, (list, tuple)):
        for i, (their, our) in enumerate(zip(theirs, ours)):
            yield from _differences(their, our, f'{where}.{i}')


def _semantics(node: Mapping) -> dict | None:
    """Return what the class of a config node declares about its weights, or None."""
    kind: Any = node.get('type')
    if isinstance(kind, str):
        try:
            kind = MODELS.get(kind)
        except Exception:  # the scope's package may not be installed
            return None
    names = getattr(kind, 'semantic_arguments', ())
    if not names and not hasattr(kind, 'weight_semantics'):
        return None
    arguments = {
        name: parameter.default
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.default is not parameter.empty
    }
    arguments.update(node)
    meaning = {name: arguments.get(name) for name in names}
    if hasattr(kind, 'weight_semantics'):
        meaning.update(kind.weight_semantics(arguments))
    return meaning


def _plain(value: Any) -> Any:
    """Convert lists to tuples at every depth, because config texts do not distinguish them."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return tuple(_plain(each) for each in value)
    return value
