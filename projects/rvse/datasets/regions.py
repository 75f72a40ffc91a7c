"""Memory-mapped region features, stored once per image."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from projects.common.errors import InputError
from projects.common.files.array_files import read_npy

__all__ = ['LoadRegions', 'RegionStore', 'write_regions']


class RegionStore:
    """Read the region features of images from a ``.npy`` file, row by row.

    There are three layouts: (images, regions, channels), the released ``*_ims.npy``; (regions of
    all images, channels) for different numbers of regions, with the first region of each image in
    ``*_offsets.npy`` next to it, (images + 1,); and (images, channels) without that file, with one
    feature per image.

    Args:
        path: Path of the ``.npy`` file.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not an array of floats of one of these shapes.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.features = _map(path)
        offsets = offsets_file(path)
        self.offsets = np.asarray(_map(offsets)) if os.path.isfile(offsets) else None
        wanted = (2, 3) if self.offsets is None else (2,)
        if self.features.ndim not in wanted or self.features.dtype.kind != 'f':
            raise InputError(
                f'{path}: {self.features.dtype} of shape {self.features.shape}, expected floats '
                f'with {" or ".join(map(str, wanted))} axes'
            )
        if self.offsets is not None and (
            self.offsets.ndim != 1
            or self.offsets.dtype.kind not in 'iu'
            or len(self.offsets) < 2
            or self.offsets[0] != 0
            or self.offsets[-1] != len(self.features)
            or (np.diff(self.offsets) < 1).any()
        ):
            raise InputError(
                f'{offsets}: expected increasing numbers from 0 to the {len(self.features)} rows '
                f'of {path}'
            )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.features) if self.offsets is None else len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        """Return a copy of the features (N, C) float32 of an image."""
        if self.offsets is not None:
            part = self.features[self.offsets[row] : self.offsets[row + 1]]
        else:
            part = np.atleast_2d(self.features[row])
        return np.array(part, dtype=np.float32)


def offsets_file(path: str) -> str:
    """Return the path of the offsets: ``test_offsets.npy`` for ``test_ims.npy``."""
    return path.removesuffix('.npy').removesuffix('_ims') + '_offsets.npy'


def _map(path: str) -> np.ndarray:
    if not os.path.isfile(path):
        raise FileNotFoundError(f'{path}: no such file of region features')
    return read_npy(path, mmap_mode='r')


def write_regions(path: str, images: Iterable[np.ndarray]) -> int:
    """Write the features of images one after the other and return the number of images.

    Only one image is in memory at a time. If all images have the same number of regions, the array
    has three axes, otherwise two, with the offsets in a second file.

    Args:
        path: Path of the ``*_ims.npy`` file to write.
        images: Features (N_i, C) of each image.

    Raises:
        ValueError: There are no images, or the number of channels differs between images.
    """
    raw, whole, channels = f'{path}.part', f'{path}.whole', None
    counts: list[int] = []
    try:
        with open(raw, 'wb') as file:
            for features in images:
                if features.ndim != 2 or not len(features):
                    raise InputError(
                        f'{path}: image {len(counts)} has features of shape {features.shape}, '
                        'expected (regions, channels)'
                    )
                channels = channels or features.shape[1]
                if features.shape[1] != channels:
                    raise InputError(
                        f'{path}: image {len(counts)} has {features.shape[1]} channels, '
                        f'those before {channels}'
                    )
                file.write(np.ascontiguousarray(features, dtype='<f4').tobytes())
                counts.append(len(features))
        if not counts:
            raise InputError(f'{path}: no image to write')
        equal = len(set(counts)) == 1
        shape = (len(counts), counts[0], channels) if equal else (sum(counts), channels)
        offsets = Path(offsets_file(path))
        if equal:
            offsets.unlink(missing_ok=True)
        else:
            np.save(offsets, np.concatenate([[0], np.cumsum(counts)]))
        with open(whole, 'wb') as out, open(raw, 'rb') as file:
            header = {'descr': '<f4', 'fortran_order': False, 'shape': shape}
            np.lib.format.write_array_header_1_0(out, header)
            while chunk := file.read(1 << 24):
                out.write(chunk)
        os.replace(whole, path)  # last, so that a file of this name is always complete
    finally:
        for part in (raw, whole):
            Path(part).unlink(missing_ok=True)
    return len(counts)


@TRANSFORMS.register_module()
class LoadRegions(BaseTransform):
    """Load the features (N, C) float32 of an image as ``regions``.

    Use it before ``dict(type='mmpretrain.PackInputs', input_key='regions', ...)``. Every worker
    maps the file itself.

    Required keys: ``region_file``, ``region_row``.
    """

    def __init__(self) -> None:
        self._stores: dict[str, RegionStore] = {}

    def __getstate__(self) -> dict:
        """Drop the mapped files, whose content would be sent to the workers."""
        return {'_stores': {}}

    def transform(self, results: dict) -> dict:
        """Add ``regions`` to the results."""
        path = results['region_file']
        if path not in self._stores:
            self._stores[path] = RegionStore(path)
        results['regions'] = torch.from_numpy(self._stores[path][results['region_row']])
        return results
