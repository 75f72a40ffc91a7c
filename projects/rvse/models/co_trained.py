"""NCR: two networks of one kind, each of which trains on what the other takes for matching."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from .matcher import Features


class MeanSimilarity(nn.Module):
    """The mean of similarities, each of its part of the embeddings' channels."""

    def __init__(self, similarities: Sequence[nn.Module]) -> None:
        super().__init__()
        self.similarities = nn.ModuleList(similarities)

    def forward(
        self, images: Tensor, image_lengths: Tensor, captions: Tensor, caption_lengths: Tensor
    ) -> Tensor:
        """Scores (I, T); arguments as of any similarity."""
        parts = len(self.similarities)
        scores = [
            similarity(image, image_lengths, caption, caption_lengths)
            for similarity, image, caption in zip(
                self.similarities, images.chunk(parts, dim=-1), captions.chunk(parts, dim=-1)
            )
        ]
        return torch.stack(scores).mean(dim=0)


@MODELS.register_module()
class CoTrainedMatcher(BaseModel):
    """Two matchers that start from different random weights; tests take the mean of their scores.

    While training, each pair's margin follows a label that :class:`CleanSplitHook` sets from the
    other network's losses; without labels all pairs match. What NCR does beyond that, the
    prediction of labels for pairs that do not match, the reference at hand does not describe:
    such a pair's label is the probability that it matches.

    Args:
        matcher: Config of an :class:`ImageTextMatcher` whose loss is :class:`NCRLoss`.
    """

    matchers: Any  # an nn.ModuleList of two ImageTextMatcher

    def __init__(
        self, matcher: dict, data_preprocessor: dict | None = None, init_cfg: dict | None = None
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.matchers = nn.ModuleList(MODELS.build(matcher) for _ in range(2))
        self.similarity = MeanSimilarity([m.similarity for m in self.matchers])
        self.labels: Tensor | None = None  # (2, N), by network and text_id
        self.warm_up_loss: Any = None  # in place of the networks' own

    @property
    def text_encoder(self) -> Any:
        """The first network's, whose vocabulary a hook makes."""
        return self.matchers[0].text_encoder

    def share_vocabulary(self) -> None:
        """Gives the second network the first one's vocabulary."""
        self.matchers[1].text_encoder.set_vocabulary(self.text_encoder.vocabulary)

    def forward(
        self,
        inputs: Tensor | Sequence[Tensor],
        data_samples: Sequence[DataSample] | None = None,
        mode: str = 'tensor',
    ) -> Features | dict[str, Tensor]:
        """``loss`` or ``tensor``, as :class:`ImageTextMatcher`.

        Raises:
            ValueError: ``mode`` is another one, or a loss is asked for without data samples.
        """
        if mode == 'tensor':
            return self.extract_feat(inputs, data_samples)
        if mode != 'loss':
            raise ValueError(f"mode={mode!r}, expected 'loss' or 'tensor'")
        if data_samples is None:
            raise ValueError("mode='loss' needs data_samples")
        return self.loss(inputs, data_samples)

    def extract_feat(
        self,
        inputs: Tensor | Sequence[Tensor] | None,
        data_samples: Sequence[DataSample] | None,
    ) -> Features:
        """As :meth:`ImageTextMatcher.extract_feat`, with both networks' channels side by side."""
        found = [matcher.extract_feat(inputs, data_samples) for matcher in self.matchers]
        return {
            key: torch.cat([f[key] for f in found], dim=-1) if key.endswith('feat') else value
            for key, value in found[0].items()
        }

    def loss(
        self, inputs: Tensor | Sequence[Tensor], data_samples: Sequence[DataSample]
    ) -> dict[str, Tensor]:
        """Losses of both networks, and the mean of their statistics."""
        losses: dict[str, Tensor] = {}
        statistics = []
        for k, matcher in enumerate(self.matchers):
            scores, positives = matcher.pair_scores(inputs, data_samples)
            if self.warm_up_loss is not None:
                criterion = self.warm_up_loss
                losses[f'loss_{k}'] = criterion(scores, positives)
            else:
                criterion = matcher.criterion
                labels = self._labels(k, data_samples, scores)
                losses[f'loss_{k}'] = criterion(scores, positives, labels)
            statistics.append(criterion.statistics)
        for key in statistics[0]:
            losses[key] = torch.stack([each[key] for each in statistics]).mean()
        return losses

    def _labels(
        self, network: int, data_samples: Sequence[DataSample], scores: Tensor
    ) -> Tensor | None:
        if self.labels is None:
            return None
        ids = torch.tensor([sample.text_id for sample in data_samples])
        return self.labels[network, ids].to(scores)
