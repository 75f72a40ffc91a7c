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
        """Add the gradients of :meth:`meta_gradients` to those of the network.

        Args:
            model: See :meth:`meta_gradients`.
            similarities: See :meth:`meta_gradients`.
            batch: See :meth:`meta_gradients`.
            meta_batch: See :meth:`meta_gradients`.
            lr: See :meth:`meta_gradients`.

        Returns:
            The loss of ``meta_batch`` after the step, detached.
        """
        judged, gradients = self.meta_gradients(model, similarities, batch, meta_batch, lr)
        for parameter, gradient in zip(self.weighting.parameters(), gradients, strict=True):
            before = 0 if parameter.grad is None else parameter.grad
            parameter.grad = before + gradient
        return judged

    def meta_gradients(
        self,
        model: nn.Module,
        similarities: Callable[..., Tensor | tuple] | None,
        batch: tuple,
        meta_batch: tuple,
        lr: float,
        processes: int = 1,
        average: Callable[[list[Tensor]], list[Tensor]] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Compute the effect of the network's weights on the loss one step later.

        The model takes a virtual step of gradient descent on the weighted loss of ``batch``. The
        weights minimise the hard-negative loss of ``meta_batch`` after this step.

        Args:
            model: The model. Its parameters are not changed.
            similarities: Computes S (B, B), or the arguments of :func:`both_directions`, from the
                output of the model. None if the model returns them.
            batch: Positional arguments of the model for the virtual step.
            meta_batch: Positional arguments of the model for the evaluation of the step.
            lr: Step size.
            processes: Number of processes that hold parts of the batches.
            average: Averages the gradients of the virtual step over processes. It must pass
                gradients.

        Returns:
            The loss of ``meta_batch`` after the step, detached, and the gradients of the parameters
            of ``weighting``.
        """
        own = {id(parameter) for parameter in self.parameters()}  # the model may contain this loss
        parameters: dict[str, Tensor] = {
            k: p for k, p in model.named_parameters() if p.requires_grad and id(p) not in own
        }

        def directions(parameters: dict[str, Tensor], arguments: tuple) -> tuple[Anchors, Anchors]:
            output = functional_call(model, parameters, arguments)
            output = similarities(output) if similarities else output
            return both_directions(*(output if isinstance(output, tuple) else (output,)))

        with torch.backends.cudnn.flags(enabled=False):  # cuDNN's GRU has no double backward
            anchors = directions(parameters, batch)
            weighted = [self.weights(a) * hard_negative(a, self.margin) for a in anchors]
            gradients = torch.autograd.grad(
                self.joint_factor(anchors[0].negatives, processes) * self.reduce(weighted),
                list(parameters.values()),
                create_graph=True,
                materialize_grads=True,
            )
            gradients = tuple(average(list(gradients))) if average else gradients
            ahead = {k: p - lr * g for (k, p), g in zip(parameters.items(), gradients, strict=True)}
            anchors = directions(ahead, meta_batch)
            judged = self.joint_factor(anchors[0].negatives, processes) * self.reduce(
                [hard_negative(a, self.margin) for a in anchors]
            )
            found = torch.autograd.grad(judged, list(self.weighting.parameters()))
        return judged.detach(), found
