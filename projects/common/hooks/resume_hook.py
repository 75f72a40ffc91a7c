"""Resume with other processes, other batches, or in the middle of gradient accumulation."""

from __future__ import annotations

import logging
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from ..build import optim_wrappers, unwrapped

__all__ = ['ResumeHook']


class ResumeHook(Hook):
    """Record in checkpoints how they were trained, and say what resuming otherwise changes.

    The ``meta`` of a checkpoint gets ``world_size``, the number of processes; ``batch_size``, the
    samples of each; ``epoch_length``, the iterations of an epoch; and ``accumulated``, the
    iterations whose gradients the weights do not have yet. If one process trains, their gradients
    are saved too, and resuming is exact. Gradients of several processes are not; a warning says so.

    If an epoch has another number of iterations, the iterations of the checkpoint are converted. In
    iteration-based training, MMEngine finds the place in the order of samples by the iterations
    alone; with another total batch size it leaves samples out or repeats some, and a warning says
    how many.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._gradients: dict[str, torch.Tensor] = {}

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Add the entries described above to ``checkpoint``."""
        accumulated = _accumulated(runner)
        checkpoint['meta'].update(_training(runner), accumulated=accumulated)
        if accumulated and runner.world_size == 1:
            checkpoint['gradients'] = {
                name: parameter.grad.cpu()
                for name, parameter in unwrapped(runner.model).named_parameters()
                if parameter.grad is not None
            }

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Compare a checkpoint that training resumes from with the run, and log what differs."""
        meta = checkpoint.get('meta', {})
        if not runner._resume or 'world_size' not in meta:
            return
        source = f'--resume {runner._load_from}'
        now = _training(runner)
        then = {name: meta.get(name) for name in now}
        if then != now:
            runner.logger.warning(f'{source}: {_changes(then, now)}')
            moved = _moved(runner, meta['iter'], _total(then), _total(now))
            if moved:
                runner.logger.warning(f'{source}: {moved}')
            if now['epoch_length'] and now['epoch_length'] != then['epoch_length']:
                meta['iter'] = meta['epoch'] * now['epoch_length']
        if not meta['accumulated']:
            return
        count = max(_counts(wrapper) for wrapper in optim_wrappers(runner.optim_wrapper))
        text = f'{source}: stopped after {meta["accumulated"]} iterations of an update of {count}'
        if 'gradients' in checkpoint and meta['iter'] % count == meta['accumulated']:
            self._gradients = checkpoint['gradients']
            runner.logger.info(f'{text}; their gradients come from the checkpoint')
        else:
            runner.logger.warning(
                f'{text}; their gradients are lost, and the next update is made without them'
            )
        MMLogger.get_current_instance().addFilter(_without_lost_gradients)

    def before_train(self, runner) -> None:
        """Give the parameters the gradients of the checkpoint."""
        for name, parameter in unwrapped(runner.model).named_parameters():
            if name in self._gradients:
                parameter.grad = self._gradients[name].to(parameter)
        self._gradients = {}


def _training(runner) -> dict[str, Any]:
    """Return the numbers that a resumed run should share."""
    loader = runner.train_dataloader
    batch_size = loader.batch_size or getattr(loader.batch_sampler, 'batch_size', None)
    by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
    return dict(
        world_size=runner.world_size,
        batch_size=batch_size,
        epoch_length=len(loader) if by_epoch else None,
    )


def _counts(wrapper: Any) -> int:
    return wrapper._accumulative_counts


def _accumulated(runner) -> int:
    """Return the number of iterations since the last update of the weights."""
    wrapper: Any = optim_wrappers(runner.optim_wrapper)[0]
    if wrapper._inner_count == wrapper._max_counts:  # the last iteration always updates
        return 0
    return wrapper._inner_count % _counts(wrapper)


def _changes(then: dict[str, Any], now: dict[str, Any]) -> str:
    """Describe in one line what differs between two results of :func:`_training`."""
    text, before, after = '', _total(then), _total(now)
    if any(then[name] != now[name] for name in ('world_size', 'batch_size')):
        text = f'trained by {_processes(then)}, now by {_processes(now)}: '
    if before == after and now['epoch_length'] == then['epoch_length']:
        return (
            f'{text}the samples of an iteration are the same; dropout and batch statistics differ'
        )
    if text:
        text += f'an iteration has {after} samples in place of {before}, '
    if now['epoch_length'] != then['epoch_length']:
        text += (
            f'an epoch has {now["epoch_length"]} iterations in place of {then["epoch_length"]}, '
        )
    advice = 'go on with the same data'
    if before != after:
        advice = f'go on with {_processes(then)}'
        if before % now['world_size'] == 0:
            advice = f'train_dataloader.batch_size={before // now["world_size"]}'
    return f'{text}and schedules and learning rates no longer fit; to keep them, {advice}'


def _total(training: dict[str, Any]) -> int:
    """Return the number of samples of an iteration; 0 if it is not known."""
    return training['world_size'] * (training['batch_size'] or 0)


def _moved(runner, iterations: int, before: int, after: int) -> str | None:
    """Describe that the order of samples goes on after another number of them than were seen.

    Args:
        runner: The runner.
        iterations: Iterations of the checkpoint.
        before: Samples of each of them.
        after: Samples of an iteration of the run; 0 if it is not known.
    """
    loop = runner.train_loop
    if not isinstance(loop, IterBasedTrainLoop) or loop.fast_forward_on_resume:
        return None  # the order starts anew
    seen, place = iterations * before, iterations * after
    if not seen or not place or seen == place:
        return None
    what = (
        f'the {place - seen:,} after them are left out'
        if place > seen
        else f'the last {seen - place:,} of them come again'
    )
    return f'{seen:,} samples have been seen, the order goes on after {place:,}: {what}'


def _processes(training: dict[str, Any]) -> str:
    number, size = training['world_size'], training['batch_size']
    return f'{number} process{"es" if number > 1 else ""} with batches of {size}'


def _without_lost_gradients(record: logging.LogRecord) -> bool:
    """Filter out MMEngine's warning about lost gradients, which does not know ours."""
    return not record.getMessage().startswith('Resumed iteration number is not divisible')
