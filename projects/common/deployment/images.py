"""Images for exported networks: decoding, and resizing like the test pipelines."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ..errors import InputError
from ..files.image_reader import decode_image, decode_pil, read_content

__all__ = ['ImageInput', 'STEPS', 'load_image', 'resize', 'stack_rgb']

ImageInput = str | os.PathLike | bytes | np.ndarray | Image.Image
_CV2 = {
    'nearest': cv2.INTER_NEAREST,
    'bilinear': cv2.INTER_LINEAR,
    'bicubic': cv2.INTER_CUBIC,
    'area': cv2.INTER_AREA,
    'lanczos': cv2.INTER_LANCZOS4,
}
_PILLOW = {
    name: getattr(Image.Resampling, name.upper()) for name in ('nearest', 'bilinear', 'bicubic')
}


def load_image(image: ImageInput) -> np.ndarray:
    """Return an image (H, W, 3) uint8 in BGR from a path, a file's content, an array or PIL.

    The pixels are those that the inferencers decode. Arrays are (H, W, 3) uint8 in BGR already.

    Raises:
        FileNotFoundError: The file does not exist.
        InputError: The image cannot be decoded, or an array has another shape or type.
    """
    if isinstance(image, (str, os.PathLike)):
        return decode_image(read_content(image), os.fspath(image))
    if isinstance(image, bytes):
        return decode_image(image, 'given')
    if isinstance(image, Image.Image):
        return decode_pil(image, 'given')
    if not isinstance(image, np.ndarray):
        raise InputError(f'image of type {type(image).__name__}: expected a path, bytes or pixels')
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise InputError(
            f'image of shape {image.shape} and type {image.dtype}: expected (H, W, 3) uint8'
        )
    return image


def _resample(image: np.ndarray, size: tuple[int, int], step: Mapping[str, Any]) -> np.ndarray:
    """Resize to (width, height) like ``mmcv.imresize``."""
    if step['backend'] == 'pillow':
        method = _PILLOW[step['interpolation']]
        return np.array(Image.fromarray(image).resize(size, method))
    return cv2.resize(image, size, interpolation=_CV2[step['interpolation']])


def _scale(image: np.ndarray, step: Mapping[str, Any]) -> np.ndarray:
    """Resize to ``size``, or to the largest size within it that keeps the aspect ratio."""
    width, height = step['size']
    if step['keep_ratio']:
        old_height, old_width = image.shape[:2]
        factor = min(
            max(width, height) / max(old_height, old_width),
            min(width, height) / min(old_height, old_width),
        )
        width, height = (int(side * factor + 0.5) for side in (old_width, old_height))
    return _resample(image, (width, height), step)


def _edge(image: np.ndarray, step: Mapping[str, Any]) -> np.ndarray:
    """Resize one edge to ``length``, keeping the aspect ratio, like mmpretrain's ResizeEdge."""
    height, width = image.shape[:2]
    by_width = {'short': width < height, 'long': width > height, 'width': True, 'height': False}
    length = step['length']
    if by_width[step['edge']]:
        size = (length, int(length * height / width))
    else:
        size = (int(length * width / height), length)
    return _resample(image, size, step)


def _center_crop(image: np.ndarray, step: Mapping[str, Any]) -> np.ndarray:
    """Crop the center to ``size`` (width, height), like mmpretrain's CenterCrop."""
    width, height = step['size']
    top = max(0, round((image.shape[0] - height) / 2.0))
    left = max(0, round((image.shape[1] - width) / 2.0))
    return image[top : top + height, left : left + width]


def _align_corners(image: np.ndarray, step: Mapping[str, Any]) -> np.ndarray:
    """Interpolate between the centers of the corner pixels, in float32."""

    def weights(new: int, old: int) -> np.ndarray:
        place = np.arange(new) * ((old - 1) / (new - 1) if new > 1 else 0.0)
        return np.maximum(1 - np.abs(place[:, None] - np.arange(old)), 0).astype(np.float32)

    width, height = step['size']
    rows, columns = weights(height, image.shape[0]), weights(width, image.shape[1])
    pixels = image.astype(np.float32)
    return np.einsum('yh,hwc,xw->yxc', rows, pixels, columns, optimize=True)


STEPS: dict[str, Callable[[np.ndarray, Mapping[str, Any]], np.ndarray]] = {
    'scale': _scale,
    'edge': _edge,
    'center_crop': _center_crop,
    'align_corners': _align_corners,
}
"""Steps of test pipelines by their names in descriptions."""


def resize(image: np.ndarray, steps: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Apply the steps of a description to an image (H, W, 3) in BGR.

    Raises:
        InputError: A step is unknown.
    """
    for number, step in enumerate(steps):
        if step.get('step') not in STEPS:
            raise InputError(
                f'resize[{number}].step: found {step.get("step")!r}, expected one of {list(STEPS)}'
            )
        image = STEPS[step['step']](image, step)
    return image


def stack_rgb(
    images: Sequence[np.ndarray], divisor: int = 1, fill: Sequence[float] = (0, 0, 0)
) -> np.ndarray:
    """Convert images (h, w, 3) in BGR to a batch (B, 3, H, W) float32 in RGB.

    Smaller images, and sides that are no multiple of ``divisor``, are filled at the right and at
    the bottom with the color ``fill``, in RGB.
    """
    height, width = (
        -(-max(image.shape[axis] for image in images) // divisor) * divisor for axis in (0, 1)
    )
    batch = np.empty((len(images), 3, height, width), np.float32)
    batch[:] = np.asarray(fill, np.float32)[:, None, None]
    for row, image in zip(batch, images):
        row[:, : image.shape[0], : image.shape[1]] = image[..., ::-1].transpose(2, 0, 1)
    return batch
