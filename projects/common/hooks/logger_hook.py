"""Write test metrics to disk from a single process."""

from __future__ import annotations

from mmengine.dist import is_main_process
from mmengine.hooks import LoggerHook
from mmengine.registry import HOOKS

__all__ = ['MainProcessLoggerHook']


@HOOKS.register_module()
class MainProcessLoggerHook(LoggerHook):
    """Log like ``LoggerHook``, but write test metrics from the main process only.

    With MMEngine's hook, every process writes ``<timestamp>.json`` after a test. The texts of
    several processes overlap, and the file is no longer valid JSON whenever one of them is longer.
    """

    def after_test_epoch(self, runner, metrics: dict[str, float] | None = None) -> None:
        """Log the metrics and write them to the log directory."""
        if is_main_process():
            super().after_test_epoch(runner, metrics)
