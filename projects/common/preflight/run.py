"""Run the first training steps of a config and examine them."""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import os
import resource
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS
from torch import nn

from ..build import optim_wrappers, unwrapped
from ..errors import InputError
from ..files.annotation_files import is_utf8
from ..files.pictures import pictures_in
from ..hooks.class_check_hook import heads_in_config
from ..weights.loading import Match, recorded_loading
from .findings import Findings
from .image_scale import scale_images
from .like_pretrained import LikePretrained
from .made_up import MadeUp, made_up_dataset, prepare
from .recipe import (
    Group,
    check_classes,
    check_kept,
    check_parameters,
    check_schedule,
)
from .terms import Term, loss_terms, measure_terms, undisturbed

__all__ = ['Options', 'Report', 'preflight']

LEAST_GRADIENT = 1e-4  # a term with a smaller share of the gradient is not learned
MOST_OF_CHANCE = 5.0  # a term that starts above this multiple of its chance value starts wrong
LEAST_SHARE = 0.05  # share of the sum above which a wrong start is a failure
VALIDATED = 8  # samples per data set, enough to get the names of the metrics

# Hooks that write, draw or stop, and do not affect the first steps.
_LEFT_OUT = ('CheckpointHook', 'LoggerHook', 'ProgressBarHook', 'NonFiniteLossHook',
             'VisualizationHook', 'EarlyStoppingHook', 'ProfilerHook')  # fmt: skip


@dataclass
class Options:
    """Hold the options of a preflight.

    Attributes:
        steps: Number of steps to run.
        pictures: Folder of images for made-up labels if the config's own data is missing.
        like_pretrained: Target mean and standard deviation of the backbone's features. None leaves
            the features unchanged.
        batch_size: Batch size that replaces the config's.
        image_scale: Factor for the sizes of resizing and cropping transforms.
        validate: Whether to validate on a few samples to get the names of the metrics.
        seed: Random seed.
    """

    steps: int = 10
    pictures: str | None = None
    like_pretrained: tuple[float, float] | None = None
    batch_size: int | None = None
    image_scale: float = 1.0
    validate: bool = True
    seed: int = 0


@dataclass
class Report:
    """Hold the results of a preflight.

    Attributes:
        name: Name of the config.
        findings: Failures, warnings and notes.
        terms: Loss terms on the first batch.
        totals: Sum of the terms at every step.
        again: Sum of the terms on the first batch after the last step.
        parts: For each part of the model: its name, number of elements, number of trained elements
            and gradient norm.
        groups: Parameter groups of the optimizer.
        kept: Description of the kept checkpoints.
        classes: Classes of the data and the heads.
        weights: One line per loaded file of pretrained weights.
        step_seconds: Median duration of a step.
        memory: Peak memory of a step in bytes, of the GPU or of the process.
        steps_in_all: Number of steps in the whole schedule, or None if the size of the data set is
            unknown.
        batch_size: Batch size used here, and that of the config.
    """

    name: str
    findings: Findings = field(default_factory=Findings)
    terms: list[Term] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)
    again: float | None = None
    parts: list[tuple[str, int, int, float]] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    kept: str = ''
    classes: str = ''
    weights: list[str] = field(default_factory=list)
    step_seconds: float = 0.0
    memory: int = 0
    steps_in_all: int | None = None
    batch_size: tuple[int, int] = (0, 0)

    @property
    def first(self) -> float:
        """Return the sum of the terms on the first batch, before any step."""
        return sum(term.value for term in self.terms)

    @property
    def mines(self) -> bool:
        """Return whether the model creates labels or weights of some terms itself."""
        return any(term.mined for term in self.terms)

    @property
    def given(self) -> tuple[float, float]:
        """Return the sum of the terms with labels from the data, on the first batch.

        The two values are those before the first and after the last step.
        """
        terms = [term for term in self.terms if term.mined is None]
        return sum(term.value for term in terms), sum(term.later_value or 0.0 for term in terms)


class _EnoughSteps(Exception):
    """Signal the end of the run from inside the training loop."""


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
        _simplify(run, report.findings, options, folder)
        made_up = _provide_data(run, cfg, options, Path(folder), report)
        _steps(run, cfg, options, report, made_up)
    return report


