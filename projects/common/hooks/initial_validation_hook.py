"""Validate before the first step of training."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

__all__ = ['InitialValidationHook']


@HOOKS.register_module()
class InitialValidationHook(Hook):
    """Validate a model before it is trained, for training that starts from a model that works.

    The log then holds the metrics before and after, and the model of the start is kept as the best
    one until another is better. A resumed run has done so already.
    """

    priority = 'LOWEST'  # the checkpoint hook, which keeps the best model, has to be ready

    def before_train(self, runner) -> None:
        """Run the validation loop, if there is one, at the start of a run."""
        if runner.iter == 0 and runner.val_loop is not None:
            runner.val_loop.run()
