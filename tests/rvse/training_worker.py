"""Train small configs in several processes, and store the losses of all steps.

``python training_worker.py WORLD FOLDER DATA NAME ...`` writes ``FOLDER/WORLD_RANK.pt``: for each
name the losses of rank 0's log, by step.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).parent)]

from small_configs import small  # noqa: E402

import projects.rvse.register  # noqa: E402, F401
from projects.common.cli.run import prepare  # noqa: E402


def config(name: str, data: Path, world: int, work_dir: Path) -> Config:
    cfg = small(name, data, work_dir / f'{name}_{world}', epochs=3)
    cfg.log_level = 'ERROR'
    cfg.train_dataloader.batch_size //= world
    cfg.train_cfg.val_interval = 9
    cfg.optim_wrapper.optimizer = dict(type='SGD', lr=1e-3)
    cfg.optim_wrapper.clip_grad = None
    if 'warm_up_epochs' in cfg.train_cfg:
        cfg.train_cfg.warm_up_epochs = 1
    for hook in cfg.custom_hooks:
        if hook.type == 'OfflineMiningHook':
            hook.miner = None
        if hook.type == 'CleanSplitHook':
            hook.warm_up_epochs = 1
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=9)
    prepare(cfg, name, 'none' if world == 1 else 'pytorch', cfg.work_dir)
    return cfg


def run(rank: int, world: int, folder: Path, data: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float32)
    if world > 1:
        os.environ.update(
            RANK=str(rank),
            WORLD_SIZE=str(world),
            LOCAL_RANK=str(rank),
            MASTER_ADDR='127.0.0.1',
            MASTER_PORT='0',
        )
        store = torch.distributed.FileStore(str(folder / f'store_{world}'), world)
        torch.distributed.init_process_group('gloo', store=store, rank=rank, world_size=world)
    found = {}
    for name in names:
        runner = Runner.from_cfg(config(name, data, world, folder))
        runner.train()
        scalars = runner.message_hub.log_scalars
        found[name] = {
            key: torch.tensor(scalars[key].data[0])
            for key in scalars
            if key.startswith('train/') and 'loss' in key or key.endswith('meta_hinge')
        }
    torch.save(found, folder / f'{world}_{rank}.pt')
    if world > 1:
        torch.distributed.barrier()


def main() -> None:
    world, folder, data, names = int(sys.argv[1]), *map(Path, sys.argv[2:4]), sys.argv[4:]
    children = []
    for rank in range(1, world):
        pid = os.fork()
        if not pid:
            run(rank, world, folder, data, names)
            os._exit(0)
        children.append(pid)
    run(0, world, folder, data, names)
    if any(os.waitpid(pid, 0)[1] for pid in children):
        sys.exit('a process failed')
    os._exit(0)  # gloo's threads hold tensors of the interpreter


if __name__ == '__main__':
    main()