# ---------------------------------------------------------------------------------- preparation


def _simplify(cfg: Config, findings: Findings, options: Options, folder: str) -> None:
    """Remove outputs from a config, and everything that is not available on this machine."""
    cfg.work_dir = folder
    cfg.experiment_name = Path(folder).name  # MMEngine keeps one logger per name
    cfg.resume = False
    cfg.log_level = 'WARNING'
    cfg.visualizer = dict(type='Visualizer', name=folder, vis_backends=[])
    hooks = cfg.get('default_hooks') or {}
    cfg.default_hooks = {
        key: hook
        for key, hook in hooks.items()
        if hook is not None and not str(hook['type']).endswith(_LEFT_OUT)
    }
    # None disables a default hook of MMEngine.
    cfg.default_hooks.update(logger=None, checkpoint=None)
    cfg.custom_hooks = [
        hook for hook in cfg.get('custom_hooks') or [] if not str(hook['type']).endswith(_LEFT_OUT)
    ]
    randomness = cfg.setdefault('randomness', {})
    if randomness.get('seed') is None:
        randomness['seed'] = options.seed
    float16 = (
        cfg.optim_wrapper.get('type') == 'AmpOptimWrapper'
        and str(cfg.optim_wrapper.get('dtype')) != 'bfloat16'
    )
    if float16 and not torch.cuda.is_available():
        findings.note('float16 needs a GPU: judged in float32')
        cfg.optim_wrapper.type = 'OptimWrapper'
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            cfg.optim_wrapper.pop(key, None)
    if cfg.get('load_from') and not os.path.isfile(os.path.expanduser(cfg.load_from)):
        _absent_weights('load_from', cfg.load_from, findings, options)
        cfg.load_from = None
    for init_cfg in list(_pretrained(cfg.model)):
        checkpoint = init_cfg['init_cfg']['checkpoint']
        if not os.path.isfile(os.path.expanduser(checkpoint)):
            if options.like_pretrained is None and '://' in checkpoint:
                continue  # MMEngine downloads it
            _absent_weights('checkpoint', checkpoint, findings, options)
            init_cfg['init_cfg'] = None
    for section in ('train_dataloader', 'val_dataloader'):
        if cfg.get(section) is not None:
            cfg[section].update(num_workers=0, persistent_workers=False)
            for key in ('prefetch_factor', 'timeout', 'multiprocessing_context'):
                cfg[section].pop(key, None)
    if options.batch_size is not None:
        cfg.train_dataloader.batch_size = options.batch_size
    if options.image_scale != 1:
        loaders = [cfg.get(name) for name in ('train_dataloader', 'val_dataloader')]
        if not scale_images(loaders, options.image_scale):
            raise InputError(
                f'--image-scale {options.image_scale:g}: no transform of this config resizes or '
                'crops to a size in pixels'
            )
        findings.note(f'images are {options.image_scale:g} times as large as in training')
    cfg.train_cfg.val_begin = 10**9  # validation is run separately
    if (cfg.get('val_cfg') or {}).get('type', 'ValLoop') == 'ValLoop' and cfg.get('val_dataloader'):
        _few_samples(cfg.val_dataloader.dataset)
    cfg.pop('compile', None)


def _few_samples(dataset: Any) -> None:
    """Limit MMEngine data sets to their first samples, in place."""
    for child in (dataset.get('dataset'), *(dataset.get('datasets') or ())):
        if isinstance(child, Mapping):
            _few_samples(child)
    kind = DATASETS.get(str(dataset.get('type')))
    if isinstance(kind, type) and issubclass(kind, BaseDataset):
        dataset.setdefault('indices', VALIDATED)


def _pretrained(node: Any) -> Any:
    """Yield the dicts below a node that have ``init_cfg=dict(type='Pretrained', ...)``."""
    if isinstance(node, Mapping):
        init = node.get('init_cfg')
        if isinstance(init, Mapping) and str(init.get('type')) == 'Pretrained':
            yield node
        for child in list(node.values()):
            yield from _pretrained(child)
    elif isinstance(node, (list, tuple)):
        for child in node:
            yield from _pretrained(child)


