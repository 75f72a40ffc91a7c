"""Measure the terms of a loss on one batch and compare them with chance."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    'Term',
    'declared_losses',
    'loss_terms',
    'measure_terms',
    'prediction_layers',
    'undisturbed',
]

# Names of the last layers in mmdet, mmpretrain, timm and transformers.
_LOGITS = re.compile(r'(^|[._])(cls|logits|classifier|score|fc_cls|conv_seg)(\d*|_logits)$|_cls$')


@dataclass
class Term:
    """Represent one entry of a model's loss dict on the first batch.

    Attributes:
        name: Its key.
        value: Its weighted value.
        chance: The value for uninformed predictions, or None if it is not known.
        share: Its share of the sum of the absolute values of all terms.
        gradient: Norm of its gradient with respect to all parameters.
        gradient_share: Its share of the sum of these norms over all terms.
        later_share: Its gradient share after the last step, if it was measured again.
        later_value: Its value after the last step.
        mined: Why the model creates the term's labels or weights itself, or None if they come from
            the data.
        late: Why the term starts with almost no gradient, or None if it should not.
    """

    name: str
    value: float
    chance: float | None = None
    share: float = 0.0
    gradient: float = 0.0
    gradient_share: float = 0.0
    later_share: float | None = None
    later_value: float | None = None
    mined: str | None = None
    late: str | None = None


def loss_terms(losses: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the scalars that MMEngine sums up, by their names in a loss dict.

    As in ``BaseModel.parse_losses``, only keys that contain 'loss' count. A tensor is reduced to
    its mean, and a list to the sum of its tensors' means.
    """
    terms = {}
    for name, value in losses.items():
        if 'loss' not in name:
            continue
        values = [value] if isinstance(value, Tensor) else list(value)
        terms[name] = torch.stack([each.mean() for each in values]).sum()
    return terms


def prediction_layers(model: nn.Module) -> list[nn.Module]:
    """Return the modules whose outputs are a model's logits or similarities.

    A module may list them itself in a method ``prediction_layers``. If no module of the model has
    this method, they are the linear layers and convolutions with one of the usual names
    (``fc_cls``, ``conv_logits``, ``classifier``, ...).
    """
    named = [
        layer
        for module in model.modules()
        if callable(method := getattr(module, 'prediction_layers', None))
        for layer in method()
    ]
    if named:
        return named
    return [
        module
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)) and _LOGITS.search(name)
    ]


def declared_losses(model: nn.Module, attribute: str) -> dict[str, str]:
    """Return what the modules of a model declare about their loss terms.

    Args:
        model: The model.
        attribute: ``mined_losses`` for terms whose labels or weights the model creates itself as it
            learns, and which may rise because more labels are found; or ``late_losses`` for terms
            that start with almost no gradient. Both are dicts from a regular expression for term
            names to the reason in words.
    """
    return {
        pattern: reason
        for module in model.modules()
        for pattern, reason in (getattr(module, attribute, None) or {}).items()
    }


@contextmanager
def undisturbed(model: nn.Module, but: nn.Module | None = None) -> Iterator[None]:
    """Run a block, then restore random states, buffers and the model's mode.

    Args:
        model: The model.
        but: A part of the model whose buffers are not restored.
    """
    import random

    import numpy as np

    kept = {id(buffer) for buffer in (but.buffers() if but is not None else ())}
    buffers = {name: b.clone() for name, b in model.named_buffers() if id(b) not in kept}
    python, numpy, training = random.getstate(), np.random.get_state(), model.training
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        model.train(training)
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                if name in buffers and buffers[name].shape == buffer.shape:
                    buffer.copy_(buffers[name])


def measure_terms(
    model: nn.Module, forward: Callable[[], Mapping[str, Any]], with_chance: bool = True
) -> tuple[list[Term], dict[str, Tensor]]:
    """Measure every term of a loss, its gradient, and its value for uninformed predictions.

    Args:
        model: The model.
        forward: Computes the model's loss dict on one batch. It is called twice with the same
            random state.
        with_chance: Whether to compute the chance values of the terms.

    Returns:
        The terms, and the gradient of their sum by parameter name.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    parameters = [p for _, p in named]
    gradients: dict[str, Tensor] = {}
    terms = []
    with undisturbed(model):
        for name, value in loss_terms(forward()).items():
            term = Term(name, float(value.detach()))
            terms.append(term)
            if not value.requires_grad:
                continue
            found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
            squares = 0.0
            for (key, _), gradient in zip(named, found):
                if gradient is not None:
                    gradient = gradient.float()
                    squares += float(gradient.square().sum())
                    gradients[key] = gradients[key] + gradient if key in gradients else gradient
            term.gradient = squares**0.5
    chances = _chances(model, forward) if with_chance else {}
    mined, late = (declared_losses(model, name) for name in ('mined_losses', 'late_losses'))
    total = sum(abs(term.value) for term in terms) or 1.0
    slope = sum(term.gradient for term in terms) or 1.0
    for term in terms:
        term.share = abs(term.value) / total
        term.gradient_share = term.gradient / slope
        term.chance = chances.get(term.name)
        term.mined = _reason(mined, term.name)
        term.late = _reason(late, term.name)
    return terms, gradients


def _reason(declared: Mapping[str, str], name: str) -> str | None:
    return next((why for pattern, why in declared.items() if re.search(pattern, name)), None)


def _chances(model: nn.Module, forward: Callable[[], Mapping[str, Any]]) -> dict[str, float]:
    """Compute the terms for logits and similarities of 0.

    A module with a ``chance_value`` declares its own value instead.
    """
    chances: dict[str, float] = {}
    layers = prediction_layers(model)
    if layers:
        with ExitStack() as stack, torch.no_grad(), undisturbed(model):
            for layer in layers:
                stack.callback(layer.register_forward_hook(_nothing).remove)
            chances = {name: float(value) for name, value in loss_terms(forward()).items()}
    for place, module in model.named_modules():
        if hasattr(module, 'chance_value'):
            value = module.chance_value
            chances[place.rpartition('.')[2]] = float(value() if callable(value) else value)
    return chances


def _nothing(module: nn.Module, inputs: Any, output: Any) -> Any:
    if isinstance(output, Tensor):
        # Zeros that still depend on the input, because a model may ask for their gradient.
        return output.masked_fill(torch.ones_like(output, dtype=torch.bool), 0)
    if isinstance(output, dict):
        return type(output)({key: _nothing(module, inputs, each) for key, each in output.items()})
    if isinstance(output, (list, tuple)):
        return type(output)([_nothing(module, inputs, each) for each in output])
    return output
