"""Region features on disk: memory-mapped, each picture's stored once."""

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
    """Features of the regions of pictures in a ``.npy``, read row by row.

    Three layouts: (pictures, regions, channels), the released ``*_ims.npy``; (regions of all
    pictures, channels) with the first region of each picture in ``*_offsets.npy`` beside it,
    (pictures + 1,), where pictures have different numbers of them; (pictures, channels) without
    that file, one feature a picture.

    Args:
        path: The ``.npy``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no array of numbers of these shapes.
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
        """Number of pictures."""
        return len(self.features) if self.offsets is None else len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        """(N, C) float32, a copy."""
        if self.offsets is not None:
            part = self.features[self.offsets[row] : self.offsets[row + 1]]
        else:
            part = np.atleast_2d(self.features[row])
        return np.array(part, dtype=np.float32)


def offsets_file(path: str) -> str:
    """``test_offsets.npy`` of ``test_ims.npy``."""
    return path.removesuffix('.npy').removesuffix('_ims') + '_offsets.npy'


def _map(path: str) -> np.ndarray:
    if not os.path.isfile(path):
        raise FileNotFoundError(f'{path}: no such file of region features')
    return read_npy(path, mmap_mode='r')


def write_regions(path: str, pictures: Iterable[np.ndarray]) -> int:
    """Writes the features of pictures, one after the other, and returns how many there were.

    Memory is that of one picture. Pictures with equal numbers of regions become one array with
    three axes, others one with two and the offsets beside it.

    Args:
        path: The ``*_ims.npy`` to write.
        pictures: (N_i, C) each.

    Raises:
        ValueError: There is none, or a picture has other channels than the first.
    """
    raw, whole, channels = f'{path}.part', f'{path}.whole', None
    counts: list[int] = []
    try:
        with open(raw, 'wb') as file:
            for features in pictures:
                if features.ndim != 2 or not len(features):
                    raise InputError(
                        f'{path}: picture {len(counts)} has features of shape {features.shape}, '
                        'expected (regions, channels)'
                    )
                channels = channels or features.shape[1]
                if features.shape[1] != channels:
                    raise InputError(
                        f'{path}: picture {len(counts)} has {features.shape[1]} channels, '
                        f'those before {channels}'
                    )
                file.write(np.ascontiguousarray(features, dtype='<f4').tobytes())
                counts.append(len(features))
        if not counts:
            raise InputError(f'{path}: no picture to write')
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
        os.replace(whole, path)  # last: what is there under this name is whole
    finally:
        for part in (raw, whole):
            Path(part).unlink(missing_ok=True)
    return len(counts)


@TRANSFORMS.register_module()
class LoadRegions(BaseTransform):
    """Puts a picture's features, (N, C) float32, under ``regions``.

    Follow it with ``dict(type='mmpretrain.PackInputs', input_key='regions', ...)``. Each worker
    maps the file by itself.

    Required keys: ``region_file``, ``region_row``.
    """

    def __init__(self) -> None:
        self._stores: dict[str, RegionStore] = {}

    def __getstate__(self) -> dict:
        """Without the mapped files, which would travel to the workers as their content."""
        return {'_stores': {}}

    def transform(self, results: dict) -> dict:
        """Adds ``regions``."""
        path = results['region_file']
        if path not in self._stores:
            self._stores[path] = RegionStore(path)
        results['regions'] = torch.from_numpy(self._stores[path][results['region_row']])
        return results
