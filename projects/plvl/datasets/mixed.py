"""Union of several grounding datasets that excludes the images used for evaluation."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence

from mmengine.dataset import ConcatDataset
from mmengine.logging import print_log
from mmengine.registry import DATASETS

from projects.common.errors import InputError

from .dataset import GroundingDataset
from .image_identity import ImageKey

__all__ = ['MixedGroundingDataset']


@DATASETS.register_module()
class MixedGroundingDataset(ConcatDataset):
    """Concatenate datasets and remove every image that occurs in the datasets in ``exclude``.

    Grounding datasets share images: those of RefCOCO's val split also occur in RefCOCOg's train
    split and in Visual Genome. A model trained on a union must not see the images of any val or
    test split, whichever dataset they come from. Images are the same if they have the same COCO
    image id, the same Visual Genome id, or the same Flickr30K or ReferItGame file name. Visual
    Genome's ``image_data.json`` tells which of its images come from COCO (or Flickr30K). Any other
    image is identified by its path.

    Without ``exclude`` this is a plain union, for example of the splits that one run tests, each
    with a ``subset`` under which :class:`GroundingMetric` reports its results.

    The images removed from each dataset are logged once. Datasets that become empty are dropped.

    Args:
        datasets: Configs of the datasets to concatenate.
        exclude: Configs of the datasets (val and test splits) whose images are removed. Only their
            annotations are read; the images need not exist.
        pipeline: Pipeline for the datasets that do not define one.
        lazy_init: Whether to defer reading until it is needed.

    Raises:
        ValueError: If a config is not that of a grounding dataset, nothing is left, or there are
            Visual Genome images and it is unknown which of them come from COCO.

    Example config::

        dict(type='MixedGroundingDataset', pipeline=train_pipeline,
             datasets=[dict(type='ReferGroundingDataset', split='train', ...), ...],
             exclude=[dict(type='ReferGroundingDataset', split='val', ...), ...])
    """

    datasets: list[GroundingDataset]

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
    def _build(cfg: dict) -> GroundingDataset:
        dataset = DATASETS.build(cfg)
        if not isinstance(dataset, GroundingDataset):
            raise InputError(
                f'MixedGroundingDataset: {type(dataset).__name__} is no grounding data set'
            )
        return dataset

    def full_init(self) -> None:
        """Read all annotations and remove the images of ``exclude``."""
        if self._fully_initialized:
            return
        excluded: set[ImageKey] = set()
        for dataset in self.exclude:
            dataset.load_data_list()
            self._check_identities(dataset)
            excluded.update(key for keys in dataset.image_keys.values() for key in keys)
        lines = [
            f'MixedGroundingDataset: {len(self.datasets)} data sets, less the images of '
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
                'MixedGroundingDataset: nothing is left: every image is among those to exclude'
            )
        self.exclude = []
        super().full_init()

    @staticmethod
    def _check_identities(dataset: GroundingDataset) -> None:
        """Reject Visual Genome images if it is unknown whether they come from COCO."""
        if dataset.vg_image_data is None and any(
            key[0] == 'vg' for keys in dataset.image_keys.values() for key in keys
        ):
            raise InputError(
                f"{dataset.ann_file}: it has images of Visual Genome, some of which are COCO's; "
                "set vg_image_data of this data set to Visual Genome's image_data.json, which "
                'says which'
            )


def _describe_removal(dataset: GroundingDataset) -> list[str]:
    """Describe what was removed from a dataset, one line per image collection."""
    # source -> [sentences removed, sentences, images removed, images]
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for path, keys in dataset.image_keys.items():
        is_removed = not dataset.excluded_images.isdisjoint(keys)
        sentences = dataset.sentence_counts.get(path, 0)
        count = counts[keys[0][0]]
        for i, value in enumerate((sentences * is_removed, sentences, is_removed, 1)):
            count[i] += value
    file = dataset.split_file or dataset.ann_file
    name = f'{type(dataset).__name__} {os.path.relpath(file, dataset.data_root or ".")}'
    split = f' {dataset.split}' if dataset.split else ''
    return [
        f'{name}{split}, {source}: removed {count[2]:,} of {count[3]:,} '
        f'images with {count[0]:,} of {count[1]:,} sentences'
        for source, count in sorted(counts.items())
    ]
