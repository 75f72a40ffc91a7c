"""Run the first training steps of a config and examine them."""

from __future__ import annotations

import contextlib
import copy
import logging
import tempfile
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger

from ..build import unwrapped
from ..weights.loading import recorded_loading
from ..weights.matching import Match
from .recipe import check_kept
from .report import Options, Report
from .simplify import simplify
from .stand_in import provide_data
from .terms import undisturbed
from .verdict import judge
from .watch import EnoughSteps, Watch

__all__ = ['preflight']


def preflight(cfg: Config, name: str, options: Options) -> Report:
    """Run the first steps of a config's training and check the recipe around them.

    Args:
        cfg: The config as read from the file. It is not changed.
        name: Name of the config in the report.
        options: See :class:`Options`.

    Returns:
        The report. Its verdict is ``findings.passed``.

    Raises:
        ValueError: The data is missing and there are no images to make up labels for.
    """
    report = Report(name)
    torch.manual_seed(options.seed)
    with tempfile.TemporaryDirectory(prefix='preflight-') as folder:
        run = copy.deepcopy(cfg)
        simplify(run, report.findings, options, folder)
        made_up = provide_data(run, options, Path(folder), report)
        _steps(run, cfg, options, report, made_up)
    return report


def _steps(run: Config, cfg: Config, options: Options, report: Report, made_up: bool) -> None:
    from ..cli.run import build_runner

    own = cfg.train_dataloader.get('batch_size') or 1
    report.batch_size = (run.train_dataloader.get('batch_size') or 1, own)
    watch = Watch(cfg, options, report, made_up or report.batch_size[0] < own)
    with recorded_loading() as loaded:
        runner = build_runner(run)
        MMLogger.get_current_instance().setLevel(logging.ERROR)
        runner.register_hook(watch, priority='LOWEST')
        with contextlib.suppress(EnoughSteps):
            runner.train()
    report.weights = [_loaded(*each) for each in loaded]
    judge(report, watch.one_batch, watch.unreached(unwrapped(runner.model)))
    loop = runner.train_loop
    if hasattr(loop, 'max_iters') and not hasattr(loop, 'run_epoch'):
        report.steps_in_all = loop.max_iters
    elif not made_up:
        length = len(loop.dataloader) * report.batch_size[0] // own
        report.steps_in_all = loop.max_epochs * max(length, 1)
    report.step_seconds = sorted(watch.seconds)[len(watch.seconds) // 2] if watch.seconds else 0.0
    metrics = _metrics(runner, options, report) if report.findings.passed else None
    report.kept = check_kept(cfg, metrics, report.findings, _silent(runner, metrics))


def _loaded(source: str, module: str, match: Match) -> str:
    """Describe loaded weights in one line."""
    line = f'{len(match.matched)} of {match.expected} tensors of {module} from {source}'
    for reason, names in match.excused.items():
        parts = sorted({name.split('.')[0] for name in names})
        line += f'; {len(names)} by design not ({", ".join(parts[:4])}): {reason}'
    return line


def _metrics(runner: Any, options: Options, report: Report) -> set[str] | None:
    """Return the names of the metrics from one validation run, or None if it did not run."""
    if runner.val_loop is None or not options.validate:
        return None
    try:
        with undisturbed(runner.model):
            return set(runner.val_loop.run() or {})
    except Exception as error:  # report any error and continue
        report.findings.fail(f'validation: {type(error).__name__}: {" ".join(str(error).split())}')
        return None


def _silent(runner: Any, metrics: set[str] | None) -> set[str]:
    """Return the prefixes of the validation metrics that returned no value."""
    if metrics is None:
        return set()
    prefixes = {str(getattr(metric, 'prefix', '')) for metric in runner.val_evaluator.metrics}
    return prefixes - {name.rpartition('/')[0] for name in metrics}
