"""Running a config: completing it for this machine, building the runner, leaving in order."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine.config import Config

__all__ = ['build_runner', 'leave_process_group', 'prepare', 'run']


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

    import projects.common.register  # noqa: F401  registers what the tools add to configs

    from ..speed.allocator import keep_freed_memory
    from ..weights.checkpoint import use_safe_checkpoint_loading
    from ..weights.loading import use_checked_pretraining

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

    from ..speed.products import FastProductsHook
    from ..weights.loading import CheckLoadingHook

    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    fast = FastProductsHook((cfg.get('env_cfg') or {}).get('fast_products'))
    for hook in (CheckLoadingHook(allow_partial), fast, *hooks):
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
