"""A matcher without training: what a classifier sees is compared as words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.registry import DATASETS, MODELS
from torch import Tensor

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
        kwargs: Arguments of :class:`ImageTextMatcher`.

    Raises:
        InputError: There is no such dataset, or ``num_likeliest`` is not between 1 and the number
            of classes.
    """

    def __init__(
        self, *args: Any, class_names: str | Sequence[str], num_likeliest: int = 10, **kwargs: Any
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
        self._vectors: tuple[tuple[int, ...], Tensor] | None = None

    @torch.no_grad()
    def class_vectors(self) -> Tensor:
        """Return the text embeddings (K, C) of the classes, computed again if weights change."""
        state = tuple(p._version for p in self.text_encoder.parameters())
        device = next(self.text_encoder.parameters()).device
        if self._vectors is None or self._vectors[0] != state or self._vectors[1].device != device:
            mode = self.text_encoder.training
            self.text_encoder.eval()
            self._vectors = state, self.encode_captions(self.class_names)[0]
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
        return (values[..., None] * vectors).sum(dim=1, keepdim=True) / values.sum(1)[:, None, None]


def _names_of(dataset: str) -> Sequence[str]:
    kind = DATASETS.get(dataset)
    names = (getattr(kind, 'METAINFO', None) or {}).get('classes')
    if not names:
        raise InputError(
            f'class_names={dataset!r}: expected names, or a registered dataset with classes in '
            'METAINFO'
        )
    return names
