"""Visual Genome region descriptions in their original format."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from mmengine.registry import DATASETS

from projects.common.errors import InputError

from .annotations import check_text
from .base import BaseGroundingDataset, make_instance, make_sample
from .region_index import RegionIndex, open_region_index

__all__ = ['RegionSamples', 'VisualGenomeRegionDataset']


@dataclass(eq=False)
class RegionSamples(Sequence):
    """Represent the samples of some regions of an index, each made on access.

    Args:
        region_index: The index.
        rows: Rows of the regions, (N,) int32.
        ann_file: Prefix of error messages.
        img_folder: Image directory.
        has_folders: Whether the images are in its subdirectories ``VG_100K/`` and ``VG_100K_2/``.
        subset: ``subset`` of the samples.
    """

    region_index: RegionIndex
    rows: np.ndarray
    ann_file: str
    img_folder: str
    has_folders: bool
    subset: str | None = None

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.rows)

    def __getitem__(self, i):
        """Return the sample at an index, or the samples of a slice."""
        if isinstance(i, slice):
            return replace(self, rows=self.rows[i])
        reference = self.reference(int(self.rows[i]))
        (sentence,) = reference['sentences']
        img_path = os.path.join(self.img_folder, reference['img_name'])
        return make_sample(reference, sentence, img_path, make_instance(reference), self.subset)

    def reference(self, row: int) -> dict:
        """Return a region in the form of :meth:`BaseGroundingDataset.iter_references`."""
        reference = self.region_index.reference(row)
        reference['where'] = f'{self.ann_file}: {reference["where"]}'
        reference['img_name'] = self.image_name(reference['img_name'])
        return reference

    def image_name(self, name: str) -> str:
        """Return the path of an image relative to the image directory."""
        return name if self.has_folders else os.path.basename(name)


@DATASETS.register_module()
class VisualGenomeRegionDataset(BaseGroundingDataset):
    """Load phrases about one box each. The dataset has no splits and no masks.

    ``region_descriptions.json``::

        [{'id': 1, 'regions': [
            {'region_id': 1382, 'image_id': 1, 'x': 421, 'y': 57, 'width': 82, 'height': 139,
             'phrase': 'the clock is green in colour'}, ...]}, ...]

    The images are in ``VG_100K/`` and ``VG_100K_2/`` of the image directory, as published, or
    directly in the image directory if it has no ``VG_100K/``.

    Many boxes exceed their image; ``skip_invalid=True`` counts and drops them.

    The 5.4 million regions are not held in memory. An index of both files is built once, and all
    processes map it into memory (:func:`open_region_index`). A process only keeps the row numbers
    of its samples, 4 bytes each.

    Args:
        ann_file: ``region_descriptions.json``, relative to ``data_root``.
        vg_image_data: ``image_data.json``, relative to ``data_root``, with the sizes, directories
            and COCO ids of the images.
        kwargs: Arguments of :class:`BaseGroundingDataset`; ``serialize_data`` has no effect.

    Raises:
        ValueError: If a file has another format.
        PermissionError: If the index cannot be written anywhere.
    """

    IMAGE_SOURCE = 'vg'

    def __init__(self, ann_file: str, vg_image_data: str, **kwargs) -> None:
        self._index: RegionIndex | None = None
        kwargs['serialize_data'] = False  # the index holds the samples
        super().__init__(ann_file=ann_file, vg_image_data=vg_image_data, **kwargs)

    def _read_vg_images(self) -> dict[int, dict] | None:
        return self._all_regions().region_index.vg_images()

    def _all_regions(self) -> RegionSamples:
        """Return all regions, including unusable ones."""
        if self._index is None:
            assert self.vg_image_data is not None
            self._index = open_region_index(self.ann_file, self.vg_image_data, _check)
        folder = self.data_prefix['img']
        return RegionSamples(
            region_index=self._index,
            rows=np.arange(len(self._index), dtype=np.int32),
            ann_file=self.ann_file,
            img_folder=folder,
            has_folders=not self.check_images or os.path.isdir(os.path.join(folder, 'VG_100K')),
            subset=self.subset,
        )

    def iter_references(self) -> Iterator[dict]:
        """Yield one reference per region."""
        regions = self._all_regions()
        for row in regions.rows.tolist():
            yield regions.reference(row)

    def load_data_list(self) -> Sequence[dict]:  # type: ignore[override]
        """Load the samples of all valid regions, in the order of the annotation file."""
        self._index = None  # the files may have changed
        self._start_loading()
        regions = self._all_regions()
        index = regions.region_index
        names = [regions.image_name(index.image_name(row)) for row in range(len(index.images))]
        paths = [self._locate(dict(img_name=name)) for name in names]
        # Reason for skipping each region: 0 if it is kept, the last code for a missing image.
        reasons = [*index.reasons, 'missing image']
        found = np.array(index.regions['reason'])
        if self.check_images:
            missing = np.array([not self._image_exists(path) for path in paths])
            found[missing[index.regions['image']]] = len(reasons)
        codes, firsts, counts = np.unique(found, return_index=True, return_counts=True)
        for i in np.argsort(firsts):
            if codes[i]:  # report or raise the first region of each reason
                reference = regions.reference(int(firsts[i]))
                if not self._samples_of(reference):
                    self._left_out[reasons[codes[i] - 1]][0] = int(counts[i])
        message = self._left_out_message() if self._left_out else ''
        self._end_loading()
        samples = replace(regions, rows=regions.rows[found == 0])
        if not len(samples):
            raise InputError(f'{self.ann_file}: no usable sample: {message}')
        if self.sentence_shuffle:
            return self._shuffle_sentences(list(samples))
        return samples

    def filter_data(self) -> Sequence[dict]:  # type: ignore[override]
        """Return the samples whose images are not in :attr:`excluded_images`."""
        samples = self.data_list
        if not self.excluded_images or not isinstance(samples, RegionSamples):
            return super().filter_data()
        image_of = samples.region_index.regions['image'][samples.rows]
        paths = list(self.image_keys)  # in the order of index.images
        counts = np.bincount(image_of, minlength=len(paths)).tolist()
        self.sentence_counts = Counter(dict(zip(paths, counts)))
        kept = np.array([self.excluded_images.isdisjoint(self.image_keys[path]) for path in paths])
        return replace(samples, rows=samples.rows[kept[image_of]])


def _check(reference: dict) -> None:
    """Raise ``InvalidSampleError`` if no sample can be made from a region."""
    make_instance(reference)
    check_text(reference['sentences'][0]['text'])
