"""Find out which keys the dicts of a config may have: the arguments of the classes they build."""

from __future__ import annotations

import copy
import functools
import inspect
import logging
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine.config import Config, ConfigDict

__all__ = [
    'OF_EVERY_DICT',
    'accepted_arguments',
    'acceptable_keys',
    'classes_of',
    'default_section',
    'parameters',
    'runner_keys',
    'subclass_with',
]

# Top-level keys that the tools or MMEngine read even though `Runner.from_cfg` does not pass them by
# name.
EXTRA_TOP_LEVEL = {
    'compile', 'custom_imports', 'find_unused_parameters', 'model_wrapper_cfg', 'runner_type',
    'sync_bn', 'tta_model', 'tta_pipeline',
}  # fmt: skip

# Keys of dicts, beside the arguments of their `type`, by the end of the dict's path.
KNOWN_KEYS = {
    'auto_scale_lr': {'enable', 'base_batch_size'},
    'clip_grad': {'type', 'max_norm', 'norm_type', 'error_if_nonfinite', 'foreach', 'clip_value'},
    'compile': {'backend', 'mode', 'options', 'fullgraph', 'dynamic', 'disable'},
    'custom_imports': {'imports', 'allow_failed_imports'},
    'env_cfg': {'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit', 'fast_products', 'tf32'},
    'env_cfg.dist_cfg': {'backend', 'init_method', 'timeout', 'port'},
    'env_cfg.mp_cfg': {'mp_start_method', 'opencv_num_threads'},
    'metainfo': {'classes', 'palette'},
    # MMEngine pops these before it builds the wrapper.
    'optim_wrapper': {'optimizer', 'constructor', 'paramwise_cfg'},
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

OF_EVERY_DICT = {'_delete_', '_scope_', 'type'}


def runner_keys() -> set[str]:
    """Return the top-level config keys that reach the runner."""
    from mmengine.runner import Runner

    return set(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'} | EXTRA_TOP_LEVEL


def acceptable_keys(cfg: Config, parent: Any, node: Mapping, path: list[str]) -> set[str]:
    """Return the keys that a dict may have beside those of every dict, as far as they are known.

    Args:
        cfg: The config.
        parent: The dict that contains it, or None.
        node: The dict.
        path: Its path, empty for the config itself.
    """
    if not path:
        return runner_keys()
    keys = set(_known_keys(path))
    for kind in classes_of(cfg, node, path):
        keys |= parameters(kind)
    if path == ['train_cfg'] and 'type' not in node:
        keys |= {'by_epoch'}
    if isinstance(parent, Mapping):
        keys |= _keys_read(classes_of(cfg, parent, path[:-1]), path[-1])
    return keys


def default_section(cfg: Config, parent: Mapping, path: list[str]) -> ConfigDict | None:
    """Return what a dict that is not set starts from: the default of the argument, or no keys.

    Args:
        cfg: The config.
        parent: The dict that does not contain it.
        path: Its path.

    Returns:
        None if none of its keys are known.
    """
    from mmengine.config import ConfigDict

    classes = classes_of(cfg, parent, path[:-1])
    for kind in classes:
        default = _signature(kind).get(path[-1])
        if default is not None and isinstance(default.default, Mapping):
            return ConfigDict(copy.deepcopy(dict(default.default)))
    known = path[-1] == 'custom_keys' or _known_keys(path) or _keys_read(classes, path[-1])
    return ConfigDict() if known else None


def _known_keys(path: list[str]) -> set[str]:
    """Return the keys that MMEngine or PyTorch defines for the dict at a path, or an empty set."""
    if path[-1].endswith('_dataloader'):
        return KNOWN_KEYS['dataloader']
    if path[-2:-1] == ['custom_keys']:
        return {'lr_mult', 'decay_mult'}
    dotted = '.'.join(path)
    return next(
        (names for end, names in KNOWN_KEYS.items() if f'.{dotted}'.endswith(f'.{end}')), set()
    )


def classes_of(cfg: Config, node: Mapping, path: list[str]) -> list[Any]:
    """Return the classes or functions that a dict of a config may build.

    Args:
        cfg: The config.
        node: The dict.
        path: Its path; MMEngine has default classes for some sections without a ``type``.
    """
    from mmengine.optim import OptimWrapper
    from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, TestLoop, ValLoop

    if 'type' in node:
        return _registered(cfg, node['type'])
    train_loop = EpochBasedTrainLoop if node.get('by_epoch', True) else IterBasedTrainLoop
    defaults: dict[str, Any] = dict(
        train_cfg=train_loop, val_cfg=ValLoop, test_cfg=TestLoop, optim_wrapper=OptimWrapper
    )
    return [defaults[path[0]]] if len(path) == 1 and path[0] in defaults else []


def _registered(cfg: Config, kind: Any) -> list[Any]:
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


def accepted_arguments(cfg: Config, kind: Any) -> set[str]:
    """Return the names of the arguments that a config dict with `type=kind` may have."""
    return set().union(*(parameters(target) for target in _registered(cfg, kind)))


def parameters(target: Any) -> set[str]:
    """Return the argument names of a class or function, following `**kwargs` to base classes."""
    return set(_signature(target))


def _signature(target: Any) -> dict[str, inspect.Parameter]:
    """Return the parameters by name; see :func:`parameters`."""
    functions = (
        [
            c.__dict__['__init__']
            for c in target.__mro__
            if '__init__' in c.__dict__ and c is not object
        ]
        if inspect.isclass(target)
        else [target]
    )
    found: dict[str, inspect.Parameter] = {}
    for function in functions:
        try:
            signature = inspect.signature(function).parameters
        except (TypeError, ValueError):  # a built-in without a signature
            break
        kinds = inspect.Parameter
        named = (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
        for name, parameter in signature.items():
            if parameter.kind in named and name != 'self':
                found.setdefault(name, parameter)
        if not any(p.kind is kinds.VAR_KEYWORD for p in signature.values()):
            break
    return found


def subclass_with(kind: Any, argument: str) -> str | None:
    """Return the name of a subclass that has an argument which the class lacks, if there is one."""
    for subclass in kind.__subclasses__() if inspect.isclass(kind) else ():
        if argument in parameters(subclass):
            return subclass.__name__
        if found := subclass_with(subclass, argument):
            return found
    return None


def _keys_read(classes: Iterable[Any], argument: str) -> set[str]:
    """Return the keys that classes read from an argument that is a dict, such as ``filter_cfg``."""
    return set().union(
        *(
            _keys_in_source(base, argument)
            for kind in classes
            if inspect.isclass(kind)
            for base in kind.__mro__
            if base.__module__.partition('.')[0] not in ('builtins', 'torch')
        )
    )


@functools.cache
def _keys_in_source(kind: type, argument: str) -> frozenset[str]:
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):
        return frozenset()
    reading = rf'(?<!\w)_?{re.escape(argument)}(?:\.get\(|\[)\s*[\'"](\w+)[\'"]'
    return frozenset(re.findall(reading, source)) - OF_EVERY_DICT
