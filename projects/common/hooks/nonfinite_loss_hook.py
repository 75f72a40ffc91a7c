"""Losses that are NaN or infinite never reach the weights: training stops, or leaves them out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.structures import BaseDataElement
from torch import Tensor

from ..build import unwrapped
from ..errors import InputError
from ..weights.convert import write_checkpoint

__all__ = ['NonFiniteLossHook']


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Looks at every loss before its gradient is taken.

    mmdet's ``CheckInvalidLossHook`` looks when the optimizer has spoiled the weights already.

    With ``mode='stop'`` training ends with the batch's ids and a dump; the last checkpoint is one
    of finite weights. With ``mode='skip'`` the batch is left out: it has no gradient, and neither
    have those that gradient accumulation had gathered for the same update; a warning names it,
    its losses do not enter the logged means, and the log counts such batches as
    ``num_skipped_batches``, which a resumed run goes on with. All processes stop or skip
    together, whichever of them met the loss.

    The dump, ``nonfinite_loss_iter_<n>_rank_<r>.pth`` in the work folder, has what is needed to
    compute the loss again: ``iter``, ``epoch``, ``seed``, ``ids``, ``losses``, the ``batch``, and
    with ``'stop'`` the ``state_dict``. It is plain data, which
    :func:`~projects.common.weights.checkpoint.load_checkpoint_file` reads.

    Args:
        mode: ``'stop'`` or ``'skip'``.
        max_in_a_row: So many skipped batches, one after the other, stop the training all the same.
        max_dumps: Of the first so many batches that are skipped there is a dump.

    Raises:
        InputError: At the loss, as above; or, with ``'skip'``, when skipping is of no use, because
            the weights themselves are not finite or ``max_in_a_row`` is reached.
    """

    priority = 'HIGHEST'  # before RuntimeInfoHook writes losses down

    def __init__(self, mode: str = 'stop', max_in_a_row: int = 20, max_dumps: int = 3) -> None:
        if mode not in ('stop', 'skip'):
            raise InputError(f"NonFiniteLossHook: mode is 'stop' or 'skip', found {mode!r}")
        self.mode = mode
        self.max_in_a_row = max_in_a_row
        self.max_dumps = max_dumps
        self._batch: Any = None
        self._losses: dict[str, Tensor] = {}
        self._in_a_row = 0

    def before_train(self, runner) -> None:
        """Puts the look at the loss before the model's and the optimizer wrapper's methods."""
        model, wrapper = unwrapped(runner.model), runner.optim_wrapper
        parse_losses, update_params = model.parse_losses, wrapper.update_params

        def parse(losses: dict) -> tuple[Tensor, dict[str, Tensor]]:
            loss, self._losses = parse_losses(losses)
            return loss, self._losses

        def update(loss: Tensor, **kwargs: Any) -> None:
            if self._is_finite(loss):
                self._in_a_row = 0
                update_params(loss, **kwargs)
                return
            self._leave_out(runner)
            wrapper.zero_grad()
            wrapper._inner_count += 1  # as a backward pass would: the schedule of updates stays

        model.parse_losses, wrapper.update_params = parse, update

    def before_train_iter(self, runner, batch_idx: int, data_batch: Any = None) -> None:
        """Keeps the batch at hand."""
        self._batch = data_batch

    def after_train_iter(
        self, runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Takes the losses of a batch that was left out away from those that log them."""
        if self._in_a_row and outputs is not None:
            outputs.clear()
        self._batch, self._losses = None, {}

    @staticmethod
    def _is_finite(loss: Tensor) -> bool:
        """Whether the loss is finite in all processes."""
        finite = torch.isfinite(loss.detach()).all().float()
        if get_world_size() > 1:
            all_reduce(finite, op='min')
        return bool(finite)

    def _leave_out(self, runner) -> None:
        ids = batch_ids(self._batch)
        losses = {name: value.detach().float().mean() for name, value in self._losses.items()}
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
            where = f'; dump: {self._dump(runner, ids, with_weights=reason is not None)}'
        what = f'{what}; batch: {ids or "without ids"}{where}'
        if reason is not None:
            raise InputError(f'{what}; {reason}')
        runner.message_hub.update_info('num_skipped_batches', count)
        runner.message_hub.update_scalar('train/num_skipped_batches', count)
        runner.logger.warning(f'{what}; left out, {count} so far')

    def _dump(self, runner, ids: dict[str, list], with_weights: bool) -> Path:
        path = Path(runner.work_dir, f'nonfinite_loss_iter_{runner.iter + 1}_rank_{get_rank()}.pth')
        content = dict(
            iter=runner.iter + 1,
            epoch=runner.epoch + 1,
            seed=runner.seed,
            ids=ids,
            losses=_plain(dict(self._losses)),
            batch=_plain(self._batch),
        )
        if with_weights:
            content['state_dict'] = unwrapped(runner.model).state_dict()
        write_checkpoint(path, content)
        return path


def batch_ids(batch: Any) -> dict[str, list]:
    """What names the samples of a batch: fields whose name ends in ``id`` or ``path``.

    Args:
        batch: Of a data loader: a dict with ``data_samples``, or several in a list (views).
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
    """Tensors, numbers, texts and containers of them, of which a safe reader can make the same."""
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
    if hasattr(value, 'to_ndarray'):  # mmdet's masks
        return _plain(value.to_ndarray())
    if hasattr(value, 'tensor'):  # mmdet's boxes
        return _plain(value.tensor)
    if isinstance(value, np.generic):
        return value.item()
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)
