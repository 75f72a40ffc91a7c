"""A hook that uses another loss in the first epochs, like VSE-infinity's warm-up."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.registry import HOOKS, MODELS

from projects.common.build import unwrapped

__all__ = ['LossWarmUpHook']


@HOOKS.register_module()
class LossWarmUpHook(Hook):
    """Train the first epochs with another loss than the model's own.

    Args:
        loss: Loss for the first epochs. VSE-infinity warms up with all negatives.
        epochs: Number of epochs. A training resumed after them continues with the model's loss.
    """

    def __init__(self, loss: dict, epochs: int = 1) -> None:
        self.loss = MODELS.build(loss)
        self.epochs = epochs
        self._own = None

    def before_train_epoch(self, runner) -> None:
        """Replace the loss of the model when the warm-up starts, and restore it afterwards."""
        model = unwrapped(runner.model)
        if runner.epoch < self.epochs and self._own is None:
            self._own, model.criterion = model.criterion, self.loss
        elif runner.epoch >= self.epochs and self._own is not None:
            model.criterion, self._own = self._own, None
