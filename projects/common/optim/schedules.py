"""Learning rate schedules: a scheduler, consistency checks, and resuming under a new schedule.

A scheduler without `end` ends with training, whatever `train_cfg` says. The configs here omit it
wherever a schedule spans the whole training.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.optim import PolyLR
from mmengine.optim.scheduler import param_scheduler as kinds
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import EpochBasedTrainLoop
from torch import nn

from ..build import unwrapped
from ..errors import InputError

__all__ = ['PolynomialLR', 'ResumeScheduleHook', 'ScheduleCheckHook', 'schedule_problems']


@PARAM_SCHEDULERS.register_module()
class PolynomialLR(PolyLR):
    """Decay polynomially like :class:`torch.optim.lr_scheduler.PolynomialLR`.

    The factor of step ``t`` is ``(1 - t / T) ** power`` with ``T = end - begin``, so the last step,
    ``T - 1``, still learns. MMEngine's ``PolyLR`` divides by ``T - 1`` and ends at 0, which wastes
    a whole epoch if the schedule counts epochs.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.total_iters = self.end - self.begin


# --------------------------------------------------------------------------------------- checks


def _listed(schedulers: Any) -> Iterator[tuple[str, Any]]:
    """Yield the schedulers with the names of their config keys."""
    if isinstance(schedulers, Mapping):
        for name, each in schedulers.items():
            for i, scheduler in enumerate(each):
                yield f'param_scheduler.{name}.{i}', scheduler
    else:
        for i, scheduler in enumerate(schedulers or ()):
            yield f'param_scheduler.{i}', scheduler


def schedule_problems(
    schedulers: Any, max_epochs: int | None, max_iters: int, counts_epochs: bool
) -> list[str]:
    """Return the problems of schedules, one line each, with the keys to change.

    This finds schedules that end before or after training, steps that training never reaches,
    epochs with a learning rate of 0, and schedules that count epochs when training counts
    iterations.

    Args:
        schedulers: Built schedulers, like ``runner.param_schedulers``.
        max_epochs: Number of training epochs.
        max_iters: Number of training iterations.
        counts_epochs: Whether the training loop counts epochs.
    """
    problems = []
    ends: dict[tuple[str, bool], int] = {}  # the latest end for each parameter and unit
    for _, each in _listed(schedulers):
        unit = (each.param_name, each.by_epoch)
        ends[unit] = max(ends.get(unit, 0), each.end)
    for key, each in _listed(schedulers):
        if each.by_epoch and not counts_epochs:
            problems.append(
                f'{key} counts epochs, which train_cfg does not: set {key}.by_epoch=False'
            )
            continue
        length = (max_epochs or 0) if each.by_epoch else max_iters
        key_of_length = f'train_cfg.max_{"epochs" if counts_epochs else "iters"}'
        what = f'{length} {"epochs" if each.by_epoch else "iterations"} of training'
        where = f'the {what} ({key_of_length})'
        milestones = sorted(getattr(each, 'milestones', ()))
        if milestones and milestones[-1] >= min(length, each.end):
            reached = f'{milestones[-1]}, which is never reached'
            problems.append(f'{key}.milestones: {reached} in {where}')
        rises = isinstance(each, (kinds.LinearParamScheduler, kinds.ConstantParamScheduler))
        rises = rises and getattr(each, 'end_factor', 1.0) >= getattr(each, 'start_factor', 0.0)
        steps = isinstance(
            each,
            (
                kinds.MultiStepParamScheduler,
                kinds.StepParamScheduler,
                kinds.ExponentialParamScheduler,
                kinds.ReduceOnPlateauParamScheduler,
            ),
        )
        advice = f'; leave {key}.end out and it is that of training'
        if not steps and each.end > length:
            problems.append(f'{key}.end: {each.end}, after {where}{advice}')
        if not steps and not rises and ends[each.param_name, each.by_epoch] < length:
            problems.append(f'{key}.end: {each.end}, before {where}{advice}')
        t_max = getattr(each, 'T_max', None)
        if t_max is not None and t_max != each.end - each.begin:
            problems.append(
                f'{key}.T_max: {t_max}, but the schedule has {each.end - each.begin} steps; leave '
                'it out and it has as many'
            )
        if each.by_epoch and each.end == length > 1 and _ends_at_zero(each):
            problems.append(
                f'{key}: the last epoch has a learning rate of 0'
                + ("; type='PolynomialLR' has none" if 'Poly' in type(each).__name__ else '')
            )
    return problems


