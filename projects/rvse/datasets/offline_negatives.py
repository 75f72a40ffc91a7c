"""Training pairs with negatives that were mined in the whole training set, for AOQ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, FUNCTIONS
from torch import Tensor
from torch.utils.data import Dataset

__all__ = ['OfflineNegativesDataset', 'pairs_then_negatives']


@DATASETS.register_module()
class OfflineNegativesDataset(Dataset):
    """Gives every training pair a picture and a caption that are hard negatives of it.

    Each is drawn anew, with equal chances, from those that :class:`OfflineMiningHook` set.
    :func:`pairs_then_negatives` makes batches as :class:`AOQLoss` reads them.

    Args:
        dataset: A data set with a sample for every caption, in training mode.
    """

    def __init__(self, dataset: dict) -> None:
        self.dataset = DATASETS.build(dataset)
        self.pictures_mined: Tensor | None = None
        self.captions_mined: Tensor | None = None

    def set_negatives(self, captions: Tensor, pictures: Tensor) -> None:
        """Takes what :func:`mine_offline_negatives` found over.

        Args:
            captions: (I, top), captions for every picture.
            pictures: (T, top), pictures for every caption.
        """
        self.captions_mined, self.pictures_mined = captions, pictures
        owner = self.dataset.image_of_caption
        # a sample of each picture, to read its features from
        self._sample_of_picture = np.unique(owner, return_index=True)[1]

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.dataset)

    def __getitem__(self, idx: int) -> tuple[dict, dict]:
        """The pair, and a pair of its negative picture and its negative caption.

        Raises:
            RuntimeError: No negatives were mined.
        """
        if self.captions_mined is None or self.pictures_mined is None:
            raise RuntimeError(
                'OfflineNegativesDataset has no negatives: add dict(type="OfflineMiningHook") to '
                'custom_hooks'
            )
        pair = self.dataset[idx]
        image = int(self.dataset.image_of_caption[idx])
        caption = int(_draw(self.captions_mined[image]))
        picture = int(_draw(self.pictures_mined[idx]))
        negative = self.dataset[self._sample_of_picture[picture]]
        sample = self.dataset[caption]['data_samples']
        return pair, dict(negative, data_samples=sample)

    def __getattr__(self, name: str):
        """The inner data set's, such as its metainfo."""
        if name == 'dataset':
            raise AttributeError(name)
        return getattr(self.dataset, name)


def _draw(candidates: Tensor) -> Tensor:
    return candidates[np.random.randint(len(candidates))]


@FUNCTIONS.register_module()
def pairs_then_negatives(batch: Sequence[tuple[dict, dict]]) -> dict:
    """B pairs and, behind them, their B negatives, collated as one batch of 2 B."""
    pairs, negatives = zip(*batch)
    return pseudo_collate([*pairs, *negatives])
