"""Precomputed region features in the layout of SCAN and VSE-infinity."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from mmengine.registry import DATASETS

from projects.common.errors import InputError
from projects.common.files.annotation_files import is_utf8, read_lines, shown

from .base import BaseMatchingDataset
from .regions import RegionStore, write_regions

__all__ = ['PrecompMatchingDataset', 'precomputed_lines', 'write_precomputed']


@DATASETS.register_module()
class PrecompMatchingDataset(BaseMatchingDataset):
    """Load ``{split}_ims.npy``, ``{split}_caps.txt`` and, optionally, ``{split}_ids.txt``.

    Line ``i`` of the captions belongs to image ``i // captions_per_image``. Features stay on disk
    and are read by :class:`LoadRegions`. If the features file repeats every image for each of its
    captions, one row per image is read. There may be one id per image or per caption.

    Args:
        split: 'train', 'dev', 'test', 'testall' or any other prefix of the files.
        data_root: Folder of the files.
        captions_per_image: Number of captions per image.
        kwargs: Additional arguments of :class:`BaseMatchingDataset`.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: The lengths of the files do not match, or a caption is empty.
    """

    def __init__(
        self, split: str, data_root: str = '', captions_per_image: int = 5, **kwargs
    ) -> None:
        self.split = split
        self.captions_per_image = captions_per_image
        super().__init__(ann_file=f'{split}_caps.txt', data_root=data_root, **kwargs)

    @property
    def region_file(self) -> str:
        """Return the path of the ``.npy`` with region features next to the captions."""
        return self.ann_file.removesuffix('_caps.txt') + '_ims.npy'

    def load_images(self) -> list[dict]:
        """List the images, each with a row of regions and its captions."""
        self._require(self.region_file, 'split')
        lines = read_lines(self.ann_file)
        each = self.captions_per_image
        store = RegionStore(self.region_file)
        step = self._row_step(store, len(lines))
        count = len(lines) // each
        ids = self._ids(count)
        return [
            dict(
                captions=[
                    caption
                    for j, text in enumerate(lines[i * each : (i + 1) * each])
                    for caption in self._caption(text, f'{self.ann_file}:{i * each + j + 1}')
                ],
                ori_id=ids[i],
                region_file=self.region_file,
                region_row=i * step,
            )
            for i in range(count)
        ]

    def _row_step(self, store: RegionStore, num_captions: int) -> int:
        """Return the number of feature rows from one image to the next."""
        each = self.captions_per_image
        if len(store) * each == num_captions:
            return 1
        repeated = len(store) == num_captions and num_captions % each == 0
        if repeated and all(
            np.array_equal(store[i], store[i + j])
            for i in (0, num_captions - each)
            for j in range(1, each)
        ):
            return each
        raise InputError(
            f'{self.region_file}: features of {len(store):,} images, but '
            f'{os.path.basename(self.ann_file)} has {num_captions:,} captions; expected '
            f'{each} for each image (captions_per_image)'
        )

    def _ids(self, count: int) -> list[str]:
        path = self.ann_file.removesuffix('_caps.txt') + '_ids.txt'
        if not os.path.isfile(path):
            return [str(i) for i in range(count)]
        ids = [line.strip() for line in read_lines(path)]
        if len(ids) == count * self.captions_per_image != count:
            ids = ids[:: self.captions_per_image]
        if len(ids) != count:
            raise InputError(
                f'{path}: {len(ids):,} ids, expected one for each of {count:,} images or of '
                f'{count * self.captions_per_image:,} captions'
            )
        return ids


def precomputed_lines(
    folder: str | os.PathLike, images: Sequence[Mapping]
) -> tuple[list[str], list[str]]:
    """Return the captions and the ids of images as lines of the files of the layout.

    Args:
        folder: Folder of the files, for messages.
        images: ``text``, the captions, and ``ori_id`` of every image.

    Raises:
        ValueError: The numbers of captions differ, or a caption or an id is blank, or cannot be a
            line of a text file in UTF-8.
    """
    counts = {len(image['text']) for image in images}
    if len(counts) > 1:
        raise InputError(
            f'{folder}: images with {min(counts)} to {max(counts)} captions, the layout needs '
            'equal numbers'
        )
    captions = [' '.join(text.split()) for image in images for text in image['text']]
    ids = [image['ori_id'] for image in images]
    for line in (*captions, *ids):
        if not line or not is_utf8(line) or '\n' in line or '\r' in line:
            raise InputError(f'{folder}: {shown(line)}: expected one line of text in UTF-8')
    return captions, ids


def write_precomputed(
    folder: str | os.PathLike,
    split: str,
    features: Iterable[np.ndarray],
    images: Sequence[Mapping],
) -> int:
    """Write a split in the layout that :class:`PrecompMatchingDataset` reads.

    Args:
        folder: Existing folder to write to.
        split: Prefix of the files.
        features: Regions (N_i, C) of every image.
        images: ``text``, the same number of captions for every image, and ``ori_id`` of every
            image.

    Returns:
        The number of captions.

    Raises:
        ValueError: See :func:`precomputed_lines`. Nothing is computed then.
    """
    folder = Path(folder)
    captions, ids = precomputed_lines(folder, images)
    write_regions(str(folder / f'{split}_ims.npy'), features)
    for name, lines in (('caps', captions), ('ids', ids)):
        (folder / f'{split}_{name}.txt').write_text('\n'.join(lines) + '\n', encoding='utf-8')
    return len(captions)
