"""Load weights strictly: report a mismatch in one line, and log what is missing by design.

MMEngine loads the weights that match and logs the rest. Here, a checkpoint must fit, except for
what the model's modules declare with these attributes:

- ``optional_in_pretrained``: what weights for an ``init_cfg`` of type 'Pretrained' may lack;
- ``optional_in_fine_tuning``: what weights for ``load_from`` in training may lack or may have with
  other shapes, such as a head for a new task.

Both are dicts from a regular expression to the reason in words. An expression is matched against
names relative to the module. Weights that have the same shapes but a different meaning, such as
those of attention with a different number of heads, are detected by the config that MMEngine stores
in a checkpoint. Classes declare this meaning with

- ``semantic_arguments``: names of constructor arguments that must be equal;
- ``weight_semantics(arguments)``: a class method that returns, by name, what the weights mean under
  these constructor arguments. Values that both configs name must be equal.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, PretrainedInit, update_init_info
from mmengine.registry import MODELS, WEIGHT_INITIALIZERS, DefaultScope
from mmengine.runner import CheckpointLoader
from mmengine.runner.loops import BaseLoop
from torch import Tensor, nn

from ..build import unwrapped
from ..config_text import config_of_checkpoint
from ..errors import InputError
from .layouts import recognise

__all__ = [
    'CheckedPretrainedInit',
    'CheckLoadingHook',
    'Match',
    'check_semantics',
    'check_torch_loading',
    'load_weights',
    'match_weights',
    'record_loading',
    'recorded_loading',
    'use_checked_pretraining',
    'weights_in',
]

#: State dict entries that a model can do without: counters, and vocabularies, which a config may
#: also name.
_NOT_WEIGHTS = ('num_batches_tracked', '_extra_state', 'embeddings.position_ids')


# ------------------------------------------------------------------------------------ matching


@dataclass
class Match:
    """Describe how weights fit a module.

    Attributes:
        expected: Number of the module's tensors.
        matched: Names of tensors with the same shape in both.
        missing: Names in the module that the weights lack.
        unexpected: Names in the weights that the module lacks.
        misshapen: Names of tensors with different shapes, each with (found, expected).
        excused: Names of the three kinds above that the module declares as optional, by the
            declared reason.
    """

    expected: int
    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshapen: dict[str, tuple[tuple, tuple]] = field(default_factory=dict)
    excused: dict[str, list[str]] = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        """Return whether every mismatch is excused."""
        return self.first_problem is None

    @property
    def first_problem(self) -> str | None:
        """Return the first mismatch that is not excused, with a description."""
        excused = {name for names in self.excused.values() for name in names}
        for name in self.missing:
            if name not in excused:
                return f'{name}, which the file lacks'
        for name, (found, expected) in self.misshapen.items():
            if name not in excused:
                return f'{name}, which is {found} in the file and {expected} in the model'
        for name in self.unexpected:
            if name not in excused:
                return f'{name}, which the model lacks'
        return None


def weights_in(content: Any) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name.

    They are its entry ``state_dict`` or ``model``, or the whole file. A prefix ``module.``, as
    added by data parallelism, is removed.

    Args:
        content: The loaded content of the file.
    """
    if not isinstance(content, Mapping):
        return {}
    for name in ('state_dict', 'model'):
        if isinstance(content.get(name), Mapping):
            content = content[name]
            break
    return {
        str(key).removeprefix('module.'): value
        for key, value in content.items()
        if isinstance(value, Tensor)
    }


def match_weights(
    module: nn.Module, weights: Mapping[str, Tensor], purpose: str | None = None
) -> Match:
    """Compare weights with a module by names and shapes, without loading them.

    Args:
        module: The module.
        weights: Tensors by name.
        purpose: 'pretrained' or 'fine-tuning' excuses what the module declares as optional for this
            purpose. None excuses nothing.
    """
    own = _weights_of(module.state_dict())
    found = _weights_of(weights)
    match = Match(expected=len(own))
    for name, tensor in own.items():
        if name not in found:
            match.missing.append(name)
        elif found[name].shape != tensor.shape:
            match.misshapen[name] = (tuple(found[name].shape), tuple(tensor.shape))
        else:
            match.matched.append(name)
    match.unexpected = [name for name in found if name not in own]
    for pattern, reason in _declared(module, purpose):
        excusable = [*match.missing, *match.misshapen]
        if purpose == 'fine-tuning':
            excusable += match.unexpected
        names = [name for name in excusable if pattern.match(name)]
        if names:
            match.excused.setdefault(reason, []).extend(names)
    if purpose == 'pretrained':  # for example the classifier behind a backbone
        children = {name.split('.')[0] for name in own}
        for name in match.unexpected:
            part = name.split('.')[0]
            if part not in children:
                reason = f'{part} of the file, which the model has no place for'
                match.excused.setdefault(reason, []).append(name)
    return match


