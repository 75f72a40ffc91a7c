"""Visual Genome region descriptions in their original format."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from mmengine.registry import DATASETS, FUNCTIONS

from projects.common.errors import InputError

from .checks import Invalid
from .dataset import GroundingDataset
from .reference import Reference
from .region_index import RegionIndex, open_region_index

__all__ = ['RegionSamples', 'VisualGenomeRegionDataset', 'read_visual_genome']


@FUNCTIONS.register_module()
def read_visual_genome(
    files: Mapping[str, str], split: str | None = None, *, in_folders: bool = True
) -> Iterator[Reference | Invalid]:
    """Read phrases about one box each. The dataset has no splits and no masks.

    ``region_descriptions.json``::

        [{'id': 1, 'regions': [
            {'region_id': 1382, 'image_id': 1, 'x': 421, 'y': 57, 'width': 82, 'height': 139,
             'phrase': 'the clock is green in colour'}, ...]}, ...]

    Args:
        files: ``ann_file`` is ``region_descriptions.json``; ``vg_image_data`` is
            ``image_data.json`` with the sizes and directories of the images.
        split: Not used.
        in_folders: Whether the images are in ``VG_100K/`` and ``VG_100K_2/`` of the image
            directory, as published, or directly in the image directory.
    """
    file = files['ann_file']
    index = open_region_index(file, files['vg_image_data'])
    for row in range(len(index)):
        yield index.reference(row, file, in_folders)


@dataclass(eq=False)
class RegionSamples(Sequence):
    """Represent the samples of some regions of an index, each made on access.

    Args:
        region_index: The index.
        rows: Rows of the regions, (N,) int32.
        ann_file: The annotation file.
        img_folder: Image directory.
        in_folders: See :func:`read_visual_genome`.
        subset: ``subset`` of the samples.
    """

    region_index: RegionIndex
    rows: np.ndarray
    ann_file: str
    img_folder: str
    in_folders: bool
    subset: str | None = None

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.rows)

    def __getitem__(self, i):
        """Return the sample at an index, or the samples of a slice."""
        if isinstance(i, slice):
            return replace(self, rows=self.rows[i])
        reference = self.region_index.reference(int(self.rows[i]), self.ann_file, self.in_folders)
        reference.check()
        reference.img_path = os.path.join(self.img_folder, reference.image)
        (sample,) = reference.samples(self.subset)
        return sample


@DATASETS.register_module()
class VisualGenomeRegionDataset(GroundingDataset):
    """Load the region descriptions of Visual Genome, which :func:`read_visual_genome` describes.

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
        kwargs: Arguments of :class:`GroundingDataset`; ``serialize_data`` has no effect.

    Raises:
        ValueError: If a file has another format.
        PermissionError: If the index cannot be written anywhere.
    """

    IMAGE_SOURCE = 'vg'

    def __init__(self, ann_file: str, vg_image_data: str, **kwargs) -> None:
        self._index: RegionIndex | None = None
        kwargs['serialize_data'] = False  # the index holds the samples
        super().__init__(ann_file, reader=read_visual_genome, vg_image_data=vg_image_data, **kwargs)

    def _read_vg_images(self) -> dict[int, dict] | None:
        assert self.vg_image_data is not None
        self._index = open_region_index(self.ann_file, self.vg_image_data)
        return self._index.vg_images()

    @property
    def _in_folders(self) -> bool:
        folder = os.path.join(self.data_prefix['img'], 'VG_100K')
        return not self.check_images or os.path.isdir(folder)

    def read(self) -> Iterator[Reference | Invalid]:
        """Yield one reference per region."""
        return read_visual_genome(self.files, in_folders=self._in_folders)

    def load_data_list(self) -> Sequence[dict]:  # type: ignore[override]
        """Load the samples of all valid regions, in the order of the annotation file."""
        if self.sentence_shuffle:
            return super().load_data_list()
        images = self._open_images()
        index, in_folders = self._index, self._in_folders
        assert index is not None
        names = [index.image_name(row, in_folders) for row in range(len(index.images))]
        paths = [images.add(name)[1] for name in names]
        # Reason for skipping each region: 0 if it is kept; those of images follow the index's own.
        found, image_of = np.array(index.regions['reason']), index.regions['image']
        reasons, of_image = list(index.reasons), np.zeros(len(paths), found.dtype)
        for row, (path, record) in enumerate(zip(paths, index.images)):
            try:
                images.check(path, int(record['height']), int(record['width']))
            except Invalid as error:
                reasons += [str(error.reason)] * (error.reason not in reasons)
                of_image[row] = 1 + reasons.index(str(error.reason))
        found = np.where(of_image[image_of] > 0, of_image[image_of], found)
        codes, firsts, counts = np.unique(found, return_index=True, return_counts=True)
        for i in np.argsort(firsts):
            if codes[i]:  # report or raise the first region of each reason
                reference = index.reference(int(firsts[i]), self.ann_file, in_folders)
                for invalid in reference.check(images):
                    self.left_out.add(replace(invalid, num_sentences=int(counts[i])))
        self.left_out.warn()
        rows = np.flatnonzero(found == 0).astype(np.int32)
        if not len(rows):
            raise InputError(f'{self.ann_file}: no usable sample: {self.left_out}')
        if self.excluded_images:
            numbers = np.bincount(image_of[rows], minlength=len(paths)).tolist()
            self.sentence_counts = Counter(dict(zip(paths, numbers)))
            kept = [self.excluded_images.isdisjoint(images.keys[path]) for path in paths]
            rows = rows[np.array(kept)[image_of[rows]]]
        folder = self.data_prefix['img']
        return RegionSamples(index, rows, self.ann_file, folder, in_folders, self.subset)
