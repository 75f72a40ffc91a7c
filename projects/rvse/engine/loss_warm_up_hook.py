"""Another loss in the first epochs, as VSE-infinity warms up with all negatives."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.registry import HOOKS, MODELS

from projects.common.build import unwrapped

__all__ = ['LossWarmUpHook']


@HOOKS.register_module()
class LossWarmUpHook(Hook):
    """Trains ``epochs`` epochs with ``loss`` in place of the model's own.

    Args:
        loss: The first epochs' loss.
        epochs: How many; a training that resumes behind them goes on with the model's own.
    """

    def __init__(self, loss: dict, epochs: int = 1) -> None:
        self.loss = MODELS.build(loss)
        self.epochs = epochs
        self._own = None

    def before_train_epoch(self, runner) -> None:
        """Exchanges the model's loss where the warm-up begins, and back where it ends."""
        model = unwrapped(runner.model)
        if runner.epoch < self.epochs and self._own is None:
            self._own, model.criterion = model.criterion, self.loss
        elif runner.epoch >= self.epochs and self._own is not None:
            model.criterion, self._own = self._own, None
