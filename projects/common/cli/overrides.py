"""Parse config overrides and reject those that would have no effect."""

from __future__ import annotations

import argparse
import copy
import difflib
import inspect
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from mmengine.config import Config, ConfigDict

__all__ = ['OverrideAction', 'accepted_arguments', 'check_cfg_options', 'dotted_keys', 'parameters']

# Top-level keys that the tools or MMEngine read even though `Runner.from_cfg` does not pass them by
# name.
EXTRA_TOP_LEVEL = {
    'compile', 'custom_imports', 'find_unused_parameters', 'model_wrapper_cfg', 'runner_type',
    'sync_bn', 'tta_model', 'tta_pipeline',
}  # fmt: skip

# Keys of dicts without a `type`, by the end of the dict's path.
KNOWN_KEYS = {
    'auto_scale_lr': {'enable', 'base_batch_size'},
    'clip_grad': {'type', 'max_norm', 'norm_type', 'error_if_nonfinite', 'foreach', 'clip_value'},
    'compile': {'backend', 'mode', 'options', 'fullgraph', 'dynamic', 'disable'},
    'custom_imports': {'imports', 'allow_failed_imports'},
    'env_cfg': {'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit', 'fast_products'},
    'env_cfg.dist_cfg': {'backend', 'init_method', 'timeout', 'port'},
    'env_cfg.mp_cfg': {'mp_start_method', 'opencv_num_threads'},
    'paramwise_cfg': {
        'bias_decay_mult', 'bias_lr_mult', 'bypass_duplicate', 'custom_keys', 'dcn_offset_lr_mult',
        'decay_rate', 'decay_type', 'dwconv_decay_mult', 'flat_decay_mult', 'norm_decay_mult',
        'num_layers',
    },
    'randomness': {'seed', 'deterministic', 'diff_rank_seed'},
    'dataloader': {
        'batch_sampler', 'batch_size', 'collate_fn', 'dataset', 'drop_last',
        'multiprocessing_context', 'num_batch_per_epoch', 'num_workers', 'persistent_workers',
        'pin_memory', 'prefetch_factor', 'sampler', 'timeout', 'worker_init_fn',
    },
}  # fmt: skip


class OverrideAction(argparse.Action):
    """Parse ``--cfg-options KEY=VALUE ...`` like MMEngine's ``DictAction``, and accept literals.

    A value that starts like a literal (with a bracket, a brace, a quote or ``dict(``) and parses as
    one is used as such: ``param_scheduler="[dict(type='ConstantLR', factor=1)]"`` is a list of
    dicts.
    """

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
            except (AssertionError, ValueError, IndexError, RecursionError) as error:
                reason = ' '.join(str(error).split())
                raise argparse.ArgumentError(self, f'found {text!r}: {reason}') from None
        setattr(namespace, self.dest, options)


def parse_value(text: str) -> Any:
    """Parse an override as a literal, or else like MMEngine's ``DictAction``."""
    from mmengine.config import DictAction

    from ..config_text import parse_literal

    if text.lstrip().startswith(('[', '(', '{', '"', "'", 'dict(')):
        try:
            return parse_literal(text.strip())
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            pass  # for example [a,b]: strings without quotes
    return DictAction._parse_iterable(text)


