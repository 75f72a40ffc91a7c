"""Stop on NaN or infinite losses, or skip them, before they reach the weights."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.structures import BaseDataElement
from torch import Tensor

from ..build import optim_wrappers, unwrapped
from ..errors import InputError
from ..weights.convert import write_checkpoint

__all__ = ['FiniteLossMixin', 'NonFiniteLossHook']


class FiniteLossMixin:
    """Make an ``OptimWrapper`` skip every loss that is not finite in all processes."""

    #: Whether a loss was skipped since the flag was last set to False.
    left_out = False

    def update_params(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Update the parameters if the loss is finite, else drop the accumulated gradients."""
        finite = torch.isfinite(loss.detach()).all().float()
        if get_world_size() > 1:
            all_reduce(finite, op='min')
        wrapper: Any = super()
        if bool(finite):
            wrapper.update_params(loss, *args, **kwargs)
            return
        self.left_out = True
        wrapper.zero_grad()
        # Count the step as a backward pass would, so that the schedule of updates does not change.
        self._inner_count: int = self._inner_count + 1


@cache
def _checking(wrapper: Any) -> Any:
    """Return the class of an optimizer wrapper with :class:`FiniteLossMixin` as its first base."""
    return type(wrapper.__name__, (FiniteLossMixin, wrapper), {'__module__': wrapper.__module__})


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Check every loss before its gradient is computed.

    mmdet's ``CheckInvalidLossHook`` only checks after the optimizer has corrupted the weights.

    With ``mode='stop'``, training ends with an error that names the ids of the batch and a dump,
    and the last checkpoint has finite weights. With ``mode='skip'``, the batch is skipped: neither
    it nor the batches whose gradients were accumulated for the same update contribute a gradient. A
    warning names the batch, its losses do not enter the logged means, and the number of skipped
    batches is logged as ``num_skipped_batches``, also across resumed runs. All processes stop or
    skip together, even if the loss of only one of them is not finite.

    The dump, ``nonfinite_loss_iter_<n>_rank_<r>.pth`` in the work directory, has everything needed
    to recompute the loss: ``iter``, ``epoch``, ``seed``, ``ids``, ``losses``, the ``batch`` and,
    with ``'stop'``, the ``state_dict``. It holds plain data, which
    :func:`~projects.common.weights.checkpoint.load_checkpoint_file` can read.

    The optimizer wrapper becomes a :class:`FiniteLossMixin`; the model is not modified.

    Args:
        mode: ``'stop'`` or ``'skip'``.
        max_in_a_row: Stop after this many consecutive skipped batches.
        max_dumps: Dump at most this many skipped batches.

    Raises:
        InputError: A loss is not finite and ``mode`` is ``'stop'``, or skipping does not help
            because the weights themselves are not finite or ``max_in_a_row`` is reached.
    """

    priority = 'HIGHEST'  # before RuntimeInfoHook records losses

    def __init__(self, mode: str = 'stop', max_in_a_row: int = 20, max_dumps: int = 3) -> None:
        if mode not in ('stop', 'skip'):
            raise InputError(f"NonFiniteLossHook: mode is 'stop' or 'skip', found {mode!r}")
        self.mode = mode
        self.max_in_a_row = max_in_a_row
        self.max_dumps = max_dumps
        self._in_a_row = 0

    def before_train(self, runner) -> None:
        """Make the optimizer wrapper check the losses."""
        for wrapper in optim_wrappers(runner.optim_wrapper):
            if not isinstance(wrapper, FiniteLossMixin):
                cls: Any = type(wrapper)
                wrapper.__class__ = _checking(cls)

    def after_train_iter(
        self, runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Stop, or report the skipped batch and remove its losses from ``outputs``."""
        wrappers = optim_wrappers(runner.optim_wrapper)
        if not any(wrapper.left_out for wrapper in wrappers):
            self._in_a_row = 0
            return
        for wrapper in wrappers:
            wrapper.left_out = False
        self._leave_out(runner, data_batch, outputs or {})
        if outputs is not None:
            outputs.clear()

    def _leave_out(self, runner, batch: Any, outputs: Mapping[str, Any]) -> None:
        ids = batch_ids(batch)
        losses = {
            name: torch.as_tensor(value).detach().float().mean() for name, value in outputs.items()
        }
        found = {name: value.item() for name, value in losses.items() if not value.isfinite()}
        count = runner.message_hub.runtime_info.get('num_skipped_batches', 0) + 1
        self._in_a_row += 1
        named = ', '.join(f'{name} {value}' for name, value in found.items())
        what = f'iteration {runner.iter + 1}: {named or "the loss of another process"}'
        reason = None
        if self.mode == 'stop':
            reason = "default_hooks.nonfinite_loss.mode='skip' leaves such batches out"
        elif self._in_a_row >= self.max_in_a_row:
            reason = f'{self._in_a_row} batches one after the other'
        spoiled = next(
            (k for k, v in unwrapped(runner.model).named_parameters() if not v.isfinite().all()), ''
        )
        if spoiled:
            reason = f'the weights are not finite already ({spoiled}): a step before spoiled them'
        where = ''
        if reason is not None or count <= self.max_dumps:
            where = f'; dump: {self._dump(runner, batch, ids, outputs, reason is not None)}'
        what = f'{what}; batch: {ids or "without ids"}{where}'
        if reason is not None:
            raise InputError(f'{what}; {reason}')
        runner.message_hub.update_info('num_skipped_batches', count)
        runner.message_hub.update_scalar('train/num_skipped_batches', count)
        runner.logger.warning(f'{what}; left out, {count} so far')

    def _dump(
        self,
        runner,
        batch: Any,
        ids: dict[str, list],
        outputs: Mapping[str, Any],
        with_weights: bool,
    ) -> Path:
        path = Path(runner.work_dir, f'nonfinite_loss_iter_{runner.iter + 1}_rank_{get_rank()}.pth')
        content = dict(
            iter=runner.iter + 1,
            epoch=runner.epoch + 1,
            seed=runner.seed,
            ids=ids,
            losses=_plain(dict(outputs)),
            batch=_plain(batch),
        )
        if with_weights:
            content['state_dict'] = unwrapped(runner.model).state_dict()
        write_checkpoint(path, content)
        return path


def batch_ids(batch: Any) -> dict[str, list]:
    """Collect the fields that identify the samples of a batch.

    These are the fields whose names end in ``id`` or ``path``.

    Args:
        batch: A batch of a data loader: a dict with ``data_samples``, or a list of them (views).
    """
    found: dict[str, list] = {}

    def add(node: Any) -> None:
        if isinstance(node, BaseDataElement):
            for key, value in node.all_items():
                if key.endswith(('id', 'path')) and isinstance(value, (int, str)):
                    found.setdefault(key, []).append(value)
        elif isinstance(node, Mapping):
            for value in node.values():
                add(value)
        elif isinstance(node, (list, tuple)):
            for value in node:
                add(value)

    add(batch)
    return found


def _plain(value: Any) -> Any:
    """Convert a value to tensors, numbers, strings and containers that a safe loader can read."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy()) if value.dtype.kind in 'biuf' else value.tolist()
    if isinstance(value, BaseDataElement):
        return _plain(dict(value.all_items()))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, 'to_ndarray'):  # mmdet masks
        return _plain(value.to_ndarray())
    if hasattr(value, 'tensor'):  # mmdet boxes
        return _plain(value.tensor)
    if isinstance(value, np.generic):
        return value.item()
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)
