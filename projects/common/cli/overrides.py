"""Parse config overrides and reject those that would have no effect."""

from __future__ import annotations

import argparse
import copy
import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from ..errors import InputError
from .arguments import (
    OF_EVERY_DICT,
    acceptable_keys,
    classes_of,
    default_section,
    runner_keys,
    subclass_with,
)
from .report import one_line
from .values import parse_value, settle

if TYPE_CHECKING:
    from mmengine.config import Config, ConfigDict

__all__ = ['OverrideAction', 'check_cfg_options', 'dotted_keys', 'merge_cfg_options']


class OverrideAction(argparse.Action):
    """Parse ``--cfg-options KEY=VALUE ...``; :func:`.parse_value` says what values mean."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Add the parsed values to the namespace.

        Errors are raised as ``argparse.ArgumentError``, so that argparse reports them with the name
        of the option.
        """
        options = dict(getattr(namespace, self.dest, None) or {})
        for text in values:
            key, equals, value = text.partition('=')
            if not equals or not key or any(map(str.isspace, key)):
                raise argparse.ArgumentError(self, f'found {text!r}, expected KEY=VALUE')
            try:
                options[key] = parse_value(value)
            except (ValueError, RecursionError) as error:
                reason = ' '.join(str(error).split())
                raise argparse.ArgumentError(self, f'found {text!r}: {reason}') from None
        setattr(namespace, self.dest, options)


def check_cfg_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Reject overrides that the run would never see; see :func:`merge_cfg_options`.

    Raises:
        InputError: An override has no effect, or its value does not fit.
    """
    merge_cfg_options(copy.deepcopy(cfg), options)


def merge_cfg_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Apply overrides to a config, in place, if all of them take effect.

    MMEngine merges any key. A mistyped key, or a top-level variable that the config file already
    used while it was read (`data_root`, `train_pipeline`), silently changes nothing. The order of
    the overrides does not matter: a new `type` comes before its arguments.

    Args:
        cfg: The config.
        options: Mapping from dotted keys to values, as parsed by :class:`OverrideAction`.

    Raises:
        InputError: An override has no effect, or its value does not fit. The one-line message names
            the key and the nearest key that takes effect.
    """
    for key in sorted(options, key=lambda key: (key.count('.'), key.split('.')[-1] != 'type')):
        present = _prepare_option(cfg, key)
        value = settle(options[key], key, present)
        try:
            cfg.merge_from_dict({key: value})
        except (KeyError, TypeError) as error:
            raise InputError(f'--cfg-options {key}: {one_line(error)}') from None


def _prepare_option(cfg: Config, key: str) -> Any:
    """Create the sections above an override that the config lacks, and return the present value.

    Raises:
        InputError: The override has no effect.
    """
    known_roots = runner_keys()
    parts = key.split('.')
    root = parts[0]
    tree = cfg._cfg_dict
    if root not in known_roots and root in tree:
        raise InputError(f'--cfg-options {key}: {_unreachable(tree, parts, known_roots)}')

    node: Any = tree
    parent: Any = None  # the dict around it
    for depth, part in enumerate(parts):
        path = parts[: depth + 1]
        where = '.'.join(parts[:depth])
        if isinstance(node, list):
            if not part.isdigit() or int(part) >= len(node):
                raise InputError(
                    f"--cfg-options {key}: '{where}' is a list with indices 0 to {len(node) - 1}"
                )
            parent, node = None, node[int(part)]
            continue
        if not isinstance(node, Mapping):
            found = f'{node!r}, which has no keys' if node is not None else 'not set'
            raise InputError(
                f"--cfg-options {key}: '{where}' is {found}; set '{where}' as a whole, such as "
                f'{where}="dict({part}=...)"'
            )
        accepted = acceptable_keys(cfg, parent, node, parts[:depth])
        # Any part of a parameter's name is a key of `custom_keys`.
        free = parts[max(depth - 1, 0)] == 'custom_keys'
        if not free and not (part in node or part in accepted or part in OF_EVERY_DICT):
            raise InputError(_unknown(cfg, key, path, node, accepted))
        if depth + 1 == len(parts):
            return node.get(part)
        child = node.get(part)
        if child is None and (section := default_section(cfg, node, path)) is not None:
            cast(dict, node)[part] = child = section
        parent, node = node, child
    return node


def _unknown(cfg: Config, key: str, path: list[str], node: Mapping, accepted: set[str]) -> str:
    """Return the error for `key`, where `path` ends in the part missing from the dict `node`."""
    tree = cfg._cfg_dict
    *parent, part = path
    text = f"--cfg-options {key}: the config has no '{'.'.join(path)}'"
    classes = classes_of(cfg, node, parent)
    for kind in classes:
        if part in getattr(kind, 'moved_arguments', ()):
            return f'{text}: this argument is now {".".join([*parent, kind.moved_arguments[part]])}'
    if owner := next(filter(None, (subclass_with(kind, part) for kind in classes)), None):
        return f"{text}: {part} is an argument of {owner}; set '{'.'.join([*parent, 'type'])}', too"
    there = {str(name) for name in node} if parent else accepted & set(tree)
    near = difflib.get_close_matches(part, sorted(there), n=1) or difflib.get_close_matches(
        part, sorted(accepted), n=1
    )
    if near:
        nearest = '.'.join([*parent, near[0]])
    else:
        known = runner_keys()
        keys = [k for k in dotted_keys(tree) if k.split('.')[0] in known]
        nearest = max(keys, key=lambda k: difflib.SequenceMatcher(None, k, key).ratio(), default='')
    return f"{text}; nearest: '{nearest}'"


def _unreachable(tree: ConfigDict, parts: list[str], known_roots: set[str]) -> str:
    """Explain that the config file has already used a top-level variable while it was read."""
    root, rest = parts[0], parts[1:]
    value = tree[root]
    nested = isinstance(value, (list, Mapping))
    places = [
        key
        for key, other in dotted_items(tree)
        if key.split('.')[0] in known_roots
        and other == value
        and (nested or key.split('.')[-1] == root)
    ]
    text = (
        f"'{root}' is a variable that the config file has already used; setting it changes nothing"
    )
    if places:
        shown = [f"'{'.'.join([place, *rest])}'" for place in places[:3]]
        text += f'. Set {" and ".join(shown)} instead'
    if root.startswith('data_root'):
        text += (
            '; the environment variable that holds the data root (DATA_ROOT in most configs, '
            'SCENES_ROOT for scenes) moves all data at once'
        )
    return text


def dotted_items(node: Any, prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Yield every dotted key below a config node with its value, including list indices."""
    children: Iterable[tuple[Any, Any]]
    if isinstance(node, Mapping):
        children = node.items()
    elif isinstance(node, (list, tuple)):
        children = enumerate(node)
    else:
        return
    for name, child in children:
        key = f'{prefix}.{name}' if prefix else str(name)
        yield key, child
        yield from dotted_items(child, key)


def dotted_keys(node: Any) -> list[str]:
    """Return the keys of :func:`dotted_items`."""
    return [key for key, _ in dotted_items(node)]