def runner_keys() -> set[str]:
    """Return the top-level config keys that reach the runner."""
    from mmengine.runner import Runner

    return set(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'} | EXTRA_TOP_LEVEL


def check_cfg_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Reject overrides that the run would never see.

    MMEngine merges any key. A mistyped key, or a top-level variable that the config file already
    used while it was read (`data_root`, `train_pipeline`), silently changes nothing.

    Raises:
        InputError: An override has no effect. The one-line message names the key and the nearest
            key that takes effect.
    """
    cfg = copy.deepcopy(cfg)
    for key, value in options.items():
        _check_option(cfg, key)
        cfg.merge_from_dict({key: value})  # later keys may depend on this one, such as a new `type`


def _check_option(cfg: Config, key: str) -> None:
    known_roots = runner_keys()
    parts = key.split('.')
    root = parts[0]
    tree = cfg._cfg_dict
    if root not in known_roots and root in tree:
        raise InputError(f'--cfg-options {key}: {_unreachable(tree, parts, known_roots)}')
    if root not in tree and root not in known_roots:
        raise InputError(_unknown(key, [root], {}, known_roots, tree))

    node: Any = tree
    for depth, part in enumerate(parts):
        path = parts[: depth + 1]
        if isinstance(node, list):
            if not part.isdigit() or int(part) >= len(node):
                where = '.'.join(parts[:depth])
                raise InputError(
                    f"--cfg-options {key}: '{where}' is a list with indices 0 to {len(node) - 1}"
                )
            node = node[int(part)]
        elif isinstance(node, Mapping):
            is_last = depth == len(parts) - 1
            if part in node:
                node = node[part]
            elif _accepts(cfg, node, parts[:depth], part) and (
                is_last or _known_keys('.'.join(path))
            ):
                if is_last:
                    return
                # An optional section that is not set: `randomness.seed`, `clip_grad.max_norm`.
                node = {}
            else:
                if place := _moved(cfg, node, part):
                    place = '.'.join([*parts[:depth], place])
                    raise InputError(f'--cfg-options {key}: this argument is now {place}')
                raise InputError(
                    _unknown(key, path, node, _acceptable(cfg, node, parts[:depth]), tree)
                )
        else:
            where = '.'.join(parts[:depth])
            raise InputError(
                f"--cfg-options {key}: '{where}' is {node!r}, which has no keys; set '{where}' as "
                'a whole'
            )


def _unknown(key: str, path: list[str], node: Mapping, accepted: set[str], tree: ConfigDict) -> str:
    """Return the error for `key`, where `path` ends in the part missing from the dict `node`."""
    *parent, part = path
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
    return f"--cfg-options {key}: the config has no '{'.'.join(path)}'; nearest: '{nearest}'"


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
        text += '; the environment variable DATA_ROOT moves all data at once'
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


def _known_keys(dotted: str) -> set[str]:
    """Return the keys that MMEngine or PyTorch defines for the dict at a path, or an empty set."""
    if dotted.endswith('_dataloader'):
        return KNOWN_KEYS['dataloader']
    return next(
        (names for end, names in KNOWN_KEYS.items() if f'.{dotted}'.endswith(f'.{end}')), set()
    )


def _acceptable(cfg: Config, node: Mapping, path: list[str]) -> set[str]:
    """Return the keys that the dict at `path` may have, as far as they are known."""
    if not path:
        return runner_keys()
    dotted = '.'.join(path)
    keys = _known_keys(dotted)
    if 'type' in node:
        keys |= accepted_arguments(cfg, node['type'])
    elif dotted in ('train_cfg', 'val_cfg', 'test_cfg', 'optim_wrapper'):
        keys |= _default_parameters(dotted, node)
    return keys


def _accepts(cfg: Config, node: Mapping, path: list[str], name: str) -> bool:
    if name in ('_delete_', '_scope_', 'type'):
        return True
    return name in _acceptable(cfg, node, path)


def _default_parameters(name: str, node: Mapping) -> set[str]:
    """Return the arguments of the class that MMEngine uses for a section without a `type`."""
    from mmengine.optim import OptimWrapper
    from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, TestLoop, ValLoop

    if name == 'train_cfg':
        loop = EpochBasedTrainLoop if node.get('by_epoch', True) else IterBasedTrainLoop
        return parameters(loop) | {'by_epoch'}
    if name == 'optim_wrapper':  # MMEngine pops the last three before it builds the wrapper
        return parameters(OptimWrapper) | {'optimizer', 'constructor', 'paramwise_cfg'}
    return parameters(ValLoop if name == 'val_cfg' else TestLoop)


def _classes(cfg: Config, kind: Any) -> list[Any]:
    """Return the registered classes or functions that `type=kind` may refer to."""
    from mmengine.registry import DefaultScope, Registry, root

    if not isinstance(kind, str):
        return [kind]
    found = []
    logging.disable(logging.WARNING)  # MMEngine warns where a scope's package lacks a registry
    try:
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
            for registry in vars(root).values():
                if isinstance(registry, Registry):
                    with registry.switch_scope_and_registry(None) as scoped:
                        target = scoped.get(kind)
                    if target is not None and target not in found:
                        found.append(target)
    finally:
        logging.disable(logging.NOTSET)
    return found


def _moved(cfg: Config, node: Mapping, name: str) -> str | None:
    """Return what replaces a former argument of a class, as its ``moved_arguments`` says."""
    for target in _classes(cfg, node['type']) if 'type' in node else ():
        if name in (moved := getattr(target, 'moved_arguments', {})):
            return moved[name]
    return None


def accepted_arguments(cfg: Config, kind: Any) -> set[str]:
    """Return the names of the arguments that a config dict with `type=kind` may have."""
    return set().union(*(parameters(target) for target in _classes(cfg, kind)))


def parameters(target: Any) -> set[str]:
    """Return the argument names of a class or function, following `**kwargs` to base classes."""
    functions = (
        [
            c.__dict__['__init__']
            for c in target.__mro__
            if '__init__' in c.__dict__ and c is not object
        ]
        if inspect.isclass(target)
        else [target]
    )
    names: set[str] = set()
    for function in functions:
        try:
            signature = inspect.signature(function).parameters
        except (TypeError, ValueError):  # a built-in without a signature
            break
        kinds = inspect.Parameter
        names |= {
            n
            for n, p in signature.items()
            if p.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
        }
        if not any(p.kind is kinds.VAR_KEYWORD for p in signature.values()):
            break
    return names - {'self'}
