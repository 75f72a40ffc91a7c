"""The images of :mod:`.image_reader` in the pipelines of mmcv."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from typing import Any

from mmengine import fileio

from .image_reader import as_rgb, is_ordinary, open_image, read_content, unreadable

__all__ = ['BACKEND', 'AnyImageBackend', 'read_any_image']

BACKEND = 'any_image'
"""Name of :class:`AnyImageBackend` in ``backend_args``."""


class AnyImageBackend(fileio.LocalBackend):
    """Give mmcv's ``LoadImageFromFile`` images of any kind as it would read ordinary ones.

    Files of ordinary images are passed on as they are. All others are decoded by
    :func:`as_rgb` and passed on as BMP, whichever decoder the pipeline uses::

        dict(type='LoadImageFromFile', backend_args=dict(backend='any_image'))
    """

    def get(self, filepath: str | os.PathLike) -> bytes:
        """Return the content of an ordinary image file with the same pixels.

        Raises:
            ImageError: The file is empty, or is an image that cannot be decoded.
        """
        filepath = os.fspath(filepath)
        # a remote file is read as without this backend
        content = fileio.get(filepath) if '://' in filepath else read_content(filepath)
        try:
            image = open_image(content)
        except Exception:  # unknown or too large: the decoder of the pipeline decides
            return content
        with image:
            if is_ordinary(image):
                return content
            buffer = io.BytesIO()
            try:
                as_rgb(image).save(buffer, 'BMP')
            except Exception as error:
                raise unreadable(filepath, error, content) from error
        return buffer.getvalue()


fileio.register_backend(BACKEND, AnyImageBackend, force=True)


def read_any_image(transforms: Iterable[Any]) -> None:
    """Let the ``LoadImageFromFile`` of a pipeline read images of any kind, in place.

    Transforms with a file backend, decoder or colour type of their own, and subclasses, remain
    unchanged.
    """
    from mmcv.transforms import LoadImageFromFile

    for step in transforms:
        if (
            type(step) is LoadImageFromFile
            and step.color_type == 'color'
            and step.imdecode_backend in (None, 'cv2', 'pillow')
            and step.backend_args is None
            and step.file_client_args is None
        ):
            step.backend_args = dict(backend=BACKEND)
