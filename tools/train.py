"""Train a model.

python tools/train.py configs/plvl/plvl_vit-b_4xb20-150e_refcoco.py --resume
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(
    0, str(Path(__file__).resolve().parents[1])
)  # for `projects`, from any working directory

from projects.common.cli.config import load_config
from projects.common.cli.options import add_run_options
from projects.common.cli.report import report_user_errors
from projects.common.cli.run import prepare, run
from projects.common.config_text import parse_literal
from projects.common.errors import InputError

if TYPE_CHECKING:
    from mmengine.config import Config
    from mmengine.hooks import Hook

PRECISIONS = ('fp16', 'bf16')
# option: name, visualisation backend, package
BACKENDS = {
    'tensorboard': ('TensorBoard', 'TensorboardVisBackend', 'tensorboard'),
    'wandb': ('Weights & Biases', 'WandbVisBackend', 'wandb'),
    'mlflow': ('MLflow', 'MLflowVisBackend', 'mlflow'),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a model')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--work-dir',
        help='folder for logs and checkpoints; default: work_dirs/<name of the config>',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint; without a path, from the newest one in the work folder '
        'if there is any',
    )
    parser.add_argument(
        '--new-schedule',
        action='store_true',
        help="with --resume: the config's learning rates, weight decay and schedule in place of "
        "the checkpoint's",
    )
    parser.add_argument(
        '--allow-partial',
        action='store_true',
        help='with load_from: load the tensors of the checkpoint that fit and list the others',
    )
    parser.add_argument(
        '--allow-schedule-mismatch',
        action='store_true',
        help='train with a schedule that ends before or after training',
    )
    parser.add_argument(
        '--amp',
        nargs='?',
        const='fp16',
        choices=PRECISIONS,
        help='automatic mixed precision: bf16 on any device, fp16 (also without a value) on a GPU',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate with the batch size, by the config's "
        'auto_scale_lr.base_batch_size',
    )
    for name, (title, _, _) in BACKENDS.items():
        parser.add_argument(
            f'--{name}', action='store_true', help=f'log to {title} beside the local log'
        )
    parser.add_argument(
        '--ema',
        nargs='?',
        type=float,
        const=2e-4,
        metavar='MOMENTUM',
        help='average the weights exponentially and validate the averages; default momentum: '
        '%(const)s',
    )
    parser.add_argument(
        '--early-stop',
        nargs='?',
        type=int,
        const=5,
        metavar='PATIENCE',
        help="stop after this many validations without a better first metric of the config's "
        'save_best; default: %(const)s',
    )
    parser.add_argument(
        '--hook',
        action='append',
        default=[],
        metavar='DICT',
        help="a further hook, such as dict(type='ProfilerHook', by_epoch=False, profile_times=3); "
        'can be given several times',
    )
    add_run_options(
        parser,
        'train_cfg.max_epochs=2 train_dataloader.dataset.pipeline.3.scale="(224,224)"',
    )
    # A bare --amp may precede the config.
    values = sys.argv[1:]
    arguments = [
        '--amp=fp16' if value == '--amp' and after not in PRECISIONS else value
        for value, after in zip(values, [*values[1:], None])
    ]
    args = parser.parse_args(arguments)
    if args.new_schedule and args.resume is None:
        parser.error('--new-schedule goes with --resume')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def apply_resume(cfg: Config, resume: str | None, trust: bool) -> None:
    """Set the checkpoint to resume from, and use its seed if the config has none."""
    from projects.common.hooks.checkpoint_hook import find_resumable
    from projects.common.weights.checkpoint import load_checkpoint_file

    if resume is None:
        return
    cfg.resume = True
    cfg.load_from = find_resumable(cfg.work_dir) if resume == 'auto' else resume
    if cfg.load_from is None:
        cfg.resume = False
        print(f'--resume: no checkpoint in {cfg.work_dir} yet, starting from the beginning')
        return
    meta = load_checkpoint_file(cfg.load_from, trust=trust).get('meta', {})
    if 'iter' not in meta or 'epoch' not in meta:
        raise InputError(
            f'--resume {cfg.load_from}: holds weights but no training state; use load_from=... '
            'instead'
        )
    randomness = cfg.setdefault('randomness', {})
    if randomness.get('seed') is None:
        randomness['seed'] = meta.get('seed')


def set_precision(cfg: Config, config_path: str, precision: str | None) -> None:
    """Choose the optimizer wrapper for a precision; None keeps the config's."""
    import torch

    wrapper = cfg.optim_wrapper
    if precision == 'bf16':
        wrapper.type = 'BFloat16OptimWrapper'
        for name in ('loss_scale', 'dtype', 'use_fsdp'):  # arguments of AmpOptimWrapper
            wrapper.pop(name, None)
    elif precision == 'fp16':
        wrapper.type = 'AmpOptimWrapper'
        wrapper.setdefault('loss_scale', 'dynamic')
        wrapper.dtype = 'float16'
    if wrapper.get('type') == 'AmpOptimWrapper' and not torch.cuda.is_available():
        where = f'--amp {precision}' if precision else f'config {config_path}: AmpOptimWrapper'
        raise InputError(f'{where}: needs a GPU, and none is available here; --amp bf16 does not')