def _weights_of(state: Mapping[str, Any]) -> dict[str, Tensor]:
    return {
        name: value
        for name, value in state.items()
        if isinstance(value, Tensor) and not name.endswith(_NOT_WEIGHTS)
    }


def _declared(module: nn.Module, purpose: str | None) -> Iterator[tuple[re.Pattern, str]]:
    """Yield what the submodules of a module declare as optional."""
    if purpose is None:
        return
    attribute = f'optional_in_{purpose.replace("-", "_")}'
    for prefix, part in module.named_modules():
        for pattern, reason in getattr(part, attribute, {}).items():
            beginning = re.escape(f'{prefix}.') if prefix else ''
            yield re.compile(beginning + pattern), reason


# ------------------------------------------------------------------------------------- loading

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


# ----------------------------------------------------------------------------------- semantics


def check_semantics(content: Any, model: Mapping, scope: str, source: str | os.PathLike) -> None:
    """Reject a checkpoint whose weights have a different meaning under the current config.

    Nothing is compared if the checkpoint has no config, as is the case for converted ones.

    Args:
        content: The loaded content of the file.
        model: Config of the model that the weights are for.
        scope: The ``default_scope`` in which names are looked up.
        source: The name of the file in messages.

    Raises:
        ValueError: A value differs that does not affect the shapes of the weights.
    """
    meta = content.get('meta') if isinstance(content, Mapping) else None
    if not isinstance(meta, Mapping) or not isinstance(meta.get('cfg'), str):
        return
    try:
        theirs = config_of_checkpoint(dict(meta=meta), os.fspath(source)).get('model')
    except ValueError as error:
        print_log(f'{error}: names and shapes alone were compared', 'current')
        return
    if not isinstance(theirs, Mapping):
        return
    with DefaultScope.overwrite_default_scope(scope):
        for where, (found, expected) in _differences(theirs, model, 'model'):
            raise InputError(
                f'checkpoint {source}: {where} is {found!r} in its config, but {expected!r} here; '
                'the shapes of the weights are the same and their meaning is not'
            )


def _differences(theirs: Any, ours: Any, where: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield the places where two configs give weights a different meaning."""
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        if where.endswith('.data_preprocessor'):  # it applies to the inputs of every model
            for name in ('mean', 'std', 'bgr_to_rgb', 'rgb_to_bgr'):
                pair = _plain(theirs.get(name)), _plain(ours.get(name))
                if pair[0] != pair[1]:
                    yield f'{where}.{name}', pair
        found, expected = _semantics(theirs), _semantics(ours)
        if found is not None or expected is not None:
            if theirs.get('type') != ours.get('type'):
                yield f'{where}.type', (theirs.get('type'), ours.get('type'))
                return
            found, expected = found or {}, expected or {}
            for name in (each for each in expected if each in found):
                pair = _plain(found[name]), _plain(expected[name])
                if pair[0] != pair[1]:
                    yield f'{where}.{name}', pair
        for key in ours:
            if key in theirs:
                yield from _differences(theirs[key], ours[key], f'{where}.{key}')
    elif isinstance(theirs, (list, tuple)) and isinstance(ours, (list, tuple)):
        for i, (their, our) in enumerate(zip(theirs, ours)):
            yield from _differences(their, our, f'{where}.{i}')


def _semantics(node: Mapping) -> dict | None:
    """Return what the class of a config node declares about its weights, or None."""
    kind: Any = node.get('type')
    if isinstance(kind, str):
        try:
            kind = MODELS.get(kind)
        except Exception:  # the scope's package may not be installed
            return None
    names = getattr(kind, 'semantic_arguments', ())
    if not names and not hasattr(kind, 'weight_semantics'):
        return None
    arguments = {
        name: parameter.default
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.default is not parameter.empty
    }
    arguments.update(node)
    meaning = {name: arguments.get(name) for name in names}
    if hasattr(kind, 'weight_semantics'):
        meaning.update(kind.weight_semantics(arguments))
    return meaning


def _plain(value: Any) -> Any:
    """Convert lists to tuples at every depth, because config texts do not distinguish them."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return tuple(_plain(each) for each in value)
    return value


# ------------------------------------------------------------------------------------- MMEngine


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
