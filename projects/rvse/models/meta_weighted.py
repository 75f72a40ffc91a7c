"""Meta-SPN's training step: the weighting network is trained along with the matcher."""

from __future__ import annotations

from mmengine import dist
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from projects.common.errors import InputError

from .matcher import ImageTextMatcher


class _Scores(nn.Module):
    """Compute S (B, B) of a batch as the output of a module, for functional calls."""

    def __init__(self, matcher: ImageTextMatcher) -> None:
        super().__init__()
        self.matcher = matcher

    def forward(self, inputs: Tensor | list[Tensor], data_samples: list[DataSample]) -> Tensor:
        return self.matcher.pair_scores(inputs, data_samples)[0]


@MODELS.register_module()
class MetaWeightedMatcher(ImageTextMatcher):
    """Train a matcher with :class:`MetaSPNLoss` and teach its network in every step.

    The first half of the batch is used for the virtual step, with the current learning rate, and
    the second half evaluates it. The paper does not specify the evaluation batch, and a separate
    one would need a second loader. The parameters of the network are part of the model, so the same
    optimizer updates both.

    Args:
        **kwargs: See :class:`ImageTextMatcher`.
    """

    def train_step(
        self, data: dict | tuple | list, optim_wrapper: OptimWrapper
    ) -> dict[str, Tensor]:
        """Take MMEngine's training step, adding the gradient of the weighting network.

        Raises:
            ValueError: The batch has fewer than four pairs.
        """
        with optim_wrapper.optim_context(self):
            batch = self.data_preprocessor(data, True)
            losses = self._run_forward(batch, mode='loss')
        inputs, samples = batch['inputs'], batch['data_samples']
        half = len(samples) // 2
        if half < 2:
            raise InputError(
                f'MetaWeightedMatcher: a batch of {len(samples)} pairs, expected 4 or more'
            )
        with optim_wrapper.optim_context(self):
            judged = self.criterion.meta_backward(
                _Scores(self),
                None,
                (inputs[:half], samples[:half]),
                (inputs[half : 2 * half], samples[half : 2 * half]),
                lr=optim_wrapper.get_lr()['lr'][0],
            )
        if dist.get_world_size() > 1:
            for parameter in self.criterion.parameters():
                dist.all_reduce(parameter.grad, 'mean')
        parsed, log = self.parse_losses(losses)
        optim_wrapper.update_params(parsed)
        return {**log, 'meta_hinge': judged}