def _absent_weights(field_name: str, path: str, findings: Findings, options: Options) -> None:
    if options.like_pretrained is None:
        findings.fail(
            f'{field_name} {path}: no such file; --like-pretrained judges the recipe without it'
        )
    else:
        findings.note(f'{field_name} {path} is not at hand: judged like pretrained')


def _provide_data(run: Config, cfg: Config, options: Options, folder: Path, report: Report) -> bool:
    """Check that the training data can be read, and make up labels if it is missing.

    Returns:
        Whether labels were made up.
    """
    try:
        dataset = DATASETS.build(copy.deepcopy(run.train_dataloader.dataset))
        with undisturbed(nn.Identity()):
            dataset[0]
    except (FileNotFoundError, NotADirectoryError) as error:
        if options.pictures is None:
            raise InputError(
                f'{error}; --pictures DIR judges the recipe on images of yours with made-up labels'
            ) from error
    except Exception:  # for example a sample that a hook completes; training will tell
        return False
    else:
        return False
    prepare(run, report.findings)
    images = [path.absolute() for path in pictures_in(options.pictures)]
    if not images:
        raise InputError(f'--pictures {options.pictures}: no image in it')
    if (strange := next((path for path in images if not is_utf8(str(path))), None)) is not None:
        raise InputError(f'--pictures: {str(strange)!r} is no name in UTF-8')
    report.findings.note(
        f"the config's data is absent: {len(images)} images with made-up labels stand in for it"
    )
    count = (run.train_dataloader.get('batch_size') or 1) * (options.steps + 1)
    number = next(iter(heads_in_config(run.model).values()), 1)
    folder = folder / 'data'
    folder.mkdir()
    made = MadeUp(images, folder, count, number)
    run.train_dataloader.dataset = made_up_dataset(_plain(run.train_dataloader.dataset), made)
    if run.get('val_dataloader') is not None:
        made = MadeUp(images, folder, min(4, len(images)), number)
        run.val_dataloader.dataset = made_up_dataset(_plain(run.val_dataloader.dataset), made)
        written = sorted(folder.glob('*_instances.json'))
        evaluators = run.val_evaluator
        for each in evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]:
            if written and each.get('ann_file'):
                each.ann_file = str(written[-1])
    return True


def _plain(node: Any) -> Any:
    return node.to_dict() if hasattr(node, 'to_dict') else dict(node)


# ---------------------------------------------------------------------------------- steps


class _Watch(Hook):
    """Examine the recipe before the first step and at every step."""

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
            raise _EnoughSteps
        if len(self.report.totals) >= self.options.steps:
            self._look_again(runner)
            raise _EnoughSteps

    def _look_again(self, runner) -> None:
        """Measure the first batch again after the last step.

        A term that started with almost no gradient may have one by now, because a later head learns
        from the predictions of an earlier head.
        """
        model = unwrapped(runner.model)
        terms = self.report.terms
        if any(_too_small(term) for term in terms):
            later, _ = measure_terms(model, lambda: self._losses(runner), with_chance=False)
            for term, now in zip(terms, later):
                term.later_share, term.later_value = now.gradient_share, now.value
        else:
            with undisturbed(model), torch.no_grad():
                again = loss_terms(self._losses(runner))
            for term in terms:
                term.later_value = float(again[term.name])
        self.report.again = sum(term.later_value or 0.0 for term in terms)


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


