"""Metrics of a test, written to disk by one process."""

from __future__ import annotations

from mmengine.dist import is_main_process
from mmengine.hooks import LoggerHook
from mmengine.registry import HOOKS

__all__ = ['MainProcessLoggerHook']


@HOOKS.register_module()
class MainProcessLoggerHook(LoggerHook):
    """Log as ``LoggerHook`` does, but write the metrics of a test from the main process alone.

    MMEngine's hook lets every process write ``<timestamp>.json`` after a test. With several
    processes the texts overlap, and the file is no longer JSON whenever one of them is longer.
    """

    def after_test_epoch(self, runner, metrics: dict[str, float] | None = None) -> None:
        """Log the metrics and write them to the folder of the log."""
        if is_main_process():
            super().after_test_epoch(runner, metrics)
