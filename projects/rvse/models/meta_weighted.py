"""Meta-SPN's training step: the weighting network learns beside the matcher."""

from __future__ import annotations

from mmengine import dist
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from projects.common.errors import InputError

from .matcher import ImageTextMatcher


class _Scores(nn.Module):
    """S (B, B) of a batch as a module's output, for functional calls."""

    def __init__(self, matcher: ImageTextMatcher) -> None:
        super().__init__()
        self.matcher = matcher

    def forward(self, inputs: Tensor | list[Tensor], data_samples: list[DataSample]) -> Tensor:
        return self.matcher.pair_scores(inputs, data_samples)[0]


@MODELS.register_module()
class MetaWeightedMatcher(ImageTextMatcher):
    """A matcher with :class:`MetaSPNLoss`, whose network every step teaches.

    The first half of the batch is the step that is tried on paper, with the learning rate of the
    moment, and the second half judges it. The paper does not say what judges; a batch of its own
    would cost a second loader. The network's parameters are among the model's, so the same
    optimizer updates both.

    Args:
        **kwargs: See :class:`ImageTextMatcher`.
    """

    def train_step(
        self, data: dict | tuple | list, optim_wrapper: OptimWrapper
    ) -> dict[str, Tensor]:
        """As mmengine's, with the weighting network's gradient added.

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
