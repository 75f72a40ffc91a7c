"""NCR: two networks of one kind, each trained on the pairs the other considers matching."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from projects.common.errors import InputError

from .joint_batch import gathered_rows, joint_loss
from .matcher import Features


class MeanSimilarity(nn.Module):
    """Average several similarities, each of its own part of the embedding channels."""

    def __init__(self, similarities: Sequence[nn.Module]) -> None:
        super().__init__()
        self.similarities = nn.ModuleList(similarities)

    def forward(
        self, images: Tensor, image_lengths: Tensor, captions: Tensor, caption_lengths: Tensor
    ) -> Tensor:
        """Compute scores (I, T) from the arguments of any similarity."""
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
    """Train two matchers with different initial weights, and average their scores for evaluation.

    As released, :class:`CoTrainLoop` trains one network at a time. ``active`` is its index, and the
    ``correspondence`` of a sample says how well the pair corresponds. With ``active=None`` both
    networks are trained jointly, on labels set by :class:`CleanSplitHook`. Without labels all pairs
    match.

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
        self.active: int | None = None  # the network being trained, None for both
        self.labels: Tensor | None = None  # (2, N), by network and text_id
        self.warm_up_loss: Any = None  # replaces the losses of the networks

    @property
    def text_encoder(self) -> Any:
        """Return the text encoder of the first network, whose vocabulary is built by a hook."""
        return self.matchers[0].text_encoder

    def share_vocabulary(self) -> None:
        """Give the second network the vocabulary of the first, which may have been set late."""
        vocabulary = getattr(self.text_encoder, 'vocabulary', None)
        other = self.matchers[1].text_encoder
        if vocabulary is not None and other.vocabulary is not vocabulary:
            other.set_vocabulary(vocabulary)

    def forward(
        self,
        inputs: Tensor | Sequence[Tensor],
        data_samples: Sequence[DataSample] | None = None,
        mode: str = 'tensor',
    ) -> Features | dict[str, Tensor]:
        """Return losses or embeddings, depending on ``mode`` (``loss`` or ``tensor``).

        Raises:
            ValueError: ``mode`` is unknown, or ``data_samples`` is missing for the loss.
        """
        if mode == 'tensor':
            return self.extract_feat(inputs, data_samples)
        if mode != 'loss':
            raise InputError(f"mode={mode!r}, expected 'loss' or 'tensor'")
        if data_samples is None:
            raise InputError("mode='loss' needs data_samples")
        return self.loss(inputs, data_samples)

    def extract_feat(
        self,
        inputs: Tensor | Sequence[Tensor] | None,
        data_samples: Sequence[DataSample] | None,
    ) -> Features:
        """Compute embeddings with the channels of both networks side by side.

        See :meth:`ImageTextMatcher.extract_feat`.
        """
        self.share_vocabulary()
        found = [matcher.extract_feat(inputs, data_samples) for matcher in self.matchers]
        return {
            key: torch.cat([f[key] for f in found], dim=-1) if key.endswith('feat') else value
            for key, value in found[0].items()
        }

    def loss(
        self, inputs: Tensor | Sequence[Tensor], data_samples: Sequence[DataSample]
    ) -> dict[str, Tensor]:
        """Compute the losses of the networks being trained and the mean of their statistics."""
        self.share_vocabulary()
        losses: dict[str, Tensor] = {}
        statistics = []
        for k in range(2) if self.active is None else (self.active,):
            matcher = self.matchers[k]
            name = f'loss_{k}' if self.active is None else 'loss'
            joint = matcher.joint_scores(inputs, data_samples, self.training)
            further = []
            if self.warm_up_loss is None:
                further = [self._labels(k, data_samples, joint.S)]
            values = joint_loss(self.warm_up_loss or matcher.criterion, joint, *further)
            losses[name] = values.pop('loss')
            statistics.append(values)
        for key in statistics[0]:
            losses[key] = torch.stack([each[key] for each in statistics]).mean()
        return losses

    @torch.no_grad()
    def predict_labels(self, network: int, data: dict) -> Tensor:
        """Predict how well each pair of a batch corresponds, in evaluation mode.

        Args:
            network: 0 or 1.
            data: ``inputs`` and ``data_samples`` from the data preprocessor.

        Returns:
            (B,), see :meth:`NCRLoss.predict_labels`.
        """
        self.share_vocabulary()
        matcher = self.matchers[network]
        training = matcher.training
        matcher.eval()
        joint = matcher.joint_scores(data['inputs'], data['data_samples'])
        matcher.train(training)
        gather = gathered_rows if joint.captions is not None else None
        return matcher.criterion.predict_labels(
            joint.S, joint.positives, gather=gather, **joint.arguments()
        )

    def _labels(
        self, network: int, data_samples: Sequence[DataSample], scores: Tensor
    ) -> Tensor | None:
        if self.active is not None:
            given = [sample.get('correspondence') for sample in data_samples]
            if None in given:
                return None
            dtype = torch.promote_types(scores.dtype, torch.float32)
            return torch.tensor(given, dtype=dtype, device=scores.device)
        if self.labels is None:
            return None
        ids = torch.tensor([sample.text_id for sample in data_samples])
        return self.labels[network, ids].to(scores)
