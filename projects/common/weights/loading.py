"""Weights into models: what does not fit is one line of error, what is missing by design is said.

MMEngine loads what matches and writes the rest to its log. Here a checkpoint has to fit, but for
what the model declares by attributes of its modules:

- ``optional_in_pretrained``: what weights for an ``init_cfg`` of type 'Pretrained' may lack;
- ``optional_in_fine_tuning``: what weights for ``load_from`` in training may lack or have
  otherwise, such as a head for a new task.

Both are dicts, regular expression to the reason in words; an expression is matched against names
relative to the module. Weights of the same shapes and another meaning, such as those of an
attention with another number of heads, are told apart by the config that MMEngine leaves in a
checkpoint. Classes declare it by

- ``semantic_arguments``: names of arguments of a class that have to be equal;
- ``weight_semantics(arguments)``: a class method that returns, by name, what the weights mean under
  the arguments of the constructor; what two configs both name has to be equal.
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

#: Entries of a state dict without which a model works: counters, and vocabularies, which a config
#: may name as well.
_NOT_WEIGHTS = ('num_batches_tracked', '_extra_state', 'embeddings.position_ids')


# ------------------------------------------------------------------------------------ matching


@dataclass
class Match:
    """How weights and a module fit.

    Attributes:
        expected: Number of the module's tensors.
        matched: Names that both have with one shape.
        missing: The module's names that the weights lack.
        unexpected: The weights' names that the module lacks.
        misshapen: Names with two shapes, each with (found, expected).
        excused: Names of the three kinds above that the module declares, by the reason it gives.
    """

    expected: int
    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshapen: dict[str, tuple[tuple, tuple]] = field(default_factory=dict)
    excused: dict[str, list[str]] = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        """Whether all that does not match is excused."""
        return self.first_problem is None

    @property
    def first_problem(self) -> str | None:
        """The first name that does not match and is not excused, with what is wrong."""
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
    """Return the tensors of what a checkpoint file holds, by name.

    They are in its entry ``state_dict`` or ``model``, or are the file; a prefix ``module.``, which
    data parallelism leaves, is taken off.

    Args:
        content: What the file was read into.
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
    """Compare weights with a module by names and shapes; nothing is loaded.

    Args:
        module: The module.
        weights: Tensors by name.
        purpose: 'pretrained' or 'fine-tuning' excuses what the module declares as optional then;
            None excuses nothing.
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
    if purpose == 'pretrained':  # a classifier's head behind a backbone
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
    """What the parts of a module declare as optional."""
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
    """Tell every open :func:`recorded_loading` of weights that were loaded by other means."""
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
    """Load a checkpoint's weights into a module that they have to fit.

    The log tells in one line how many were loaded and what is missing by design.

    Args:
        module: The module.
        content: What the file was read into.
        source: What messages call it.
        purpose: See :func:`match_weights`.
        allow_partial: Load what fits and list the rest, where at least one tensor fits.
        prefix: Beginning of the names, in the file, of the module's weights; all others are left
            aside.

    Raises:
        ValueError: The weights do not fit: how many of the module's tensors match, the first that
            does not, and the converter that makes the file fit, where one is known.
    """
    weights = weights_in(content)
    if prefix is not None:
        prefix = prefix.rstrip('.') + '.'
        weights = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    match = match_weights(module, weights, purpose)
    usable = {key: value for key, value in weights.items() if key not in match.misshapen}
    loaded = type(module).load_state_dict(module, usable, strict=False)
    if not match.fits:  # a module may have renamed what older versions of it have saved
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
    """The line about a file that does not fit."""
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
    """Refuse a checkpoint whose weights mean something else under the config that is used.

    Nothing is compared where the checkpoint carries no config, as converted ones do not.

    Args:
        content: What the file was read into.
        model: Config of the model that the weights are for.
        scope: The ``default_scope`` to look names up in.
        source: What messages call the file.

    Raises:
        ValueError: A value differs that the shapes of the weights do not show.
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
    """Places where two configs give weights another meaning."""
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        if where.endswith('.data_preprocessor'):  # every model's inputs
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
    """What the class of a config node says of its weights; None where it says nothing."""
    kind: Any = node.get('type')
    if isinstance(kind, str):
        try:
            kind = MODELS.get(kind)
        except Exception:  # a scope whose package is not installed
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
    """Lists as tuples at every depth: texts of configs do not keep them apart."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return tuple(_plain(each) for each in value)
    return value


# ------------------------------------------------------------------------------------- MMEngine


class CheckLoadingHook(Hook):
    """Makes MMEngine's runner refuse checkpoints that do not fit.

    Testing and resuming excuse nothing; training from ``load_from`` excuses what the model
    declares for fine-tuning. The checkpoint then fits to the last name, so MMEngine's own loading
    has nothing to complain about.

    Args:
        allow_partial: For ``load_from`` in training, see :func:`load_weights`.
    """

    priority = 'HIGHEST'  # EMAHook loads from the same checkpoint

    def __init__(self, allow_partial: bool = False) -> None:
        self.allow_partial = allow_partial

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Loads the weights, or raises :class:`ValueError` for ones that do not fit."""
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
    """MMEngine's initializer from a checkpoint, for checkpoints that have to fit.

    What the module declares as ``optional_in_pretrained`` may be missing, and a file may have parts
    that the module has no place for, such as the classifier behind a backbone.
    """

    def __call__(self, module: nn.Module) -> None:
        """Loads the weights, or raises :class:`ValueError` for ones that do not fit."""
        content = CheckpointLoader.load_checkpoint(
            self.checkpoint, self.map_location, logger='silent'
        )
        load_weights(module, content, self.checkpoint, 'pretrained', prefix=self.prefix)
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=self._get_init_info())


def use_checked_pretraining() -> None:
    """Make `init_cfg=dict(type='Pretrained')` refuse weights that do not fit, in this process."""
    WEIGHT_INITIALIZERS.register_module(name='Pretrained', module=CheckedPretrainedInit, force=True)


@contextlib.contextmanager
def check_torch_loading(module: nn.Module, source: str | os.PathLike) -> Iterator[None]:
    """Make `module.load_state_dict` refuse weights that do not fit.

    For modules that read a checkpoint themselves and rename what is in it, as mmdet's Swin does.

    Args:
        module: The module; only this object changes, and only within the context.
        source: What messages call the weights.
    """

    def load_state_dict(state_dict: Mapping[str, Tensor], *args: Any, **kwargs: Any) -> None:
        load_weights(module, state_dict, source, 'pretrained')

    module.load_state_dict = load_state_dict  # type: ignore[method-assign]
    try:
        yield
    finally:
        module.__dict__.pop('load_state_dict', None)
