"""Log the loss of the whole batch instead of the first process's share."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

__all__ = ['MeanLossHook']


@HOOKS.register_module()
class MeanLossHook(Hook):
    """Average the losses over all processes, in one small reduction, before they are logged.

    They are copied to the host together, so that it waits for a GPU once instead of once for each
    loss and hook that reads them.
    """

    priority = 'HIGHEST'  # before RuntimeInfoHook records them

    def after_train_iter(
        self, runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Replace the scalars of ``outputs`` by their means over all processes, in place."""
        on_gpu = any(
            isinstance(value, torch.Tensor) and value.is_cuda for value in (outputs or {}).values()
        )
        if not outputs or (get_world_size() == 1 and not on_gpu):
            return
        with torch.no_grad():
            values = torch.stack(
                [torch.as_tensor(value).detach().float().mean() for value in outputs.values()]
            )
            all_reduce(values, op='mean')
            values = values.cpu()
        outputs.update(zip(outputs, values))
