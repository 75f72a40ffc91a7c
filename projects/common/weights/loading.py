"""Load weights strictly: report a mismatch in one line, and log what is missing by design.

MMEngine loads the weights that match and logs the rest. Here, a checkpoint must fit, except for
what the model's modules declare as optional (:mod:`.matching`), and its weights must mean the same
under the current config (:mod:`.semantics`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, PretrainedInit, update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from mmengine.runner import CheckpointLoader
from mmengine.runner.loops import BaseLoop
from torch import Tensor, nn

from ..build import unwrapped
from ..errors import InputError
from .layouts import recognise
from .matching import Match, match_weights, weights_in
from .semantics import check_semantics

__all__ = [
    'CheckLoadingHook',
    'CheckedPretrainedInit',
    'check_torch_loading',
    'load_weights',
    'record_loading',
    'recorded_loading',
    'use_checked_pretraining',
]

_records: list[list[tuple[str, str, Match]]] = []


@contextlib.contextmanager
def recorded_loading() -> Iterator[list[tuple[str, str, Match]]]:
    """Collect what :func:`load_weights` loads within a block: file, name of the module, match."""
    _records.append([])
    try:
        yield _records[-1]
    finally:
        _records.pop()


def record_loading(source: str | os.PathLike, module: str, match: Match) -> None:
    """Notify every open :func:`recorded_loading` of weights that were loaded by other means."""
    for record in _records:
        record.append((os.fspath(source), module, match))


def load_weights(
    module: nn.Module,
    content: Any,
    source: str | os.PathLike,
    purpose: str | None = None,
    allow_partial: bool = False,
    prefix: str | None = None,
) -> Match:
    """Load the weights of a checkpoint into a module that they must fit.

    One log line states how many tensors were loaded and what is missing by design.

    Args:
        module: The module.
        content: The loaded content of the file.
        source: The name of the file in messages.
        purpose: See :func:`match_weights`.
        allow_partial: Load what fits and list the rest, provided that at least one tensor fits.
        prefix: Prefix, in the file, of the names of the module's weights. All other weights are
            ignored.

    Raises:
        ValueError: The weights do not fit. The message states how many of the module's tensors
            match, the first mismatch, and the converter for the file if one is known.
    """
    weights = weights_in(content)
    if prefix is not None:
        prefix = prefix.rstrip('.') + '.'
        weights = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    match = match_weights(module, weights, purpose)
    usable = {key: value for key, value in weights.items() if key not in match.misshapen}
    loaded = type(module).load_state_dict(module, usable, strict=False)
    if not match.fits:  # the module may rename weights saved by older versions of it
        renamed = set(match.missing) - set(loaded.missing_keys)
        match.matched += renamed
        match.missing = [name for name in match.missing if name not in renamed]
        match.unexpected = [n for n in match.unexpected if n in set(loaded.unexpected_keys)]
    name = type(module).__name__
    none = match.expected > 0 and not match.matched
    if none or not (match.fits or allow_partial):
        raise InputError(_misfit(match, name, content, source, prefix))
    line = f'{source}: {len(match.matched)} of {match.expected} tensors of {name} loaded'
    for reason, names in match.excused.items():
        line += f'; {len(names)} by design not: {reason}'
    print_log(line, 'current')
    record_loading(source, name, match)
    if not match.fits:
        for what, names in (
            ('keep their initialisation, as the file lacks them', match.missing),
            ('keep their initialisation, as the file has other shapes', list(match.misshapen)),
            ('of the file are not used', match.unexpected),
        ):
            if names:
                listed = ', '.join(names)
                print_log(f'--allow-partial: {len(names)} tensors {what}: {listed}', 'current')
    return match


def _misfit(
    match: Match, name: str, content: Any, source: str | os.PathLike, prefix: str | None
) -> str:
    """Return the error message for a file that does not fit."""
    line = f'checkpoint {source}: {len(match.matched)} of {match.expected} tensors of {name} match'
    if match.first_problem is not None:
        line += f'; the first that does not is {match.first_problem}'
    layout = recognise(content)
    if layout is not None:
        return f'{line}; {layout.advice}'
    weights = weights_in(content)
    if not weights:
        return f'{line}; it holds no tensors by name'
    if match.matched:
        return line
    first = next(iter(weights))
    if prefix is not None and not any(key.startswith(prefix) for key in weights):
        return f'{line}; none of its {len(weights)} names begins with {prefix!r} (first: {first})'
    part = first.split('.')[0] + '.'
    below = {key.removeprefix(part) for key in weights if key.startswith(part)}
    if prefix is None and below.intersection(match.missing):
        return f'{line}; they are below {part!r} in it: set prefix={part!r} in the init_cfg'
    return f'{line}; its own first tensor is {first}'


class CheckLoadingHook(Hook):
    """Make MMEngine's runner reject checkpoints that do not fit.

    Testing and resuming excuse nothing. Training from ``load_from`` excuses what the model declares
    as optional for fine-tuning. The checkpoint then matches exactly, so MMEngine's own loading has
    nothing to report.

    Args:
        allow_partial: Applies to ``load_from`` in training; see :func:`load_weights`.
    """

    priority = 'HIGHEST'  # EMAHook loads from the same checkpoint

    def __init__(self, allow_partial: bool = False) -> None:
        self.allow_partial = allow_partial

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Load the weights, or raise :class:`ValueError` if they do not fit."""
        model = unwrapped(runner.model)
        model_cfg = runner.cfg.model
        if isinstance(model, BaseTTAModel):
            model, model_cfg = model.module, model_cfg.get('module', {})
        source = runner._load_from or 'checkpoint'
        training = isinstance(runner._train_loop, BaseLoop) and not runner._resume
        partial = self.allow_partial and training
        purpose = 'fine-tuning' if training else None
        load_weights(model, checkpoint, source, purpose, partial)
        try:
            scope = runner.cfg.get('default_scope', 'mmengine')
            check_semantics(checkpoint, model_cfg, scope, source)
        except ValueError as error:
            if not partial:
                raise
            print_log(f'--allow-partial: {error}', 'current')
        checkpoint['state_dict'] = model.state_dict()