def _ends_at_zero(scheduler: Any) -> bool:
    """Return whether the last step of a schedule multiplies by 0."""
    if isinstance(scheduler, PolynomialLR):
        return False
    if isinstance(scheduler, kinds.PolyParamScheduler):
        return scheduler.eta_min == 0
    return isinstance(scheduler, kinds.LinearParamScheduler) and scheduler.end_factor == 0


class ScheduleCheckHook(Hook):
    """Refuse to train with schedules that do not match the length of training."""

    def before_run(self, runner) -> None:
        """Raise :class:`ValueError` for the first problem from :func:`schedule_problems`."""
        counts_epochs = isinstance(runner.train_loop, EpochBasedTrainLoop)
        for problem in schedule_problems(
            runner.param_schedulers, runner.max_epochs, runner.max_iters, counts_epochs
        ):
            raise InputError(f'{problem}. --allow-schedule-mismatch trains anyhow')


# -------------------------------------------------------------------------------------- resuming

#: Attributes of a scheduler that hold progress rather than settings from its config.
_PROGRESS = {
    'base_values', 'best', 'cooldown_counter', 'last_epoch', 'last_step', 'num_bad_epochs',
    'verbose', '_global_step', '_last_value',
}  # fmt: skip
#: Group settings that distinguish kinds of optimizers.
_OF_A_KIND = {'alpha', 'betas', 'momentum', 'rho'}


class ResumeScheduleHook(Hook):
    """Prevent resuming from overriding the learning rates and schedules of the config.

    When MMEngine resumes, it silently replaces the optimizer settings and schedulers of the config
    by those of the checkpoint.

    Args:
        take_config: Continue with the settings of the config: schedules are advanced to the current
            step, and momenta and step counts come from the checkpoint. If False, a config whose
            settings differ from the checkpoint's is rejected.
    """

    priority = 'VERY_HIGH'

    def __init__(self, take_config: bool = False) -> None:
        self.take_config = take_config

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Raise :class:`ValueError` for other settings, or write the config's to the checkpoint."""
        if not runner._resume or 'optimizer' not in checkpoint:
            return
        pairs = [(runner.optim_wrapper, checkpoint['optimizer'])]
        if isinstance(getattr(runner.optim_wrapper, 'optim_wrappers', None), Mapping):
            pairs = [
                (wrapper, checkpoint['optimizer'].get(name, {}))
                for name, wrapper in runner.optim_wrapper.items()
            ]
        source = f'--resume {runner._load_from}'
        names = {id(p): name for name, p in unwrapped(runner.model).named_parameters()}
        difference = None
        for wrapper, stored in pairs:
            ours, theirs = wrapper.optimizer.param_groups, stored.get('param_groups', [])
            _check_optimizer(ours, theirs, source)
            difference = difference or _changed_setting(ours, theirs, names)
        difference = difference or _changed_schedule(
            runner.param_schedulers, checkpoint.get('param_schedulers')
        )
        if difference is None:
            return
        if not self.take_config:
            raise InputError(
                f"{source}: {difference}. Resuming goes on with the checkpoint's; --new-schedule "
                "takes the config's learning rates, weight decay and schedule"
            )
        _advance(runner, checkpoint['meta'])
        for wrapper, stored in pairs:
            for group, old in zip(wrapper.optimizer.param_groups, stored['param_groups']):
                old.update({key: value for key, value in group.items() if key != 'params'})
            if 'base_param_settings' in stored:  # logged as base_lr
                stored['base_param_settings'] = wrapper.base_param_settings
        if isinstance(runner.param_schedulers, Mapping):
            checkpoint['param_schedulers'] = {
                name: [each.state_dict() for each in schedulers]
                for name, schedulers in runner.param_schedulers.items()
            }
        else:
            states = [each.state_dict() for each in runner.param_schedulers or ()]
            checkpoint['param_schedulers'] = states
        runner.logger.info(f'--new-schedule: {difference}; the config counts')


