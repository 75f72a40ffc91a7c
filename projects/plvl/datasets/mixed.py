"""Several grounding data sets as one, without the pictures that others are tested on."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence

from mmengine.dataset import ConcatDataset
from mmengine.logging import print_log
from mmengine.registry import DATASETS

from projects.common.errors import InputError

from .base import BaseGroundingDataset
from .image_identity import ImageKey

__all__ = ['MixedGroundingDataset']


@DATASETS.register_module()
class MixedGroundingDataset(ConcatDataset):
    """The union of data sets, less every picture of the data sets in ``exclude``.

    The data sets of grounding share pictures: those of RefCOCO's val split are in RefCOCOg's
    train split and in Visual Genome. What is trained on a union must not have seen the pictures
    of any val or test split, whichever data set they come from. Pictures are the same if they
    have the same COCO image id, the same Visual Genome id, or the same Flickr30K or ReferItGame
    file name; which of Visual Genome's are COCO's (or Flickr30K's) is read from its
    ``image_data.json``. Any other picture is itself, by its path.

    Without ``exclude`` it is the union: of the splits that one run tests, each with a ``subset`` by
    which :class:`GroundingMetric` gives its results.

    The log says once what was removed from each data set. One of which nothing is left drops out.

    Args:
        datasets: Configs of the data sets to unite.
        exclude: Configs of the data sets (val and test splits) whose pictures are removed. Only
            their annotations are read; the pictures need not be there.
        pipeline: Pipeline of the data sets that name none themselves.
        lazy_init: Whether to read nothing until it is needed.

    Raises:
        ValueError: A config is not of a grounding data set, nothing is left, or there are pictures
            of Visual Genome and it is not known which of them are COCO's.

    Example config::

        dict(type='MixedGroundingDataset', pipeline=train_pipeline,
             datasets=[dict(type='ReferGroundingDataset', split='train', ...), ...],
             exclude=[dict(type='ReferGroundingDataset', split='val', ...), ...])
    """

    datasets: list[BaseGroundingDataset]

    def __init__(
        self,
        datasets: Sequence[dict],
        exclude: Sequence[dict] = (),
        pipeline: Sequence[dict] | None = None,
        lazy_init: bool = False,
    ) -> None:
        if not datasets:
            raise InputError('MixedGroundingDataset: datasets is empty')
        default = {} if pipeline is None else dict(pipeline=pipeline)
        members = [self._build({**default, **cfg, 'lazy_init': True}) for cfg in datasets]
        self.exclude = [
            self._build({**cfg, 'lazy_init': True, 'check_images': False, 'pipeline': []})
            for cfg in exclude
        ]
        super().__init__(members, lazy_init=lazy_init)

    @staticmethod
    def _build(cfg: dict) -> BaseGroundingDataset:
        dataset = DATASETS.build(cfg)
        if not isinstance(dataset, BaseGroundingDataset):
            raise InputError(
                f'MixedGroundingDataset: {type(dataset).__name__} is no grounding data set'
            )
        return dataset

    def full_init(self) -> None:
        """Read all annotations, and remove the pictures of ``exclude``."""
        if self._fully_initialized:
            return
        excluded: set[ImageKey] = set()
        for dataset in self.exclude:
            dataset.load_data_list()
            self._check_identities(dataset)
            excluded.update(key for keys in dataset.image_keys.values() for key in keys)
        lines = [
            f'MixedGroundingDataset: {len(self.datasets)} data sets, less the pictures of '
            f'{len(self.exclude)} others'
        ]
        for dataset in self.datasets:
            dataset.excluded_images = frozenset(excluded)
            dataset.full_init()
            if excluded:
                self._check_identities(dataset)
                lines += _describe_removal(dataset)
        if excluded:
            print_log('\n  '.join(lines), 'current')
        self.datasets = [dataset for dataset in self.datasets if len(dataset)]
        if not self.datasets:
            raise InputError(
                'MixedGroundingDataset: nothing is left: every picture is among those to exclude'
            )
        self.exclude = []
        super().full_init()

    @staticmethod
    def _check_identities(dataset: BaseGroundingDataset) -> None:
        """Refuse pictures of Visual Genome of which it is not known whether they are COCO's."""
        if dataset.vg_image_data is None and any(
            key[0] == 'vg' for keys in dataset.image_keys.values() for key in keys
        ):
            raise InputError(
                f"{dataset.ann_file}: it has pictures of Visual Genome, some of which are COCO's; "
                "set vg_image_data of this data set to Visual Genome's image_data.json, which "
                'says which'
            )


def _describe_removal(dataset: BaseGroundingDataset) -> list[str]:
    """A line for each collection of pictures: what was removed, of how much."""
    # source -> sentences removed, sentences, pictures removed, pictures
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for path, keys in dataset.image_keys.items():
        is_removed = not dataset.excluded_images.isdisjoint(keys)
        sentences = dataset.sentence_counts.get(path, 0)
        count = counts[keys[0][0]]
        for i, value in enumerate((sentences * is_removed, sentences, is_removed, 1)):
            count[i] += value
    file = dataset.split_file if hasattr(dataset, 'split_file') else dataset.ann_file
    name = f'{type(dataset).__name__} {os.path.relpath(file, dataset.data_root or ".")}'
    split = getattr(dataset, 'split', None)
    return [
        f'{name}{f" {split}" if split else ""}, {source}: removed {count[2]:,} of {count[3]:,} '
        f'pictures with {count[0]:,} of {count[1]:,} sentences'
        for source, count in sorted(counts.items())
    ]