def _steps(run: Config, cfg: Config, options: Options, report: Report, made_up: bool) -> None:
    from ..cli.run import build_runner

    own = cfg.train_dataloader.get('batch_size') or 1
    report.batch_size = (run.train_dataloader.get('batch_size') or 1, own)
    watch = _Watch(cfg, options, report, made_up or report.batch_size[0] < own)
    with recorded_loading() as loaded:
        runner = build_runner(run)
        MMLogger.get_current_instance().setLevel(logging.ERROR)
        runner.register_hook(watch, priority='LOWEST')
        with contextlib.suppress(_EnoughSteps):
            runner.train()
    report.weights = [_loaded(*each) for each in loaded]
    model = unwrapped(runner.model)
    _judge(report, watch, model, options)
    loop = runner.train_loop
    if hasattr(loop, 'max_iters') and not hasattr(loop, 'run_epoch'):
        report.steps_in_all = loop.max_iters
    elif not made_up:
        length = len(loop.dataloader) * report.batch_size[0] // own
        report.steps_in_all = loop.max_epochs * max(length, 1)
    report.step_seconds = sorted(watch.seconds)[len(watch.seconds) // 2] if watch.seconds else 0.0
    metrics = _metrics(runner, options, report) if report.findings.passed else None
    report.kept = check_kept(cfg, metrics, report.findings, _silent(runner, metrics))


def _too_small(term: Term) -> bool:
    """Return whether a term is not learned; a late term only needs a nonzero gradient."""
    share = max(term.gradient_share, term.later_share or 0.0)
    return share < (LEAST_GRADIENT if term.late is None else sys.float_info.min)


def _falls(report: Report, one_batch: bool) -> bool:
    """Return whether the loss falls during the steps or at the end.

    If labels are mined during training, the loss may rise before it falls, because new labels add
    to it. In this case, the terms with labels from the data must fall, and the sum must stay within
    bounds.
    """
    totals, again, first = report.totals, report.again or 0.0, report.first
    if again < first:
        return True
    before, after = report.given
    if again > MOST_OF_CHANCE * first:
        return False
    if report.mines and after < before:
        return True
    if one_batch:
        return min(totals[len(totals) // 2 :]) < min(first, totals[0])
    third = max(len(totals) // 3, 1)
    early, late = (sorted(part)[third // 2] for part in (totals[:third], totals[-third:]))
    return again != first and late < 0.9 * early


def _loaded(source: str, module: str, match: Match) -> str:
    """Describe loaded weights in one line."""
    line = f'{len(match.matched)} of {match.expected} tensors of {module} from {source}'
    for reason, names in match.excused.items():
        parts = sorted({name.split('.')[0] for name in names})
        line += f'; {len(names)} by design not ({", ".join(parts[:4])}): {reason}'
    return line


def _judge(report: Report, watch: _Watch, model: nn.Module, options: Options) -> None:
    findings = report.findings
    for term in report.terms:
        if not math.isfinite(term.value) or not math.isfinite(term.gradient):
            findings.fail(f'{term.name} is {term.value} on the first batch, before any step')
            continue
        if _too_small(term):
            findings.fail(
                f'{term.name} has {term.gradient_share:.1e} of the gradient (its value is '
                f'{term.share:.1e} of the sum): it is not learnt from'
            )
        # A loss that is 0 when all similarities are equal, such as one with semi-hard negatives,
        # has no chance value to compare with.
        if term.chance and term.value > MOST_OF_CHANCE * abs(term.chance):
            text = (
                f'{term.name} starts at {term.value:.4g}, and predictions that know nothing give '
                f'{term.chance:.4g}: look at the start values of its last layer'
            )
            # A small box term may be near 0 by chance, which says nothing.
            (findings.fail if term.share > LEAST_SHARE else findings.warn)(text)
    if not report.totals:
        findings.fail('no step was taken')
    elif not math.isfinite(report.totals[-1]):
        findings.fail(f'the loss is {report.totals[-1]} at step {len(report.totals)}')
    elif len(report.totals) > 1 and report.again is not None:
        first = report.first
        if not math.isfinite(report.again):
            findings.fail(f'the loss of the first batch is {report.again} after the last step')
        elif not _falls(report, watch.one_batch):
            text = (
                f'the loss does not fall: {first:.4g} on the first batch, {report.again:.4g} on it '
                f'after step {len(report.totals)}'
            )
            if report.mines:
                text += '; {:.4g} and {:.4g} without the terms that are mined'.format(*report.given)
            findings.fail(text)
    small = [
        term.name
        for term in report.terms
        if term.late is not None and term.gradient_share < LEAST_GRADIENT and not _too_small(term)
    ]
    if small:
        findings.note(
            f'{", ".join(small)}: less than {LEAST_GRADIENT:.0e} of the gradient at first, by '
            'design: ' + '; '.join(sorted({str(t.late) for t in report.terms if t.name in small}))
        )
    unreached = [
        name
        for name, p in model.named_parameters()
        if p.requires_grad and name not in watch.reached
    ]
    if unreached:
        findings.warn(
            f'{len(unreached)} parameters got no gradient in {len(report.totals)} steps: '
            + ', '.join(unreached[:5])
            + (', ...' if len(unreached) > 5 else '')
        )


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
