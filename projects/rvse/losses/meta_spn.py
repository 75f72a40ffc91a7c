"""Meta-SPN: a small network that weights pairs and learns from a step of look-ahead.

No code was published. This implementation follows the paper (sections 2.2 and 4.3): an additional
network is trained to assign the weights.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from projects.common.registry import MODELS

from .anchors import Anchors, both_directions
from .base import MatchingLoss
from .triplet import hard_negative


@MODELS.register_module()
class MetaSPNLoss(MatchingLoss):
    """Weight the hard-negative loss of each anchor in (0, 1) by a network of its two scores.

    A regular call produces no gradient for the network, which would drive all weights to 0. Its
    gradient comes from :meth:`meta_backward`.

    Args:
        margin: lambda.
        hidden: Channels of the hidden layer of the network.
        reduction: See :class:`MatchingLoss`.
        loss_weight: Factor applied to the result.
        patience: See :class:`MatchingLoss`.
    """

    def __init__(
        self,
        margin: float = 0.2,
        hidden: int = 100,
        reduction: str = 'sum',
        loss_weight: float = 1.0,
        patience: int = 500,
    ) -> None:
        super().__init__(margin, reduction, loss_weight, patience)
        self.weighting = nn.Sequential(
            nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, 1), nn.Sigmoid()
        )

    def weights(self, anchors: Anchors) -> Tensor:
        """Compute weights (B,) from s_p and the hardest s_n; only the network has a gradient."""
        hardest = anchors.hardest.nan_to_num(neginf=0.0)
        scores = torch.stack([anchors.positive, hardest], dim=1).detach()
        dtype = next(self.weighting.parameters()).dtype
        return self.weighting(scores.to(dtype)).squeeze(1).to(scores.dtype)

    def anchor_loss(self, anchors: Anchors) -> Tensor:
        """Compute the hinge (B,) of the hardest negative times the detached weight."""
        return self.weights(anchors).detach() * hard_negative(anchors, self.margin)

    def meta_backward(
        self,
        model: nn.Module,
        similarities: Callable[..., Tensor] | None,
        batch: tuple,
        meta_batch: tuple,
        lr: float,
    ) -> Tensor:
        """Add to the network's gradient the effect of its weights on the loss one step later.

        The model takes a virtual step of gradient descent on the weighted loss of ``batch``. The
        weights minimise the hard-negative loss of ``meta_batch`` after this step.

        Args:
            model: The model. Its parameters are not changed.
            similarities: Computes S (B, B) from the output of the model. None if the model returns
                S.
            batch: Positional arguments of the model for the virtual step.
            meta_batch: Positional arguments of the model for the evaluation of the step.
            lr: Step size.

        Returns:
            The loss of ``meta_batch`` after the step, detached.
        """
        make = similarities or (lambda output: output)
        own = {id(parameter) for parameter in self.parameters()}  # the model may contain this loss
        parameters: dict[str, Tensor] = {
            k: p for k, p in model.named_parameters() if p.requires_grad and id(p) not in own
        }
        with torch.backends.cudnn.flags(enabled=False):  # cuDNN's GRU has no double backward
            directions = both_directions(make(functional_call(model, parameters, batch)))
            weighted = [self.weights(a) * hard_negative(a, self.margin) for a in directions]
            gradients = torch.autograd.grad(
                self.reduce(weighted),
                list(parameters.values()),
                create_graph=True,
                allow_unused=True,
            )
            ahead = {
                k: p if g is None else p - lr * g
                for (k, p), g in zip(parameters.items(), gradients)
            }
            directions = both_directions(make(functional_call(model, ahead, meta_batch)))
            judged = self.reduce([hard_negative(a, self.margin) for a in directions])
            mine = list(self.weighting.parameters())
            for parameter, gradient in zip(mine, torch.autograd.grad(judged, mine)):
                before = 0 if parameter.grad is None else parameter.grad
                parameter.grad = before + gradient
        return judged.detach()
