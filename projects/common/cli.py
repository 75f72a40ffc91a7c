"""What the command-line tools share: reading configs, checking overrides, reporting errors."""

from __future__ import annotations

import argparse
import contextlib
import copy
import difflib
import errno
import gc
import inspect
import json
import linecache
import logging
import os
import pickle
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict, DictAction

__all__ = [
    'OverrideAction',
    'UserError',
    'accepted_arguments',
    'add_run_options',
    'add_trust_option',
    'build_runner',
    'check_cfg_options',
    'load_config',
    'prepare',
    'report_user_errors',
    'run',
]

PACKAGE = Path(__file__).resolve().parents[1]  # projects/
CONFIGS = PACKAGE.parent / 'configs'

# Exceptions whose message is about what the user gave, wherever they are raised.
USER_KINDS = (
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
    json.JSONDecodeError,
    pickle.UnpicklingError,
)

# No room: on the disk, for the user, for a file.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# Top-level keys that tools or MMEngine read although `Runner.from_cfg` does not pass them on by
# name.
EXTRA_TOP_LEVEL = {
    'compile', 'custom_imports', 'find_unused_parameters', 'model_wrapper_cfg', 'runner_type',
    'sync_bn', 'tta_model', 'tta_pipeline',
}  # fmt: skip

