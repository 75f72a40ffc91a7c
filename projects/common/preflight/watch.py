"""A hook that measures the losses, gradients, time and memory of the first training steps."""

from __future__ import annotations

import contextlib
import copy
import math
import resource
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from torch import nn

from ..build import optim_wrappers, unwrapped
from .like_pretrained import LikePretrained
from .recipe import check_classes, check_parameters, check_schedule
from .report import Options, Report
from .terms import loss_terms, measure_terms, undisturbed
from .verdict import too_small

__all__ = ['EnoughSteps', 'Watch']


class EnoughSteps(Exception):
    """Signal the end of the run from inside the training loop."""


class Watch(Hook):
    """Examine the recipe before the first step and at every step.

    Args:
        cfg: The config as read from the file.
        options: See :class:`.Options`.
        report: The report to fill in.
        one_batch: Repeat the first batch in every step.
    """

    priority = 'LOWEST'

    def __init__(self, cfg: Config, options: Options, report: Report, one_batch: bool) -> None:
        self.cfg, self.options, self.report, self.one_batch = cfg, options, report, one_batch
        self.reached: set[str] = set()
        self.seconds: list[float] = []
        self.batch: Any = None
        self.scaled: LikePretrained | None = None

    def before_train(self, runner) -> None:
        """Run the checks that need no step, and record which parameters get gradients."""
        report, model = self.report, unwrapped(runner.model)
        report.groups = check_schedule(runner, self.cfg.get('param_scheduler'), report.findings)
        check_parameters(self.cfg, runner, report.findings)
        report.classes = check_classes(model, runner.train_dataloader.dataset, report.findings)
        if self.options.like_pretrained is not None and isinstance(
            backbone := getattr(model, 'backbone', None), nn.Module
        ):
            self.scaled = LikePretrained(backbone, *self.options.like_pretrained)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(
                    lambda _, name=name: self.reached.add(name)
                )

    def _losses(self, runner) -> dict:
        """Compute the losses of the first batch, always with the same dropout."""
        model = unwrapped(runner.model)
        torch.manual_seed(self.options.seed)
        wrapper = optim_wrappers(runner.optim_wrapper)[0]
        with wrapper.optim_context(model):
            data = model.data_preprocessor(copy.deepcopy(self.batch), True)
            return model._run_forward(data, mode='loss')

    def before_train_iter(self, runner, batch_idx: int, data_batch: Any = None) -> None:
        """Measure the loss terms on the first batch."""
        if self.batch is None:
            self.batch = copy.deepcopy(data_batch)
            model = unwrapped(runner.model)
            if self.scaled is not None:
                # This batch sets the output scale and the running statistics of the backbone.
                with undisturbed(model, but=model.backbone), torch.no_grad():
                    self._losses(runner)
            self.report.terms, gradients = measure_terms(model, lambda: self._losses(runner))
            self.report.parts = _parts(model, gradients)
            _reset_peak()
        elif self.one_batch and isinstance(data_batch, dict):
            # Random labels can only be memorized, and the noise of small batches hides learning, so
            # repeat the first batch.
            data_batch.clear()
            data_batch.update(copy.deepcopy(self.batch))
        self.start = time.perf_counter()

    def after_train_iter(
        self, runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Record the losses, and stop after the last step."""
        self.seconds.append(time.perf_counter() - self.start)
        self.report.totals.append(_total(outputs or {}))
        self.report.memory = _peak()
        if not math.isfinite(self.report.totals[-1]):
            raise EnoughSteps
        if len(self.report.totals) >= self.options.steps:
            self._look_again(runner)
            raise EnoughSteps

    def _look_again(self, runner) -> None:
        """Measure the first batch again after the last step.

        A term that started with almost no gradient may have one by now, because a later head learns
        from the predictions of an earlier head.
        """
        model = unwrapped(runner.model)
        terms = self.report.terms
        if any(too_small(term) for term in terms):
            later, _ = measure_terms(model, lambda: self._losses(runner), with_chance=False)
            for term, now in zip(terms, later):
                term.later_share, term.later_value = now.gradient_share, now.value
        else:
            with undisturbed(model), torch.no_grad():
                again = loss_terms(self._losses(runner))
            for term in terms:
                term.later_value = float(again[term.name])
        self.report.again = sum(term.later_value or 0.0 for term in terms)

    def unreached(self, model: nn.Module) -> list[str]:
        """Return the names of the trained parameters that never got a gradient."""
        return [
            name
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and name not in self.reached
        ]


def _total(outputs: Mapping[str, Any]) -> float:
    """Return the loss of a step: MMEngine's sum, or the terms of a custom training step."""
    if 'loss' in outputs:
        return float(torch.as_tensor(outputs['loss']).detach())
    terms = [value for name, value in outputs.items() if 'loss' in name]
    return float(sum(torch.as_tensor(each).detach() for each in terms)) if terms else math.nan


def _parts(model: nn.Module, gradients: Mapping[str, torch.Tensor]) -> list:
    numbers: Counter = Counter()
    trained: Counter = Counter()
    squares: defaultdict[str, float] = defaultdict(float)
    for name, parameter in model.named_parameters():
        pieces = name.split('.')
        part = pieces[0] if pieces[0] not in ('roi_head', 'matchers') else '.'.join(pieces[:2])
        numbers[part] += parameter.numel()
        trained[part] += parameter.numel() * parameter.requires_grad
        squares[part] += float(gradients[name].square().sum()) if name in gradients else 0.0
    return [(part, numbers[part], trained[part], squares[part] ** 0.5) for part in numbers]


def _reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        with contextlib.suppress(OSError):
            Path('/proc/self/clear_refs').write_text('5')


def _peak() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    try:
        lines = Path('/proc/self/status').read_text().splitlines()
        line = next(line for line in lines if line.startswith('VmHWM'))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
