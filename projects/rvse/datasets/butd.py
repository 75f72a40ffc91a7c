"""Bottom-up-attention features in the ``.tsv`` files of BUTD."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from projects.common.errors import InputError

__all__ = ['ButdImage', 'butd_offsets', 'read_butd', 'read_butd_at']

_FIELDS = ('image_id', 'image_w', 'image_h', 'num_boxes', 'boxes', 'features')


@dataclass
class ButdImage:
    """Hold one line of the file.

    Attributes:
        image_id: The id as written in the line.
        boxes: (N, 4) float32, XYXY in pixels.
        features: (N, C) float32.
    """

    image_id: str
    boxes: np.ndarray
    features: np.ndarray


def read_butd(path: str) -> Iterator[ButdImage]:
    """Yield the images of a ``.tsv`` file in order, one in memory at a time.

    Every line has the fields image_id, image_w, image_h, num_boxes, boxes and features, the last
    two as base64 of float32. A header line is skipped.

    Raises:
        ValueError: A line is malformed.
    """
    for _, number, line in _lines(path):
        yield _parse(line, f'{path}:{number}')


def butd_offsets(path: str) -> dict[str, int]:
    """Return the byte offset of every image's line, for reading the lines in any order.

    Raises:
        ValueError: An image occurs twice in the file.
    """
    offsets: dict[str, int] = {}
    for start, number, line in _lines(path):
        image_id = line.split(b'\t', 1)[0].decode('ascii', 'replace').strip()
        if image_id in offsets:
            raise InputError(f'{path}:{number}: the image {image_id!r} stands in the file twice')
        offsets[image_id] = start
    return offsets


def read_butd_at(path: str, offset: int) -> ButdImage:
    """Read the image whose line starts at ``offset`` (from :func:`butd_offsets`)."""
    with open(path, 'rb') as file:
        file.seek(offset)
        return _parse(file.readline(), f'{path}, byte {offset}')


def _lines(path: str) -> Iterator[tuple[int, int, bytes]]:
    """Yield offset, number and content of the lines with images."""
    start = 0
    with open(path, 'rb') as file:
        for number, line in enumerate(file, 1):
            if line.strip() and not (number == 1 and line.startswith(b'image_id')):
                yield start, number, line
            start += len(line)


def _parse(line: bytes, where: str) -> ButdImage:
    fields = line.rstrip(b'\r\n').split(b'\t')
    if len(fields) != len(_FIELDS):
        raise InputError(f'{where}: {len(fields)} fields, expected {", ".join(_FIELDS)}')
    try:
        count = int(fields[3])
        boxes, features = (
            np.frombuffer(base64.b64decode(field, validate=True), dtype='<f4')
            for field in fields[4:]
        )
        boxes, features = boxes.reshape(count, 4), features.reshape(count, -1)
    except (ValueError, binascii.Error) as error:
        raise InputError(
            f'{where}: num_boxes {fields[3][:20].decode("ascii", "replace")!r} with boxes and '
            f'features that are not base64 of so many rows of float32 ({error})'
        ) from None
    return ButdImage(fields[0].decode('ascii', 'replace').strip(), boxes, features)
