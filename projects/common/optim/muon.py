"""Muon for the weights of hidden layers, and AdamW for all other parameters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from torch import Tensor, nn

from ..build import unwrapped
from ..errors import InputError

# Odd polynomials a x + b x^3 + c x^5. Each is the one with the smallest largest distance from 1 on
# the interval onto which those before it map [0.01, 1] (Amsel et al., 2025: Polar Express). Three
# iterations of them do what five of one polynomial (Jordan et al., 2024) do. The arguments are
# divided by 1.01, so that values beyond the interval after rounding to bfloat16 do not grow.
_POLYNOMIALS = (
    (8.0133, -22.9257, 16.5995),
    (3.6006, -2.6418, 0.5105),
    (2.6350, -1.9190, 0.4306),
)


@cache
def _working_dtype(device_type: str) -> torch.dtype:
    """Return bfloat16 if the hardware supports it, which is precise enough, else float32."""
    if device_type == 'cpu' and not torch.cpu.get_capabilities().get('avx512_bf16', False):
        return torch.float32
    return torch.bfloat16


def orthogonalize(matrices: Tensor) -> Tensor:
    """Approximate U V^T for each matrix U S V^T by Newton-Schulz iterations.

    Args:
        matrices: Matrices (N, rows, columns).

    Returns:
        A tensor of the same shape and dtype. Its singular values are between 0.7 and 1.3, where
        those of the matrix are at least 0.01 of its Frobenius norm.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = (x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)).to(_working_dtype(x.device.type))
    for a, b, c in _POLYNOMIALS:
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)


@OPTIMIZERS.register_module()
class MuonAdamW(torch.optim.AdamW):
    """Implement AdamW, with Muon updates for groups with ``muon=True``.

    Muon (Jordan et al., 2024) orthogonalizes the update of a hidden layer's weight. Models that
    start from random weights need about half as many samples. The updates have the size of AdamW's
    (Liu et al., 2025: scaled by 0.2 times the root of the longer side), so a single learning rate
    and schedule serve both.

    :class:`torch.optim.Muon` implements the same rule for single matrices. This class also handles
    convolutions, as (out, in x kernel) matrices, and packed projections, with each part by itself,
    and it processes matrices of the same shape together.

    Args:
        params: Parameters or parameter groups. A group with ``muon=True`` holds parameters with at
            least two dimensions; its ``parts`` is the number of equal matrices packed along the
            first dimension, such as query, key and value. :class:`MuonAdamWConstructor` builds the
            groups from a model.
        momentum: Momentum of Muon.
        kwargs: Arguments of AdamW.

    Raises:
        ValueError: A parameter of a Muon group is not a matrix, or cannot be split into ``parts``.
    """

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, momentum: float = 0.95, **kwargs: Any
    ) -> None:
        super().__init__(params, lr=lr, **kwargs)
        # Fused AdamW would skip a step with an overflow by itself, but Muon's part would not. This
        # lets a gradient scaler unscale the gradients and skip the whole step.
        self._step_supports_amp_scaling = False
        for group in self.param_groups:
            group.setdefault('muon', False)
            if not group['muon']:
                continue
            group.setdefault('parts', 1)
            group.setdefault('momentum', momentum)
            for parameter in group['params']:
                if parameter.ndim < 2 or parameter.shape[0] % group['parts']:
                    raise InputError(
                        f'a parameter of shape {tuple(parameter.shape)} is not '
                        f'{group["parts"]} matrices, as Muon needs'
                    )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters and return the loss of the closure, evaluated beforehand."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = self.param_groups
        self._step_muon([group for group in groups if group['muon']])
        self.param_groups = [group for group in groups if not group['muon']]
        try:
            super().step()
        finally:
            self.param_groups = groups
        return loss

    def _step_muon(self, groups: list[dict]) -> None:
        by_shape = defaultdict(list)
        for group in groups:
            parameters = [p for p in group['params'] if p.grad is not None]
            if not parameters:
                continue
            for parameter in parameters:
                state = self.state[parameter]
                if not state:
                    state['step'] = torch.zeros(())  # required when AdamW loads a state dict
                    state['momentum_buffer'] = torch.zeros_like(parameter)
                state['step'] += 1
            grads = [p.grad for p in parameters]
            buffers = [self.state[p]['momentum_buffer'] for p in parameters]
            torch._foreach_lerp_(buffers, grads, 1 - group['momentum'])
            updates = torch._foreach_lerp(grads, buffers, group['momentum'])  # Nesterov momentum
            torch._foreach_mul_(parameters, 1 - group['lr'] * group['weight_decay'])
            for parameter, update in zip(parameters, updates, strict=True):
                for target, matrix in zip(
                    parameter.flatten(1).chunk(group['parts']),
                    update.flatten(1).chunk(group['parts']),
                    strict=True,
                ):
                    by_shape[matrix.shape, group['lr']].append((target, matrix))
        for (shape, lr), pairs in by_shape.items():
            targets = [target for target, _ in pairs]
            directions = orthogonalize(torch.stack([matrix for _, matrix in pairs]))
            torch._foreach_add_(
                targets, list(directions.unbind()), alpha=-0.2 * max(shape) ** 0.5 * lr
            )


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MuonAdamWConstructor:
    """Split a model's parameters into groups for :class:`MuonAdamW`.

    Muon updates the weights of linear layers, convolutions and packed attention projections
    (``qkv`` and ``in_proj_weight``). AdamW updates embeddings, norms, biases, the first convolution
    and layers with fewer than 8 inputs or outputs.

    Args:
        optim_wrapper_cfg: Config of the wrapper with an ``optimizer`` of type ``MuonAdamW``.
        paramwise_cfg: Not supported, because there is only one learning rate.

    Raises:
        ValueError: ``paramwise_cfg`` is set.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        if paramwise_cfg:
            raise InputError(
                f'optim_wrapper.paramwise_cfg: found {paramwise_cfg}; '
                'MuonAdamW has one learning rate for all parameters'
            )
        self.optim_wrapper_cfg = dict(optim_wrapper_cfg)

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the wrapper with the model's parameters in its groups."""
        model = unwrapped(model)
        parts = hidden_weights(model)
        trained = [p for p in model.parameters() if p.requires_grad]
        groups = [
            dict(params=[p for p in trained if parts.get(p) == count], muon=True, parts=count)
            for count in sorted(set(parts.values()))
        ]
        groups.append(dict(params=[p for p in trained if p not in parts], muon=False))
        cfg = dict(self.optim_wrapper_cfg)
        cfg.setdefault('type', 'OptimWrapper')
        cfg['optimizer'] = OPTIMIZERS.build(dict(cfg['optimizer'], params=groups))
        return OPTIM_WRAPPERS.build(cfg)


def hidden_weights(model: nn.Module) -> dict[Tensor, int]:
    """Return the weights that Muon updates, with the number of matrices packed in each."""
    parts: dict[Tensor, int] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            parts[module.weight] = 3 if name.split('.')[-1] == 'qkv' else 1
        elif isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and module.in_channels > 3:
            parts[module.weight] = 1
        elif isinstance(module, nn.MultiheadAttention):
            if module.in_proj_weight is not None:
                parts[module.in_proj_weight] = 3
            else:
                for weight in (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight):
                    parts[weight] = 1
    return {p: count for p, count in parts.items() if min(p.flatten(1).shape) >= 8}
