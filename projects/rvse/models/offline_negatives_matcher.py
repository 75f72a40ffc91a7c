"""AOQ: a matcher that also scores each pair's offline negatives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from projects.common.errors import InputError

from .joint_batch import joint_loss
from .matcher import ImageTextMatcher

GROUP = 8  # number of pairs scored at once, all against all


def paired_scores(
    similarity: nn.Module,
    images: Tensor,
    image_lengths: Tensor,
    captions: Tensor,
    caption_lengths: Tensor,
) -> Tensor:
    """Score image i with caption i only, (B,): the diagonal, without most of the matrix.

    The arguments are those of any similarity, with as many images as captions.
    """
    # group captions of similar length to compute little padding
    order = caption_lengths.argsort(stable=True)
    scores = [
        similarity(images[some], image_lengths[some], captions[some], caption_lengths[some])
        for some in order.split(GROUP)
    ]
    return torch.cat([score.diagonal() for score in scores])[order.argsort()]


@MODELS.register_module()
class OfflineNegativesMatcher(ImageTextMatcher):
    """Train a matcher with :class:`AOQLoss`; it is evaluated like :class:`ImageTextMatcher`.

    A training batch comes from :func:`pairs_then_negatives`: B pairs, then the mined image and
    caption of each pair, then (six terms) the owners of these two. Online negatives only come from
    the B pairs.

    Args:
        **kwargs: See :class:`ImageTextMatcher`.
    """

    def loss(
        self, inputs: Tensor | Sequence[Tensor], data_samples: Sequence[DataSample]
    ) -> dict[str, Tensor]:
        """Compute ``loss`` and the statistics of the loss module.

        Raises:
            ValueError: The batch is not a whole number of groups.
        """
        groups = self.criterion.terms - 3
        batch = len(data_samples) // groups
        if len(data_samples) % groups or not batch:
            raise InputError(
                f'OfflineNegativesMatcher: a batch of {len(data_samples)}, expected B pairs and '
                f'{groups - 1} x B samples mined for them: OfflineNegativesDataset with '
                f'owners={groups == 3} and collate_fn=dict(type="pairs_then_negatives")'
            )
        found = self.extract_feat(inputs, data_samples)
        images = list(zip(found['image_feat'].split(batch), found['image_lengths'].split(batch)))
        captions = list(zip(found['text_feat'].split(batch), found['text_lengths'].split(batch)))
        # the order AOQLoss expects: mined captions, mined images, both, and their owners
        pairings = [(0, 1), (1, 0), *((group, group) for group in range(1, groups))]
        offline = [
            paired_scores(self.similarity, *images[image], *captions[caption])
            for image, caption in pairings
        ]
        names = ('image_feat', 'image_lengths', 'text_feat', 'text_lengths')
        pairs = dict(zip(names, (*images[0], *captions[0]), strict=True))
        joint = self.joint_scores_of(
            pairs, data_samples[:batch], torch.arange(batch), self.training
        )
        return joint_loss(self.criterion, joint, torch.stack(offline))