def add_backends(cfg: Config, names: list[str]) -> None:
    """Add visualisation backends to the visualizer.

    Raises:
        InputError: The package of a backend is not installed.
    """
    if names and cfg.get('visualizer') is None:
        cfg.visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
    for name in names:
        _, backend, package = BACKENDS[name]
        if importlib.util.find_spec(package) is None:
            raise InputError(f'--{name}: needs the package {package}, which is not installed')
        if all(each['type'] != backend for each in cfg.visualizer.vis_backends):
            cfg.visualizer.vis_backends.append(dict(type=backend))


def add_hooks(cfg: Config, args: argparse.Namespace) -> None:
    """Append the hooks that the options request to ``custom_hooks``.

    Raises:
        InputError: ``--early-stop`` finds no metric, or ``--hook`` is not a dict with a type.
    """
    hooks = list(cfg.get('custom_hooks') or [])
    if args.ema is not None:
        if not 0 < args.ema < 1:
            raise InputError(f'--ema {args.ema}: expected a momentum between 0 and 1')
        hooks.append(dict(type='EMAHook', momentum=args.ema))
    if args.early_stop is not None:
        checkpoint = cfg.get('default_hooks', {}).get('checkpoint') or {}
        best = checkpoint.get('save_best')
        rules = checkpoint.get('rule')
        monitor = best[0] if isinstance(best, (list, tuple)) else best
        if not monitor or monitor == 'auto':
            raise InputError(
                f"--early-stop: the config's default_hooks.checkpoint.save_best is {best!r}, "
                'expected a metric'
            )
        rule = rules[0] if isinstance(rules, (list, tuple)) else rules
        hooks.append(
            dict(type='EarlyStoppingHook', monitor=monitor, rule=rule, patience=args.early_stop)
        )
    for text in args.hook:
        try:
            hook = parse_literal(text)
        except (SyntaxError, ValueError) as error:
            raise InputError(f'--hook {text}: no Python literal ({error})') from None
        if not isinstance(hook, dict) or 'type' not in hook:
            raise InputError(f"--hook {text}: expected a dict with 'type'")
        hooks.append(hook)
    cfg.custom_hooks = hooks


def read_config(args: argparse.Namespace) -> Config:
    """Read the config; with ``--amp fp16``, overrides may set arguments of AmpOptimWrapper."""
    options = dict(args.cfg_options or {})
    if args.amp and 'optim_wrapper.dtype' in options:
        raise InputError('--amp sets optim_wrapper.dtype: leave out one of the two')
    if args.amp == 'fp16':
        options.setdefault('optim_wrapper.type', 'AmpOptimWrapper')
    return load_config(args.config, options)


def main() -> None:
    args = parse_args()
    cfg = read_config(args)
    prepare(cfg, args.config, args.launcher, args.work_dir, args.trust_checkpoint)
    for section in ('train_cfg', 'train_dataloader', 'optim_wrapper'):
        if cfg.get(section) is None:
            raise InputError(f"config {args.config}: no '{section}': nothing to train")
    set_precision(cfg, args.config, args.amp)
    if args.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise InputError(
                f"--auto-scale-lr: config {args.config} has no 'auto_scale_lr.base_batch_size'"
            )
        cfg.auto_scale_lr.enable = True
    add_backends(cfg, [name for name in BACKENDS if getattr(args, name)])
    add_hooks(cfg, args)
    apply_resume(cfg, args.resume, args.trust_checkpoint)

    from projects.common.optim.schedules import ResumeScheduleHook, ScheduleCheckHook

    hooks: list[Hook] = [ResumeScheduleHook(args.new_schedule)]
    if not args.allow_schedule_mismatch:
        hooks.append(ScheduleCheckHook())
    run(cfg, 'train', args.allow_partial, hooks)


if __name__ == '__main__':
    with report_user_errors():
        main()