def _check_optimizer(ours: list[dict], theirs: list[dict], source: str) -> None:
    """Reject the state of a different kind of optimizer or of different groups."""
    found, expected = ([len(group['params']) for group in groups] for groups in (theirs, ours))
    if found != expected:
        raise InputError(
            f'{source}: its optimizer has {len(found)} groups with {sum(found)} parameters, the '
            f"config's {len(expected)} with {sum(expected)}; load_from takes the weights alone"
        )
    kinds_of = [_OF_A_KIND.intersection(groups[0]) for groups in (theirs, ours)]
    if kinds_of[0] != kinds_of[1]:
        found_kind, expected_kind = (', '.join(sorted(kind)) for kind in kinds_of)
        raise InputError(
            f'{source}: its optimizer is of another kind (settings: {found_kind}) than the '
            f"config's ({expected_kind}); load_from takes the weights alone"
        )


def _changed_setting(
    ours: Sequence[Mapping], theirs: Sequence[Mapping], names: Mapping[int, str]
) -> str | None:
    """Return the first parameter group setting in which config and checkpoint differ."""
    for group, stored in zip(ours, theirs):
        for key, value in group.items():
            scheduled = f'initial_{key}' in group
            if key == 'params' or scheduled or key not in stored or _same(stored[key], value):
                continue
            name = names.get(id(group['params'][0]), 'the first parameter')
            setting = key.removeprefix('initial_')
            return (
                f'{setting} of {name} is {stored[key]} in the checkpoint and {value} in the config'
            )
    return None


def _changed_schedule(ours: Any, theirs: Any) -> str | None:
    """Return the first schedule value in which config and checkpoint differ."""
    mine, found = dict(_listed(ours)), dict(_listed(theirs))
    if len(mine) != len(found):
        return f'the checkpoint has {len(found)} schedulers and the config {len(mine)}'
    for name, scheduler in mine.items():
        state, stored = scheduler.state_dict(), found[name]
        for key in sorted({*state, *stored} - _PROGRESS):
            absent = 'absent'
            value, old = state.get(key, absent), stored.get(key, absent)
            if isinstance(value, nn.Module) or callable(value) or _same(old, value):
                continue
            return f'{name}.{key} is {old} in the checkpoint and {value} in the config'
    return None


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)


def _advance(runner, meta: Mapping) -> None:
    """Advance fresh schedulers to the point where training stopped, as their steps would."""
    schedulers = [each for _, each in _listed(runner.param_schedulers)]
    by_epoch = [each for each in schedulers if each.by_epoch]
    by_iter = [each for each in schedulers if not each.by_epoch]
    length = len(runner.train_dataloader)
    counts_epochs = isinstance(runner.train_loop, EpochBasedTrainLoop)
    with warnings.catch_warnings():  # PyTorch warns that the optimizer has not stepped yet
        warnings.simplefilter('ignore')
        for step in range(1, meta['iter'] + 1) if by_iter else ():
            for each in by_iter:
                each.step()
            if counts_epochs and step % length == 0:
                for each in by_epoch:
                    each.step()
        if not by_iter and counts_epochs:
            for _ in range(meta['epoch']):
                for each in by_epoch:
                    each.step()
