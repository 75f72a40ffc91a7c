"""Meta-SPN's training step: the weighting network is trained along with the matcher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.logging import MessageHub
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from projects.common.errors import InputError

from .joint_batch import JointScores, differentiable_mean, mean_over_processes, num_processes
from .matcher import ImageTextMatcher


class _Scores(nn.Module):
    """Compute the scores of a batch as the output of a module, for functional calls."""

    def __init__(self, matcher: ImageTextMatcher) -> None:
        super().__init__()
        self.matcher = matcher

    def forward(
        self, inputs: Tensor | Sequence[Tensor], data_samples: Sequence[DataSample]
    ) -> JointScores:
        return self.matcher.joint_scores(inputs, data_samples)


@MODELS.register_module()
class MetaWeightedMatcher(ImageTextMatcher):
    """Train a matcher with :class:`MetaSPNLoss` and teach its network in every step.

    The first half of the batch is used for the virtual step, and the second half evaluates it. The
    paper does not specify the evaluation batch, and a separate one would need a second loader.
    The parameters of the network are part of the model, so the same optimizer updates both. Their
    gradient reaches it through the loss, so that gradient scaling, accumulation and averaging over
    processes apply to it as to all others.

    Args:
        virtual_lr: Learning rate of the virtual step. None uses the current one of the training,
            which MMEngine's ``RuntimeInfoHook`` (a default hook) publishes.
        **kwargs: See :class:`ImageTextMatcher`.
    """

    def __init__(self, *args: Any, virtual_lr: float | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.virtual_lr = virtual_lr

    def loss(
        self, inputs: Tensor | Sequence[Tensor], data_samples: Sequence[DataSample]
    ) -> dict[str, Tensor]:
        """Compute ``loss``, its statistics and, in training, ``meta_hinge``.

        In training the gradient of ``loss`` includes that of the weighting network.

        Raises:
            ValueError: The batch has fewer than four pairs.
        """
        losses = super().loss(inputs, data_samples)
        if not (self.training and torch.is_grad_enabled()):
            return losses
        half = len(data_samples) // 2
        if half < 2:
            raise InputError(
                f'MetaWeightedMatcher: a batch of {len(data_samples)} pairs, expected 4 or more'
            )
        # The samplers deal out samples in turn, so that the first halves of the processes' batches
        # are the first half of the joint batch.
        halves = [
            (inputs[start : start + half], data_samples[start : start + half])
            for start in (0, half)
        ]
        # Both gradients are computed here, and autocast would also cast the products of their
        # backward passes: in float16 those of cross attention overflow, small ones become zero.
        with torch.autocast(losses['loss'].device.type, enabled=False):
            judged, gradients = self._meta_gradients(halves)
        taught = sum(
            (parameter * gradient).sum()
            for parameter, gradient in zip(
                self.criterion.weighting.parameters(), gradients, strict=True
            )
        )
        losses['loss'] = losses['loss'] + (taught - taught.detach())
        losses['meta_hinge'] = judged
        return losses

    def _meta_gradients(self, halves: list[tuple]) -> tuple[Tensor, tuple[Tensor, ...]]:
        processes = num_processes() if self.gather_negatives else 1
        judged, gradients = self.criterion.meta_gradients(
            _Scores(self),
            None,
            *halves,
            lr=self._step_size(),
            processes=processes,
            average=differentiable_mean if processes > 1 else None,
        )
        if processes > 1:
            judged = mean_over_processes({'judged': judged})['judged']
        return judged, gradients

    def _step_size(self) -> float:
        if self.virtual_lr is not None:
            return self.virtual_lr
        try:
            return float(MessageHub.get_current_instance().get_scalar('train/lr').current())
        except KeyError:
            raise InputError(
                'MetaWeightedMatcher: virtual_lr=None, and there is no learning rate of a running '
                'training; set virtual_lr'
            ) from None