# Dicts that no class with `type` describes, by the end of their path.
KNOWN_KEYS = {
    'auto_scale_lr': {'enable', 'base_batch_size'},
    'clip_grad': {'type', 'max_norm', 'norm_type', 'error_if_nonfinite', 'foreach', 'clip_value'},
    'compile': {'backend', 'mode', 'options', 'fullgraph', 'dynamic', 'disable'},
    'custom_imports': {'imports', 'allow_failed_imports'},
    'env_cfg': {'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'},
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


class UserError(Exception):
    """Something the user can put right; the message is all that they need to see."""


def load_config(path: str | os.PathLike, cfg_options: Mapping[str, Any] | None = None) -> Config:
    """Read a config file and apply checked overrides.

    Args:
        path: Config file.
        cfg_options: Dotted key to value, as `--cfg-options` gives it.

    Raises:
        UserError: No such file, a file that is no config, or an override that would have no effect.
    """
    path = Path(path)
    if not path.is_file():
        found = (
            {str(p.relative_to(CONFIGS.parent)): p for p in CONFIGS.rglob('*.py')}
            if CONFIGS.is_dir()
            else {}
        )
        by_name = {p.name: shown for shown, p in found.items()}
        near = difflib.get_close_matches(path.name, by_name, n=1)
        hint = f'; nearest: {by_name[near[0]]}' if near else ''
        raise UserError(f'config {path}: no such file{hint}')
    try:
        cfg = Config.fromfile(path)
    except FileNotFoundError as error:  # a `_base_` that is not there
        raise UserError(f'config {path}: {error}') from error
    except (SyntaxError, OSError) as error:
        raise UserError(f'config {path}: {type(error).__name__}: {error}') from error
    except (KeyError, TypeError) as error:
        # a variable of the environment, a key twice in the bases
        if not _raised_at(error)[0].endswith('mmengine/config/config.py'):
            raise
        raise UserError(f'config {path}: {_one_line(error)}') from error
    except ImportError as error:
        missing: BaseException | None = error
        while missing is not None and not isinstance(missing, ModuleNotFoundError):
            missing = missing.__cause__ or missing.__context__
        if missing is None:
            raise
        raise UserError(
            f'config {path}: custom_imports: {missing} (is its folder on PYTHONPATH?)'
        ) from error
    if cfg_options:
        check_cfg_options(cfg, cfg_options)
        cfg.merge_from_dict(dict(cfg_options))
    return cfg


# ---------------------------------------------------------------------------------- overrides


class OverrideAction(DictAction):
    """MMEngine's parser of `--cfg-options KEY=VALUE ...`, with one line for what it cannot read."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Adds the values to the namespace; argparse reports an error with the option's name."""
        for value in values:
            key, equals, _ = value.partition('=')
            if not equals or not key or any(map(str.isspace, key)):
                raise argparse.ArgumentError(self, f'found {value!r}, expected KEY=VALUE')
        try:
            super().__call__(parser, namespace, values, option_string)
        except (AssertionError, ValueError, IndexError, RecursionError) as error:
            reason = ' '.join(str(error).split())
            raise argparse.ArgumentError(self, f'found {values}: {reason}') from None


def runner_keys() -> set[str]:
    """Top-level config keys that reach the runner."""
    from mmengine.runner import Runner

    return set(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'} | EXTRA_TOP_LEVEL


def check_cfg_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Refuse overrides that the run would never see.

    MMEngine merges any key. A mistyped one, or a top-level variable that the config file had
    already used when it was read (`data_root`, `train_pipeline`), changes nothing and says nothing.

    Raises:
        UserError: One line with the key and the nearest one that takes effect.
    """
    cfg = copy.deepcopy(cfg)
    for key, value in options.items():
        _check_option(cfg, key)
        cfg.merge_from_dict({key: value})  # a later key may rest on this one: a new `type`, say


def _check_option(cfg: Config, key: str) -> None:
    known_roots = runner_keys()
    parts = key.split('.')
    root = parts[0]
    tree = cfg._cfg_dict
    if root not in known_roots and root in tree:
        raise UserError(f'--cfg-options {key}: {_unreachable(tree, parts, known_roots)}')
    if root not in tree and root not in known_roots:
        raise UserError(_unknown(key, [root], {}, known_roots, tree))

    node: Any = tree
    for depth, part in enumerate(parts):
        path = parts[: depth + 1]
        if isinstance(node, list):
            if not part.isdigit() or int(part) >= len(node):
                where = '.'.join(parts[:depth])
                raise UserError(
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
                # a section that may be there and is not: `randomness.seed`, `clip_grad.max_norm`
                node = {}
            else:
                raise UserError(
                    _unknown(key, path, node, _acceptable(cfg, node, parts[:depth]), tree)
                )
        else:
            where = '.'.join(parts[:depth])
            raise UserError(
                f"--cfg-options {key}: '{where}' is {node!r}, which has no keys; set '{where}' as "
                'a whole'
            )


def _unknown(key: str, path: list[str], node: Mapping, accepted: set[str], tree: ConfigDict) -> str:
    """The refusal of `key`: `path` ends in the part that the dict `node` lacks."""
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
    """Explain a top-level variable that was used up when the config file was read."""
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
    """Every dotted key below a config node with its value, list indices included."""
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
    """The keys of :func:`dotted_items`."""
    return [key for key, _ in dotted_items(node)]


def _known_keys(dotted: str) -> set[str]:
    """Keys of the dict at a path that MMEngine or PyTorch defines, empty for any other."""
    if dotted.endswith('_dataloader'):
        return KNOWN_KEYS['dataloader']
    return next(
        (names for end, names in KNOWN_KEYS.items() if f'.{dotted}'.endswith(f'.{end}')), set()
    )


def _acceptable(cfg: Config, node: Mapping, path: list[str]) -> set[str]:
    """Keys that the dict at `path` may have, as far as they can be known."""
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
    """What MMEngine's default class for a typeless section takes."""
    from mmengine.optim import OptimWrapper
    from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, TestLoop, ValLoop

    if name == 'train_cfg':
        loop = EpochBasedTrainLoop if node.get('by_epoch', True) else IterBasedTrainLoop
        return parameters(loop) | {'by_epoch'}
    if name == 'optim_wrapper':  # MMEngine takes the last three out before it builds the wrapper
        return parameters(OptimWrapper) | {'optimizer', 'constructor', 'paramwise_cfg'}
    return parameters(ValLoop if name == 'val_cfg' else TestLoop)


def _classes(cfg: Config, kind: Any) -> list[Any]:
    """The registered classes or functions that `type=kind` may mean."""
    from mmengine.registry import DefaultScope, Registry, root

    if not isinstance(kind, str):
        return [kind]
    found = []
    logging.disable(logging.WARNING)  # a registry that the scope's package does not have warns
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
    """Names of the arguments that a config dict with `type=kind` may have."""
    return set().union(*(parameters(target) for target in _classes(cfg, kind)))


def parameters(target: Any) -> set[str]:
    """Names of the arguments of a class or function, with those that `**kwargs` hands to bases."""
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


# ------------------------------------------------------------------------------------- errors


@contextlib.contextmanager
def report_user_errors() -> Iterator[None]:
    """End a tool with one line where the error is the user's to mend; bugs keep their traceback.

    `MMTRIAD_TRACEBACK=1` shows the traceback of every error.
    """
    try:
        yield
    except Exception as error:
        line = None if os.environ.get('MMTRIAD_TRACEBACK') == '1' else user_message(error)
        if line is None:
            raise
        rank = f'[rank {os.environ["RANK"]}] ' if 'RANK' in os.environ else ''
        sys.stdout.flush()
        print(f'{rank}error: {line}', file=sys.stderr, flush=True)
        sys.exit(1)


def user_message(error: BaseException) -> str | None:
    """The line to show for an error of the user's kind, None for any other."""
    in_worker = _worker_message(error)
    if in_worker is not None:
        return in_worker
    if isinstance(error, (UserError, *USER_KINDS)):
        return _one_line(error)
    if isinstance(error, OSError) and error.errno in FULL:
        return _one_line(error)
    if (killed := _killed_worker(error)) is not None:
        return (
            f'{_one_line(killed)} Mostly because memory ran out: take fewer '
            'train_dataloader.num_workers. --resume goes on from the last checkpoint'
        )
    if isinstance(error, (ValueError, KeyError, TypeError)):
        # MMEngine 0.10 raises errors of a constructor anew; the first one has the place and the
        # words.
        first = error
        while isinstance(cause := _raised_while(first), type(error)):
            first = cause
        if first is not error and (found := user_message(first)):
            return found
        file, line = _raised_at(error)
        if _is_ours(file) and line.startswith('raise ') and not isinstance(error, TypeError):
            return _one_line(error)
        # An unknown `type`, or an argument that the class (or a base behind **kwargs) does not
        # take.
        building = file.endswith(
            ('mmengine/registry/build_functions.py', 'mmengine/registry/registry.py')
        )
        if building or (
            line.startswith('super().__init__(') and 'unexpected keyword argument' in str(error)
        ):
            return f'in the config: {_one_line(error)}'
    return None


def _killed_worker(error: BaseException) -> BaseException | None:
    """PyTorch's error about a killed data-loading worker, where that is at the bottom of it.

    It comes from a signal, at any line: one that catches everything may have made another of it.
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, RuntimeError) and str(found).startswith('DataLoader worker (pid'):
            return found
        found = found.__cause__ or found.__context__
    return None


def _raised_while(error: BaseException) -> BaseException | None:
    """The error that this one was raised for; `raise ... from None` says that there is none."""
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f'{error.filename}: {error.strerror}'
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    text = re.sub(r'^class `[^`]*` in [\w/.]+: ', '', text)
    # MMEngine, on a `type` nobody registered
    text = text.split('. Please check whether the value of')[0]
    return ' '.join(text.split()) or type(error).__name__


def _is_ours(file: str) -> bool:
    path = Path(file).resolve()
    return PACKAGE in path.parents or PACKAGE.parent / 'tools' in path.parents


def _raised_at(error: BaseException) -> tuple[str, str]:
    """File and source line of the innermost frame."""
    trace = error.__traceback__
    if trace is None:
        return '', ''
    while trace.tb_next is not None:
        trace = trace.tb_next
    file = trace.tb_frame.f_code.co_filename
    return file.replace(os.sep, '/'), linecache.getline(file, trace.tb_lineno).strip()


def _worker_message(error: BaseException) -> str | None:
    """The original line of an error that a data-loading worker handed over as text."""
    text = str(error.args[0]) if error.args else ''
    if not (text.startswith('Caught ') and 'Original Traceback' in text):
        return None
    lines = text.rstrip().splitlines()
    last_frame = max(i for i, line in enumerate(lines) if line.lstrip().startswith('File "'))
    file = lines[last_frame].split('"')[1]
    source = lines[last_frame + 1].strip()
    # The message follows the source line (and its ^^^ marks) and may itself have several lines.
    message = next(
        (i for i in range(last_frame + 1, len(lines)) if re.match(r'[\w.]+: ', lines[i])), None
    )
    if message is None:
        return None
    ours = (
        _is_ours(file) and source.startswith('raise ') and isinstance(error, (ValueError, KeyError))
    )
    if not (isinstance(error, (UserError, *USER_KINDS)) or ours):
        return None
    return ' '.join(' '.join(lines[message:]).split()).split(': ', 1)[1]


# --------------------------------------------------------------------------------------- runs


def prepare(
    cfg: Config,
    config_path: str,
    launcher: str,
    work_dir: str | None = None,
    trust_checkpoint: bool = False,
) -> None:
    """Complete a config for a run on this machine, in place.

    Sets the launcher and the work folder, loads checkpoints safely, and starts `gloo` where several
    processes have no GPU.

    Args:
        cfg: The config.
        config_path: Its file; names the work folder where neither `work_dir` nor the config does.
        launcher: `none`, `pytorch`, `slurm` or `mpi`.
        work_dir: Folder for logs and checkpoints.
        trust_checkpoint: Unpickle checkpoints freely.
    """
    import torch

    import projects.common  # noqa: F401  registers what the tools add to configs

    from .allocator import keep_freed_memory
    from .checkpoint import use_safe_checkpoint_loading
    from .loading import use_checked_pretraining

    if not torch.cuda.is_available():
        keep_freed_memory()
    use_safe_checkpoint_loading(trust=trust_checkpoint)
    use_checked_pretraining()
    cfg.launcher = launcher
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(config_path).stem)
    if cfg.get('visualizer'):
        # MMEngine makes one of each name: a process's second run would log in the first one's.
        cfg.visualizer.name = cfg.work_dir
    if (cfg.get('randomness') or {}).get('deterministic'):
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # cuBLAS refuses without
    if launcher != 'none' and not torch.cuda.is_available():
        cfg.setdefault('env_cfg', {}).setdefault('dist_cfg', {})['backend'] = 'gloo'
        if launcher == 'pytorch' and not torch.distributed.is_initialized():
            # MMEngine's own start-up selects a CUDA device whatever the backend.
            torch.distributed.init_process_group('gloo')
        if cfg.get('model_wrapper_cfg') is None:  # the default wrapper names a CUDA device, too
            cfg.model_wrapper_cfg = dict(
                type='MMDistributedDataParallel',
                device_ids=None,
                broadcast_buffers=False,
                find_unused_parameters=cfg.get('find_unused_parameters', False),
            )


def add_trust_option(parser: argparse.ArgumentParser) -> None:
    """`--trust-checkpoint`, which is False unless it is given."""
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='unpickle checkpoints freely, which runs any code in them; only for files whose '
        'maker you trust',
    )


def add_run_options(parser: argparse.ArgumentParser, example: str) -> None:
    """The options that training and testing share.

    Args:
        parser: Parser to add them to.
        example: An override that makes sense for the command.
    """
    add_trust_option(parser)
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=OverrideAction,
        metavar='KEY=VALUE',
        help=f'override config settings, e.g. {example}',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher',
    )
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help='set by some launchers'
    )


def build_runner(cfg: Config, allow_partial: bool = False, hooks: Iterable[Any] = ()) -> Any:
    """Build the runner of a config, of its `runner_type` where it names one.

    It refuses checkpoints that do not fit the model.

    Args:
        cfg: The config.
        allow_partial: Let `load_from` in training load what fits of a checkpoint.
        hooks: Hooks beside the config's.
    """
    from mmengine.registry import RUNNERS
    from mmengine.runner import Runner

    from .loading import CheckLoadingHook

    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    for hook in (CheckLoadingHook(allow_partial), *hooks):
        runner.register_hook(hook)
    return runner


def leave_process_group() -> None:
    """Take the process out of its group, if it is in one, when all have come this far.

    Whatever holds the group, as a `DistributedDataParallel` does, must be gone: only then do gloo's
    threads end here. One that frees a tensor of Python's while the interpreter exits aborts a
    process that had finished.
    """
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        gc.collect()  # a runner and its model refer to one another
        torch.distributed.destroy_process_group()


def run(cfg: Config, action: str, allow_partial: bool = False, hooks: Iterable[Any] = ()) -> None:
    """Build the runner and let it `train` or `test`; then leave the process group in order.

    Args:
        cfg: The config.
        action: 'train' or 'test'.
        allow_partial: See :func:`build_runner`.
        hooks: See there.
    """
    getattr(build_runner(cfg, allow_partial, hooks), action)()
    leave_process_group()
