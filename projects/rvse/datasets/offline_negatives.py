"""Training pairs with negatives mined in the whole training set, for AOQ."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from mmengine.registry import DATASETS, FUNCTIONS
from torch import Tensor
from torch.utils.data import Dataset

from projects.common.errors import InputError

from .collate import stack_pairs

__all__ = ['OfflineNegativesDataset', 'fingerprint', 'pairs_then_negatives']


def fingerprint(dataset) -> str:
    """Compute a hash that identifies a training set: its captions, images and their order.

    Args:
        dataset: A :class:`BaseMatchingDataset` in training mode.

    Returns:
        32 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for i, owner in enumerate(dataset.image_of_caption.tolist()):
        sample = dataset.get_data_info(i)
        digest.update(repr((owner, sample['text'], sample.get('ori_id'))).encode())
    return digest.hexdigest()[:32]


@DATASETS.register_module()
class OfflineNegativesDataset(Dataset):
    """Return every training pair with an image and a caption that are hard negatives of it.

    They are drawn at random from the negatives set by :class:`OfflineMiningHook`. As in the
    released code, a single draw selects both: with 300 captions and 60 images, the caption of rank
    n comes with the image of rank n // 5. :func:`pairs_then_negatives` collates the batches
    expected by :class:`OfflineNegativesMatcher`.

    Args:
        dataset: A data set with a sample for every caption, in training mode.
        together: Whether one draw selects caption and image. False draws them independently.
        owners: Also return the image of the mined caption with a caption of the mined image, which
            :class:`AOQLoss` with six terms needs.

    Raises:
        ValueError: The data set does not have a sample for every caption.
    """

    def __init__(self, dataset: dict, together: bool = True, owners: bool = True) -> None:
        self.dataset = DATASETS.build(dataset)
        self.together = together
        self.owners = owners
        captions = len(self.dataset.image_of_caption)
        if len(self.dataset) != captions:
            raise InputError(
                f'OfflineNegativesDataset: {len(self.dataset):,} samples, expected one for each of '
                f'{captions:,} captions (all_captions=False, test_mode=False, no indices)'
            )
        self.images_mined: Tensor | None = None
        self.captions_mined: Tensor | None = None

    def set_negatives(self, captions: Tensor, images: Tensor) -> None:
        """Set the negatives found by :func:`mine_offline_negatives`.

        Args:
            captions: (I, top_captions), captions for every image.
            images: (T, top_images), images for every caption.
        """
        self.captions_mined, self.images_mined = captions, images
        owner = self.dataset.image_of_caption
        self._by_image = np.argsort(owner, kind='stable')
        self._first = np.searchsorted(owner[self._by_image], np.arange(owner.max() + 2))

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.dataset)

    def __getitem__(self, idx: int) -> tuple[dict, ...]:
        """Return the pair, its mined image and caption, and (``owners``) the owners of these.

        Raises:
            RuntimeError: No negatives were mined.
        """
        if self.captions_mined is None or self.images_mined is None:
            raise RuntimeError(
                'OfflineNegativesDataset has no negatives: add dict(type="OfflineMiningHook") to '
                'custom_hooks'
            )
        captions = self.captions_mined[int(self.dataset.image_of_caption[idx])]
        images = self.images_mined[idx]
        rank = np.random.randint(len(captions))
        if self.together:
            image_rank = rank * len(images) // len(captions)
        else:
            image_rank = np.random.randint(len(images))
        image = int(images[image_rank])
        own = self._by_image[self._first[image] : self._first[image + 1]]
        pair = self.dataset[idx]
        of_caption = self.dataset[int(captions[rank])]
        of_image = self.dataset[int(own[np.random.randint(len(own))])]
        mined = dict(of_image, data_samples=of_caption['data_samples'])
        if not self.owners:
            return pair, mined
        return pair, mined, dict(of_caption, data_samples=of_image['data_samples'])

    def __getattr__(self, name: str):
        """Return an attribute of the inner data set, such as its metainfo."""
        if name == 'dataset':
            raise AttributeError(name)
        return getattr(self.dataset, name)


@FUNCTIONS.register_module()
def pairs_then_negatives(batch: Sequence[tuple[dict, ...]]) -> dict:
    """Collate B pairs, followed by the B mined samples and, if any, their B owners."""
    return stack_pairs([sample for group in zip(*batch) for sample in group])
