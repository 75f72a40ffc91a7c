"""A matcher without training: what a classifier sees is compared as words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import DATASETS, MODELS
from torch import Tensor, nn

from projects.common.errors import InputError

from ..matcher import ImageTextMatcher


@MODELS.register_module()
class ClassNameMatcher(ImageTextMatcher):
    """Match images and captions by the names of the classes that a classifier sees.

    The feature of an image is the mean of the text embeddings of its likeliest classes, weighted by
    their probabilities. It is the only region that ``image_encoder`` reads.

    Args:
        class_names: Names of the classes of ``backbone``, which computes their logits (B, K, 1, 1),
            or the registered dataset that has them, such as 'mmpretrain.ImageNet'.
        num_likeliest: Number of likeliest classes that count.
        residual_channels: C, the channels of the text embeddings, to add a linear layer of the
            standardised logits to the feature. It starts at zero: training starts from what the
            names alone find. None adds nothing.
        kwargs: Arguments of :class:`ImageTextMatcher`.

    Raises:
        InputError: There is no such dataset, or ``num_likeliest`` is not between 1 and the number
            of classes.
    """

    def __init__(
        self,
        *args: Any,
        class_names: str | Sequence[str],
        num_likeliest: int = 10,
        residual_channels: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if isinstance(class_names, str):
            class_names = _names_of(class_names)
        self.class_names = list(class_names)
        if not 1 <= num_likeliest <= len(self.class_names):
            raise InputError(
                f'num_likeliest={num_likeliest}: expected 1 to {len(self.class_names)}, the '
                'number of class_names'
            )
        self.num_likeliest = num_likeliest
        self.residual: nn.Linear | None = None
        if residual_channels is not None:
            self.residual = nn.Linear(len(self.class_names), residual_channels)
            nn.init.zeros_(self.residual.weight)
            nn.init.zeros_(self.residual.bias)
        self._vectors: tuple[tuple[int, ...], Tensor] | None = None

    @torch.no_grad()
    def class_vectors(self) -> Tensor:
        """Return the text embeddings (K, C) of the classes, computed again if weights change."""
        state = tuple(p._version for p in self.text_encoder.parameters())
        device = next(self.text_encoder.parameters()).device
        if self._vectors is None or self._vectors[0] != state or self._vectors[1].device != device:
            mode = self.text_encoder.training
            self.text_encoder.eval()
            # in batches of similar lengths, which hardly need padding
            order = sorted(range(len(self.class_names)), key=lambda i: len(self.class_names[i]))
            names = [self.class_names[i] for i in order]
            parts = [self.encode_captions(names[i : i + 100])[0] for i in range(0, len(names), 100)]
            vectors = torch.cat(parts)
            self._vectors = (
                state,
                torch.empty_like(vectors).index_copy(
                    0, torch.tensor(order, device=device), vectors
                ),
            )
            self.text_encoder.train(mode)
        return self._vectors[1]

    def grid_features(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        """Compute the features (B, 1, C) of images (B, 3, H, W)."""
        logits = super().grid_features(images)[:, 0]
        if logits.shape[1] != len(self.class_names):
            raise InputError(
                f'backbone: logits of {logits.shape[1]} classes, but class_names has '
                f'{len(self.class_names)}'
            )
        values, classes = logits.softmax(dim=1).topk(self.num_likeliest, dim=1)
        vectors = self.class_vectors()[classes]  # (B, k, C)
        feature = (values[..., None] * vectors).sum(dim=1) / values.sum(dim=1, keepdim=True)
        if self.residual is not None:
            feature = feature + self.residual(F.layer_norm(logits, logits.shape[1:]))
        return feature[:, None]


def _names_of(dataset: str) -> Sequence[str]:
    kind = DATASETS.get(dataset)
    names = (getattr(kind, 'METAINFO', None) or {}).get('classes')
    if not names:
        raise InputError(
            f'class_names={dataset!r}: expected names, or a registered dataset with classes in '
            'METAINFO'
        )
    return names
