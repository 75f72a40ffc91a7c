"""Sampling of several sentences about the same image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

import torch
from mmengine.dataset import InfiniteSampler
from mmengine.registry import DATA_SAMPLERS

from projects.common.errors import InputError

__all__ = ['SameImageSampler']


@DATA_SAMPLERS.register_module()
class SameImageSampler(InfiniteSampler):
    """Draw several sentences about each image, one after the other, endlessly.

    A batch then holds the same image with different sentences, which only a model that reads the
    sentence can tell apart. Every pass visits all images in a new order and draws
    ``sentences_per_image`` of the sentences of each, without replacement as far as there are
    enough.

    Like :class:`mmengine.dataset.InfiniteSampler`, several processes together draw what one
    process with their total batch size draws, and a resumed run continues at its position.

    Args:
        dataset: A dataset whose ``get_data_info`` returns the ``img_path`` of a sentence.
        sentences_per_image: Number of sentences of an image. The batch size should be a multiple.
        seed: Seed of the order; by default, that of the run.

    Raises:
        ValueError: ``sentences_per_image`` is less than 1.
    """

    def __init__(self, dataset: Any, sentences_per_image: int = 4, seed: int | None = None) -> None:
        if sentences_per_image < 1:
            raise InputError(
                f'SameImageSampler.sentences_per_image: found {sentences_per_image}, expected at '
                'least 1'
            )
        super().__init__(dataset, seed=seed)
        self.sentences_per_image = sentences_per_image
        by_image = defaultdict(list)
        for index in range(len(dataset)):
            by_image[dataset.get_data_info(index)['img_path']].append(index)
        self._sentences = list(by_image.values())

    def _infinite_indices(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self.seed)
        while True:
            for image in torch.randperm(len(self._sentences), generator=generator).tolist():
                indices = self._sentences[image]
                order = torch.randperm(len(indices), generator=generator).tolist()
                for position in islice(cycle(order), self.sentences_per_image):
                    yield indices[position]
