"""Check the parts of a recipe that need no training step.

These are the learning rates, the kept checkpoints, the parameter groups and the classes.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from torch import nn

from ..build import optim_wrappers
from ..hooks.class_check_hook import class_problems, heads_of
from ..optim.schedules import schedule_problems
from .findings import Findings

__all__ = [
    'Group',
    'check_classes',
    'check_kept',
    'check_parameters',
    'check_schedule',
]


@dataclass
class Group:
    """Represent parameters that share a learning rate.

    Attributes:
        name: The parts of the model that the parameters belong to.
        parameters: Number of elements of the parameters.
        rates: Learning rate at the first, middle and last step of the schedule.
    """

    name: str
    parameters: int
    rates: tuple[float, float, float]


# ---------------------------------------------------------------------------------- schedule


def check_schedule(runner: Any, schedulers: Any, findings: Findings) -> list[Group]:
    """Follow the learning rate of every group through the whole schedule.

    Args:
        runner: A runner whose loop and optimizer are built.
        schedulers: ``param_scheduler`` of the config.
        findings: Receives the problems.

    Returns:
        The groups, each with its learning rate at the first, middle and last step.
    """
    loop = runner.train_loop
    epoch_length = max(len(loop.dataloader), 1) if hasattr(loop, 'dataloader') else 1
    by_epoch_loop = hasattr(loop, 'run_epoch')
    total = loop.max_epochs * epoch_length if by_epoch_loop else loop.max_iters
    parts = _parts_by_rate(runner)
    if not parts:
        return []
    rates = sorted(parts, reverse=True)
    dummy = OptimWrapper(
        torch.optim.SGD(
            [dict(params=[nn.Parameter(torch.zeros(1))], lr=rate) for rate in rates], lr=rates[0]
        )
    )
    if not schedulers:
        findings.warn('no param_scheduler: the learning rates stay as they are')
        built = []
    else:
        if isinstance(schedulers, Mapping) and 'type' not in schedulers:
            schedulers = next(iter(schedulers.values()))
        built = runner._build_param_scheduler(copy.deepcopy(schedulers), dummy)
    dummy.step()  # PyTorch warns if the scheduler steps first
    built = [each for each in built if getattr(each, 'param_name', 'lr') == 'lr']
    for problem in schedule_problems(built, loop.max_epochs, total, by_epoch_loop):
        findings.fail(problem)

    groups = dummy.optimizer.param_groups
    first = [group['lr'] for group in groups]
    middle = last = first
    by_iteration = [each for each in built if not each.by_epoch]
    by_epoch = [each for each in built if each.by_epoch]
    steps = range(total) if by_iteration else range(0, total, epoch_length)
    half = total // 2
    for step in steps:
        last = [group['lr'] for group in groups]
        if step <= half:
            middle = last
        for each in by_iteration:
            each.step()
        if not by_iteration or (step + 1) % epoch_length == 0:
            for each in by_epoch:
                each.step()
    at_zero = any(start > 0 and end == 0 for start, end in zip(first, last))
    if at_zero and not any('learning rate of 0' in text for text in findings.failures):
        findings.fail(
            'the learning rate is 0 at the last '
            f'{"epoch" if not by_iteration else "step"}: nothing is learnt there'
        )
    return [
        Group(_shown_parts(parts[rate]), sum(parts[rate].values()), (a, b, c))
        for rate, a, b, c in zip(rates, first, middle, last)
    ]


def _parts_by_rate(runner: Any) -> dict[float, Counter]:
    """Map each initial learning rate to the parts of the model and their numbers of elements."""
    names = {id(p): name for name, p in runner.model.named_parameters()}
    found: dict[float, Counter] = {}
    for wrapper in optim_wrappers(runner.optim_wrapper):
        for group in wrapper.param_groups:
            rate = group.get('initial_lr', group['lr'])
            for parameter in group['params']:
                if parameter.requires_grad:
                    name = names.get(id(parameter), '?')
                    found.setdefault(rate, Counter())[_part(name)] += parameter.numel()
    return found


def _part(name: str) -> str:
    parts = name.removeprefix('module.').split('.')
    return '.'.join(parts[: 2 if len(parts) > 2 and not parts[1].isdigit() else 1])


def _shown_parts(parts: Counter) -> str:
    names = [name for name, _ in parts.most_common()]
    return ', '.join(names[:4]) + (f', ... ({len(names)} parts)' if len(names) > 4 else '')


# ---------------------------------------------------------------------------------- checkpoints


def check_kept(
    cfg: Config,
    metrics: set[str] | None,
    findings: Findings,
    silent: Collection[str] = (),
) -> str:
    """Check that the best weights are identified and kept.

    Args:
        cfg: The config.
        metrics: Names of the validation metrics, or None if validation could not run.
        findings: Receives the problems.
        silent: Prefixes of metrics without a value, such as mmdet's when nothing is detected.

    Returns:
        One line that describes the kept checkpoints.
    """
    hooks = [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]
    saving = [hook for hook in hooks if hook and str(hook.get('type')).endswith('CheckpointHook')]
    if not saving:
        findings.warn('no CheckpointHook: nothing is kept')
        return 'nothing'
    hook = saving[0]
    wanted = hook.get('save_best')
    wanted = [wanted] if isinstance(wanted, str) else list(wanted or [])
    keeps = hook.get('max_keep_ckpts', -1)
    last = 'every checkpoint' if keeps < 0 else f'the last {keeps} checkpoint(s)'
    last += f', each after {hook.get("interval", -1)} '
    last += 'epoch(s)' if hook.get('by_epoch', True) else 'iterations'
    train = cfg.get('train_cfg') or {}
    validates = cfg.get('val_dataloader') is not None and cfg.get('val_cfg') is not None
    if not validates:
        if wanted:
            findings.fail(f'save_best={wanted}, and the config does not validate')
        else:
            findings.warn('no validation: the last weights are kept, not the best')
        return last
    by_epoch = train.get('by_epoch', 'max_epochs' in train)
    end = train.get('max_epochs') if by_epoch else train.get('max_iters')
    begin, interval = train.get('val_begin', 1), train.get('val_interval', 1)
    unit = 'epoch' if by_epoch else 'iteration'
    first = -(-max(begin, interval) // interval) * interval
    if end is not None and begin > end:
        findings.fail(f'train_cfg.val_begin={begin}: training ends at {unit} {end}, unvalidated')
    elif end is not None and first >= end and wanted:
        findings.fail(
            f'train_cfg.val_interval={interval}: the only validation is at the end ({unit} {end}), '
            f'so save_best keeps the last weights'
        )
    if not wanted:
        if keeps >= 0:
            findings.fail(
                'default_hooks.checkpoint.save_best is not set and only '
                f'{last.split(",")[0]} are kept: the best weights are deleted'
            )
        return last
    for name in wanted:
        if name == 'auto' or metrics is None:
            continue
        if name.rpartition('/')[0] in silent and name not in metrics:
            findings.warn(
                f'save_best={name!r}: its metric found nothing to measure after these steps, such '
                'as no detection; whether it gives this value is not known'
            )
        elif name not in metrics:
            findings.fail(
                f'save_best={name!r}: validation gives no such metric; it gives '
                f'{", ".join(sorted(metrics)) or "none"}'
            )
    return f'{last}; the best by {" and by ".join(wanted)}'


# ---------------------------------------------------------------------------------- parameters


def check_parameters(cfg: Config, runner: Any, findings: Findings) -> None:
    """Check that the optimizer holds every parameter with the intended settings."""
    held = {
        id(p)
        for wrapper in optim_wrappers(runner.optim_wrapper)
        for group in wrapper.param_groups
        for p in group['params']
    }
    forgotten = [
        name for name, p in runner.model.named_parameters() if p.requires_grad and id(p) not in held
    ]
    if forgotten:
        findings.fail(
            f'{len(forgotten)} parameters are in no group of the optimizer, the first is '
            f'{forgotten[0]}'
        )
    names = [name for name, _ in runner.model.named_parameters()]
    for custom in _custom_keys(cfg.get('optim_wrapper') or {}):
        order = sorted(sorted(custom), key=len, reverse=True)  # as in MMEngine: longest key wins
        wins: Counter = Counter()
        beaten: dict[str, tuple[str, str]] = {}
        for name in names:
            matching = [key for key in order if key in name]
            for key in matching:
                wins[key] += key == matching[0]
                if key != matching[0]:
                    beaten.setdefault(key, (matching[0], name))
        for key in custom:
            if wins[key]:
                continue
            if key in beaten:
                winner, name = beaten[key]
                findings.fail(
                    f'custom_keys: {key!r} takes effect nowhere: the longer key {winner!r} wins, '
                    f'as for {name}'
                )
            else:
                findings.fail(f'custom_keys: no parameter has {key!r} in its name')


def _custom_keys(node: Any) -> Iterator[Mapping]:
    if isinstance(node, Mapping):
        keys = (node.get('paramwise_cfg') or {}).get('custom_keys')
        if keys:
            yield keys
        for key, each in node.items():
            if key != 'paramwise_cfg':
                yield from _custom_keys(each)


# ---------------------------------------------------------------------------------- classes


def check_classes(model: nn.Module, dataset: Any, findings: Findings) -> str:
    """Compare the classes of heads and data; see :func:`.class_problems`.

    Returns:
        One line with the numbers of classes.
    """
    heads = heads_of(model)
    for problem in class_problems(heads, dict(train_dataloader=dataset)):
        findings.fail(problem)
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    if classes is None or not heads:
        return 'no classes' if classes is None else f'{len(classes)} classes; no head has any'
    return f'{len(classes)} classes in the data; heads: {sorted(set(heads.values()))}'
