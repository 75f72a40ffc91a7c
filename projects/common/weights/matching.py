"""Compare weights with a module by names and shapes.

A module's classes declare which mismatches are not an error with these attributes, dicts from a
regular expression, which is matched against names relative to the module, to the reason in words:

- ``optional_in_pretrained``: what weights for an ``init_cfg`` of type 'Pretrained' may lack;
- ``optional_in_fine_tuning``: what weights for ``load_from`` in training may lack or may have with
  other shapes, such as a head for a new task.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

__all__ = ['Match', 'match_weights', 'weights_in']

#: State dict entries that a model can do without: counters, and vocabularies, which a config may
#: also name.
_NOT_WEIGHTS = ('num_batches_tracked', '_extra_state', 'embeddings.position_ids')


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
