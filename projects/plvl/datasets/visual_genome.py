"""Region descriptions of Visual Genome, as its authors publish them."""

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
    """Samples of some regions of an index, each made when it is asked for.

    Args:
        region_index: The index.
        rows: Rows of the regions, (N,) int32.
        ann_file: What messages begin with.
        img_folder: Folder of the pictures.
        has_folders: Whether they are in ``VG_100K/`` and ``VG_100K_2/`` of it.
        subset: ``subset`` of the samples.
    """

    region_index: RegionIndex
    rows: np.ndarray
    ann_file: str
    img_folder: str
    has_folders: bool
    subset: str | None = None

    def __len__(self) -> int:
        """How many there are."""
        return len(self.rows)

    def __getitem__(self, i):
        """The sample at an index, or the samples of a slice."""
        if isinstance(i, slice):
            return replace(self, rows=self.rows[i])
        reference = self.reference(int(self.rows[i]))
        (sentence,) = reference['sentences']
        img_path = os.path.join(self.img_folder, reference['img_name'])
        return make_sample(reference, sentence, img_path, make_instance(reference), self.subset)

    def reference(self, row: int) -> dict:
        """A region as :meth:`BaseGroundingDataset.iter_references` yields it."""
        reference = self.region_index.reference(row)
        reference['where'] = f'{self.ann_file}: {reference["where"]}'
        reference['img_name'] = self.image_name(reference['img_name'])
        return reference

    def image_name(self, name: str) -> str:
        """Path of a picture in the image folder."""
        return name if self.has_folders else os.path.basename(name)


@DATASETS.register_module()
class VisualGenomeRegionDataset(BaseGroundingDataset):
    """One phrase about one box; it has no splits and no masks.

    ``region_descriptions.json``::

        [{'id': 1, 'regions': [
            {'region_id': 1382, 'image_id': 1, 'x': 421, 'y': 57, 'width': 82, 'height': 139,
             'phrase': 'the clock is green in colour'}, ...]}, ...]

    The pictures are in ``VG_100K/`` and ``VG_100K_2/`` of the image folder, as they are
    published, or all in the image folder itself if it has no ``VG_100K/``.

    Many boxes leave their picture; ``skip_invalid=True`` counts and drops them.

    The 5.4 million regions are not held in memory: an index is made of both files once, which all
    processes map into theirs (:func:`open_region_index`). A process keeps the numbers of its
    samples, 4 bytes each.

    Args:
        ann_file: ``region_descriptions.json``, relative to ``data_root``.
        vg_image_data: ``image_data.json``, relative to ``data_root``: sizes, folders and which
            pictures are COCO's.
        kwargs: Arguments of :class:`BaseGroundingDataset`; ``serialize_data`` changes nothing.

    Raises:
        ValueError: A file is of another form.
        PermissionError: The index can be written nowhere.
    """

    IMAGE_SOURCE = 'vg'

    def __init__(self, ann_file: str, vg_image_data: str, **kwargs) -> None:
        self._index: RegionIndex | None = None
        kwargs['serialize_data'] = False  # the samples are in the index
        super().__init__(ann_file=ann_file, vg_image_data=vg_image_data, **kwargs)

    def _read_vg_images(self) -> dict[int, dict] | None:
        return self._all_regions().region_index.vg_images()

    def _all_regions(self) -> RegionSamples:
        """All regions, those that cannot be used among them."""
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
        """See :meth:`BaseGroundingDataset.iter_references`."""
        regions = self._all_regions()
        for row in regions.rows.tolist():
            yield regions.reference(row)

    def load_data_list(self) -> Sequence[dict]:  # type: ignore[override]
        """Samples of all valid regions, in the order of the annotation file."""
        self._index = None  # the files may have changed since
        self._start_loading()
        regions = self._all_regions()
        index = regions.region_index
        names = [regions.image_name(index.image_name(row)) for row in range(len(index.images))]
        paths = [self._locate(dict(img_name=name)) for name in names]
        # Why each region is left out: 0 where it is not, and the last number for a missing image.
        reasons = [*index.reasons, 'missing image']
        found = np.array(index.regions['reason'])
        if self.check_images:
            missing = np.array([not self._image_exists(path) for path in paths])
            found[missing[index.regions['image']]] = len(reasons)
        codes, firsts, counts = np.unique(found, return_index=True, return_counts=True)
        for i in np.argsort(firsts):
            if codes[i]:  # the first of each says what is wrong, or raises
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
        """Samples whose pictures are not among :attr:`excluded_images`."""
        samples = self.data_list
        if not self.excluded_images or not isinstance(samples, RegionSamples):
            return super().filter_data()
        image_of = samples.region_index.regions['image'][samples.rows]
        paths = list(self.image_keys)  # in the order of the index's images
        counts = np.bincount(image_of, minlength=len(paths)).tolist()
        self.sentence_counts = Counter(dict(zip(paths, counts)))
        kept = np.array([self.excluded_images.isdisjoint(self.image_keys[path]) for path in paths])
        return replace(samples, rows=samples.rows[kept[image_of]])


def _check(reference: dict) -> None:
    """Raise InvalidSampleError for a region of which no sample can be made."""
    make_instance(reference)
    check_text(reference['sentences'][0]['text'])
