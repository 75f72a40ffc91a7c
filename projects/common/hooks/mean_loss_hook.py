"""Log the loss of the whole batch instead of the first process's share, read in one piece."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

__all__ = ['MeanLossHook']


@HOOKS.register_module()
class MeanLossHook(Hook):
    """Average the losses over all processes before they are logged.

    All losses are averaged in one reduction and copied to the host at once; the hooks that log them
    would wait for the device once for each.
    """

    priority = 'HIGHEST'  # before RuntimeInfoHook records them

    def after_train_iter(
        self, runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Replace the scalars of ``outputs`` by their means over all processes, on the host."""
        if not outputs:
            return
        with torch.no_grad():
            values = [torch.as_tensor(value).detach().float().mean() for value in outputs.values()]
            device = max((value.device for value in values), key=lambda it: it.type != 'cpu')
            together = torch.stack([value.to(device) for value in values])
            if get_world_size() > 1:
                all_reduce(together, op='mean')
        outputs.update(zip(outputs, together.cpu()))
