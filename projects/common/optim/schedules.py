"""Learning rate schedules: one that ends with training, checks of any, and resuming under another.

A scheduler whose `end` is left out ends with training, whatever `train_cfg` says; configs here
leave it out wherever a schedule is one of the whole training.
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
    """Polynomial decay as :class:`torch.optim.lr_scheduler.PolynomialLR` has it.

    The factor of step ``t`` is ``(1 - t / T) ** power`` with ``T = end - begin``; the last step,
    ``T - 1``, still learns. MMEngine's ``PolyLR`` divides by ``T - 1`` and ends at 0: by epochs, a
    whole epoch without learning.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.total_iters = self.end - self.begin


# --------------------------------------------------------------------------------------- checks


def _listed(schedulers: Any) -> Iterator[tuple[str, Any]]:
    """Schedulers with the names of their config keys."""
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
    """Return what is wrong with schedules, one line each, with the keys to change.

    Found are schedules that end before or after training, steps that training never reaches,
    epochs without learning, and epochs counted where training counts iterations.

    Args:
        schedulers: Built schedulers, as ``runner.param_schedulers`` has them.
        max_epochs: Epochs of training.
        max_iters: Iterations of training.
        counts_epochs: Whether the training loop counts epochs.
    """
    problems = []
    ends: dict[tuple[str, bool], int] = {}  # the last end, of each parameter and unit
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
    """Whether the last step of a schedule multiplies by 0."""
    if isinstance(scheduler, PolynomialLR):
        return False
    if isinstance(scheduler, kinds.PolyParamScheduler):
        return scheduler.eta_min == 0
    return isinstance(scheduler, kinds.LinearParamScheduler) and scheduler.end_factor == 0


class ScheduleCheckHook(Hook):
    """Refuses to train with schedules that do not go with the length of training."""

    def before_run(self, runner) -> None:
        """Raises :class:`ValueError` for the first problem of :func:`schedule_problems`."""
        counts_epochs = isinstance(runner.train_loop, EpochBasedTrainLoop)
        for problem in schedule_problems(
            runner.param_schedulers, runner.max_epochs, runner.max_iters, counts_epochs
        ):
            raise InputError(f'{problem}. --allow-schedule-mismatch trains anyhow')


# -------------------------------------------------------------------------------------- resuming

#: What a scheduler counts or remembers, beside what its config says.
_PROGRESS = {
    'base_values', 'best', 'cooldown_counter', 'last_epoch', 'last_step', 'num_bad_epochs',
    'verbose', '_global_step', '_last_value',
}  # fmt: skip
#: By which settings of a group optimizers of different kinds are told apart.
_OF_A_KIND = {'alpha', 'betas', 'momentum', 'rho'}


class ResumeScheduleHook(Hook):
    """Keeps resuming from undoing what the config says of learning rates and schedules.

    MMEngine's resuming puts the optimizer's settings and the schedulers of the checkpoint in place
    of the config's, without a word.

    Args:
        take_config: Go on with the config's settings: schedules are taken to where training stands,
            momenta and numbers of steps stay the checkpoint's. False refuses a config with other
            settings than the checkpoint's.
    """

    priority = 'VERY_HIGH'

    def __init__(self, take_config: bool = False) -> None:
        self.take_config = take_config

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Raises :class:`ValueError` for other settings, or puts the config's in the checkpoint."""
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
            if 'base_param_settings' in stored:  # what the log calls base_lr
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
    """Refuses the state of an optimizer of another kind or with other groups."""
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
    """The first setting of a group of parameters in which config and checkpoint differ."""
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
    """The first value of a schedule in which config and checkpoint differ."""
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
    """Takes fresh schedulers to where training stood, as its steps would have."""
    schedulers = [each for _, each in _listed(runner.param_schedulers)]
    by_epoch = [each for each in schedulers if each.by_epoch]
    by_iter = [each for each in schedulers if not each.by_epoch]
    length = len(runner.train_dataloader)
    counts_epochs = isinstance(runner.train_loop, EpochBasedTrainLoop)
    with warnings.catch_warnings():  # that no step of the optimizer came before
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