class CheckedPretrainedInit(PretrainedInit):
    """Initialize from a checkpoint like MMEngine's initializer, but require it to fit.

    Weights that the module declares as ``optional_in_pretrained`` may be missing, and the file may
    have parts that the module lacks, such as the classifier behind a backbone.
    """

    def __call__(self, module: nn.Module) -> None:
        """Load the weights, or raise :class:`ValueError` if they do not fit."""
        content = CheckpointLoader.load_checkpoint(
            self.checkpoint, self.map_location, logger='silent'
        )
        load_weights(module, content, self.checkpoint, 'pretrained', prefix=self.prefix)
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=self._get_init_info())


def use_checked_pretraining() -> None:
    """Make `init_cfg=dict(type='Pretrained')` reject weights that do not fit, in this process."""
    WEIGHT_INITIALIZERS.register_module(name='Pretrained', module=CheckedPretrainedInit, force=True)


@contextlib.contextmanager
def check_torch_loading(module: nn.Module, source: str | os.PathLike) -> Iterator[None]:
    """Make `module.load_state_dict` reject weights that do not fit.

    This is for modules that read a checkpoint themselves and rename its entries, such as mmdet's
    Swin.

    Args:
        module: The module. Only this object changes, and only within the context.
        source: The name of the weights in messages.
    """

    def load_state_dict(state_dict: Mapping[str, Tensor], *args: Any, **kwargs: Any) -> None:
        load_weights(module, state_dict, source, 'pretrained')

    module.load_state_dict = load_state_dict  # type: ignore[method-assign]
    try:
        yield
    finally:
        module.__dict__.pop('load_state_dict', None)
