"""Run a config: adapt it to this machine, build the runner and shut down cleanly."""

from __future__ import annotations

import gc
import inspect
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine.config import Config

__all__ = ['build_runner', 'copy_asynchronously', 'leave_process_group', 'prepare', 'run']


def prepare(
    cfg: Config,
    config_path: str,
    launcher: str,
    work_dir: str | None = None,
    trust_checkpoint: bool = False,
) -> None:
    """Prepare a config for a run on this machine, in place.

    Sets the launcher and the work directory, enables safe checkpoint loading, and initializes the
    `gloo` backend if several processes run without a GPU.

    Args:
        cfg: The config.
        config_path: Path of the config file. It names the work directory if neither `work_dir` nor
            the config does.
        launcher: `none`, `pytorch`, `slurm` or `mpi`.
        work_dir: Directory for logs and checkpoints.
        trust_checkpoint: Unpickle checkpoints without restrictions.

    Raises:
        InputError: The environment of the launcher is incomplete, or a process has no GPU.
    """
    import torch

    import projects.common.register  # noqa: F401  registers the classes that the tools add

    from ..speed.allocator import keep_freed_memory
    from ..weights.checkpoint import use_safe_checkpoint_loading
    from ..weights.loading import use_checked_pretraining
    from .launch import check_rank, join_without_gpu

    if not torch.distributed.is_initialized():
        check_rank(launcher)
    if torch.cuda.is_available():
        copy_asynchronously(cfg)
    else:
        keep_freed_memory()
    use_safe_checkpoint_loading(trust=trust_checkpoint)
    use_checked_pretraining()
    cfg.launcher = launcher
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(config_path).stem)
    if cfg.get('visualizer'):
        # MMEngine keeps one instance per name: a second run in the same process would log to the
        # first run's files.
        cfg.visualizer.name = cfg.work_dir
    if (cfg.get('randomness') or {}).get('deterministic'):
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # required by cuBLAS
    if launcher != 'none' and not torch.cuda.is_available():
        cfg.setdefault('env_cfg', {}).setdefault('dist_cfg', {})['backend'] = 'gloo'
        if not torch.distributed.is_initialized():
            join_without_gpu(launcher)
        if cfg.get('model_wrapper_cfg') is None:  # the default wrapper also names a CUDA device
            cfg.model_wrapper_cfg = dict(
                type='MMDistributedDataParallel',
                device_ids=None,
                broadcast_buffers=False,
                find_unused_parameters=cfg.get('find_unused_parameters', False),
            )


def copy_asynchronously(cfg: Config) -> None:
    """Pin the batches of all loaders and copy them to a GPU asynchronously, unless the config says.

    Args:
        cfg: The config, changed in place.
    """
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg.get(name)
        if isinstance(loader, dict):
            loader.setdefault('pin_memory', True)
    for node in (cfg.get('model'), cfg):
        processor = (node or {}).get('data_preprocessor')
        if isinstance(processor, dict) and _accepts(processor.get('type'), 'non_blocking'):
            processor.setdefault('non_blocking', True)


def _accepts(kind: Any, argument: str) -> bool:
    """Return whether a registered class has an argument; mmpretrain's preprocessor lacks some."""
    from mmengine.registry import MODELS

    cls = MODELS.get(kind) if isinstance(kind, str) else kind
    return cls is not None and argument in inspect.signature(cls).parameters


def build_runner(cfg: Config, allow_partial: bool = False, hooks: Iterable[Any] = ()) -> Any:
    """Build the runner of a config, respecting its `runner_type`.

    The runner rejects checkpoints that do not fit the model.

    Args:
        cfg: The config.
        allow_partial: When training from `load_from`, load only the weights that fit.
        hooks: Additional hooks.
    """
    from mmengine.registry import RUNNERS
    from mmengine.runner import Runner

    from ..speed.precision import use_tf32
    from ..speed.products import FastProductsHook
    from ..weights.loading import CheckLoadingHook

    if cfg.get('compile'):
        import torch._dynamo

        torch._dynamo.config.allow_rnn = True  # GRUs run as one operator, without a graph break
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    environment = cfg.get('env_cfg') or {}
    use_tf32(environment.get('tf32'))
    fast = FastProductsHook(environment.get('fast_products'))
    for hook in (CheckLoadingHook(allow_partial), fast, *hooks):
        runner.register_hook(hook)
    return runner


def leave_process_group() -> None:
    """Leave the process group, if there is one, once all processes have reached this point.

    All objects that hold the group, such as a `DistributedDataParallel`, must be gone: only then do
    gloo's threads end here. A gloo thread that frees a Python-owned tensor while the interpreter
    exits would abort a process that has already finished.
    """
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        gc.collect()  # the runner and its model form a reference cycle
        torch.distributed.destroy_process_group()


def run(cfg: Config, action: str, allow_partial: bool = False, hooks: Iterable[Any] = ()) -> None:
    """Build the runner, call its `train` or `test`, and leave the process group cleanly.

    The work directory and the classes are checked first, and what differs from the run that is
    resumed is logged.

    Args:
        cfg: The config.
        action: 'train' or 'test'.
        allow_partial: See :func:`build_runner`.
        hooks: See :func:`build_runner`.
    """
    from ..files.atomic import check_writable
    from ..hooks.class_check_hook import ClassCheckHook
    from ..hooks.resume_hook import ResumeHook

    check_writable(cfg.work_dir)
    checks = (ClassCheckHook(), ResumeHook())
    getattr(build_runner(cfg, allow_partial, (*checks, *hooks)), action)()
    leave_process_group()
