"""Decode images of any kind to the same pixels, wherever they are read."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from ..errors import InputError

__all__ = [
    'MAX_PIXELS',
    'ImageError',
    'MissingImageError',
    'as_rgb',
    'content_key',
    'decode_image',
    'decode_pil',
    'image_size',
    'is_ordinary',
    'open_image',
    'orientation_is_sideways',
    'read_content',
    'read_image',
    'unreadable',
]

MAX_PIXELS = 89_478_485  # Pillow suspects a decompression bomb above the same limit

_FORMATS = (
    'JPEG', 'PNG', 'BMP', 'DIB', 'GIF', 'TIFF', 'WEBP', 'AVIF', 'HEIF', 'JPEG2000', 'PPM',
)  # fmt: skip
_ORIENTATION = 0x0112  # EXIF and TIFF
_PHOTOMETRIC = 262  # PhotometricInterpretation of TIFF; 0 if its zero is white
_SIDEWAYS = (5, 6, 7, 8)


class ImageError(InputError):
    """Report an image that cannot be read.

    Args:
        message: One line that names the image.
        image: The path of the image, or None if it is not a file.
        reason: A few words without the name, by which several such errors can be counted.
    """

    def __init__(
        self, message: str, image: str | None = None, reason: str = 'not readable'
    ) -> None:
        super().__init__(message, image, reason)  # all of them, for pickling
        self.image = image
        self.reason = reason

    def __str__(self) -> str:
        """Return the message."""
        return self.args[0]


class MissingImageError(FileNotFoundError):
    """Report an image file that does not exist."""

    reason = 'no such file'

    def __init__(self, message: str, image: str | None = None) -> None:
        super().__init__(message)
        self.image = image


# ------------------------------------------------------------------------------------ opening


@functools.cache
def _formats() -> tuple[str, ...]:
    """Return the formats that are read, by Pillow's names, as far as they are installed."""
    with contextlib.suppress(ImportError):
        import pillow_heif  # type: ignore[import-not-found]

        pillow_heif.register_heif_opener()
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def read_content(path: str | os.PathLike) -> bytes:
    """Return the bytes of an image file.

    Raises:
        MissingImageError: The file does not exist.
        ImageError: The path is a folder, or the file is empty or cannot be read.
    """
    path = os.fspath(path)
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        link = f', but a link to {os.readlink(path)}' if os.path.islink(path) else ''
        raise MissingImageError(f'image {path}: no such file{link}', path) from None
    except (OSError, ValueError) as error:  # a folder, no permission; a name with a null byte
        reason = getattr(error, 'strerror', None) or str(error)
        raise ImageError(f'image {path}: not readable ({reason})', path, reason) from None
    if not content:
        raise ImageError(f'image {path}: not readable (empty file)', path, 'empty file')
    return content


def open_image(source: str | os.PathLike | bytes, formats: Iterable[str] | None = None) -> Any:
    """Open an image with Pillow without decoding its pixels.

    Args:
        source: The file or its content.
        formats: Allowed formats, by Pillow's names. None allows JPEG, PNG, BMP, GIF, TIFF, WebP,
            AVIF, JPEG 2000, PNM and, if ``pillow_heif`` is installed, HEIC.

    Raises:
        OSError: The file does not exist, or has none of the formats.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    return Image.open(file, formats=_formats() if formats is None else tuple(formats))


def orientation_is_sideways(image: Image.Image) -> bool:
    """Return whether width and height of the upright image are those of the file, exchanged."""
    return image.getexif().get(_ORIENTATION, 1) in _SIDEWAYS


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """Read (width, height) in pixels of the upright image from the file header alone.

    Raises:
        FileNotFoundError: The file does not exist.
        ImageError: The file is not an image.
    """
    path = os.fspath(path)
    try:
        with open_image(path) as image:
            width, height = image.size
            if image.format == 'TIFF':  # some versions of Pillow have turned its size already
                width, height = image.tag_v2[256], image.tag_v2[257]
            if orientation_is_sideways(image):
                width, height = height, width
    except FileNotFoundError:
        raise
    except Exception as error:  # parsers raise almost any exception on damaged files
        raise unreadable(path, error) from None
    return width, height


def unreadable(name: str, error: Exception, content: bytes | None = None) -> ImageError:
    """Describe why a decoder failed; the name may be a path."""
    if isinstance(error, ImageError):  # of as_rgb, which does not know the name
        return ImageError(f'image {name}: {error}', name, error.reason)
    if isinstance(error, Image.DecompressionBombError):
        return _too_large(name, str(error), MAX_PIXELS)
    if not isinstance(error, UnidentifiedImageError):
        found = f'{type(error).__name__}: {" ".join(str(error).split())}'
        return ImageError(f'image {name}: not readable ({found})', name, 'damaged or cut off')
    if content is None:
        with contextlib.suppress(OSError), open(name, 'rb') as file:
            content = file.read(32)
    if content is not None and not content:
        return ImageError(f'image {name}: not readable (empty file)', name, 'empty file')
    install = ''
    if content is not None and content[4:8] == b'ftyp':
        avif = content[8:12] in (b'avif', b'avis')
        install = '; AVIF needs Pillow 11.3' if avif else '; HEIC needs: pip install pillow-heif'
    reason = f'no image of a known format{install}'
    return ImageError(f'image {name}: not readable ({reason})', name, reason)


def _too_large(name: str, found: str, limit: int) -> ImageError:
    message = f'image {name}: {found}; expected at most {limit:,} in all'
    return ImageError(message, name, 'too many pixels')


# ----------------------------------------------------------------------------------- decoding


def as_rgb(image: Image.Image) -> Image.Image:
    """Convert an image to RGB as a viewer shows it: upright, 8 bits per channel, on white.

    - Orientation (EXIF, TIFF or XMP) is applied.
    - Of 16 bits, the upper eight are kept. TIFF files whose zero is white are inverted.
    - Transparent pixels become white, and half transparent ones are blended with white.
    - CMYK, palettes, grey and 1 bit are converted by Pillow. Colour profiles are not applied.
    - For an animation, the current frame is used, which is the first one after opening.

    Raises:
        ImageError: The image has 32-bit values, for which no white point is defined.
    """
    white_is_zero = False
    if isinstance(image, TiffImageFile):
        white_is_zero = image.tag_v2.get(_PHOTOMETRIC) == 0
        # By its name, Pillow maps the file into memory, in a wrong shape if it is turned.
        filename, image.filename = image.filename, ''
        image.load()
        image.filename = filename
    deep = image.mode.startswith('I;16') or (image.mode == 'I' and image.format in ('PNG', 'PPM'))
    if image.mode in ('I', 'F') and not deep:
        low, high = image.getextrema()
        raise ImageError(
            f'32-bit values, {low:g} to {high:g}, of mode {image.mode!r}: expected 8 or 16 bits '
            'a channel; rescale the values to 0 to 255 or 0 to 65535',
            reason='32 bits a channel',
        )
    image = ImageOps.exif_transpose(image)
    if deep:  # Pillow would clip to 255
        values = (np.asarray(image) >> 8).astype(np.uint8)
        image = Image.fromarray(255 - values if white_is_zero else values)
    if image.has_transparency_data:
        image = image.convert('RGBA')
        return Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image).convert('RGB')
    return image.convert('RGB')


def is_ordinary(image: Image.Image) -> bool:
    """Return whether every decoder of mmcv yields the pixels of :func:`as_rgb`."""
    if image.format not in ('JPEG', 'MPO', 'PNG', 'BMP', 'WEBP') or image.mode not in ('L', 'RGB'):
        return False
    if image.has_transparency_data or (
        image.format == 'PNG' and getattr(image, 'is_animated', False)
    ):
        return False
    if b'Orientation' in image.info.get('xmp', b''):  # OpenCV only reads EXIF
        return False
    tiles = getattr(image, 'tile', None) or ()
    return not any(re.search(r';1[56]', str(tile[3])) for tile in tiles)  # bits of a channel


def decode_image(
    content: bytes,
    name: str,
    backend: str = 'cv2',
    max_pixels: int = MAX_PIXELS,
    flag: str = 'color',
) -> np.ndarray:
    """Decode an image to the pixels of :func:`as_rgb`, (H, W, 3) uint8 in BGR.

    Ordinary images, with 8 bits per channel and without transparency, are decoded by mmcv and
    therefore bit-equal to those of ``LoadImageFromFile``.

    Args:
        content: Content of the file.
        name: Path or other name for messages.
        backend: mmcv's decoder of ordinary images.
        max_pixels: Largest allowed product of width and height.
        flag: mmcv's flag. With any but 'color', mmcv decodes all images.

    Raises:
        ImageError: The image is damaged, too large, or of an unknown format.
    """
    import mmcv

    try:
        image = open_image(content)
    except Exception as error:  # parsers raise almost any exception on damaged files
        raise unreadable(name, error, content) from error
    with image:
        if flag == 'color' and not is_ordinary(image):
            return decode_pil(image, name, max_pixels)
        _check_size(image, name, max_pixels)
        try:
            decoded = mmcv.imfrombytes(content, flag=flag, backend=backend)
            if decoded is None:  # OpenCV does not say why; Pillow does
                image.load()
                raise OSError(f'{backend} cannot decode it')
        except Exception as error:
            raise unreadable(name, error, content) from error
    return decoded


def decode_pil(image: Image.Image, name: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Convert an image to the pixels of :func:`as_rgb`, (H, W, 3) uint8 in BGR.

    Raises:
        ImageError: The image is damaged, too large, or has 32-bit values.
    """
    _check_size(image, name, max_pixels)
    try:
        return np.ascontiguousarray(np.asarray(as_rgb(image))[..., ::-1])
    except Exception as error:  # Pillow decodes an opened file only here
        raise unreadable(name, error) from error


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise _too_large(name, f'{width:,} x {height:,} pixels', max_pixels)


def read_image(path: str | os.PathLike, channel_order: str = 'bgr') -> np.ndarray:
    """Read an image file as :func:`decode_image` does, (H, W, 3) uint8.

    Args:
        path: The file.
        channel_order: 'bgr' or 'rgb'.

    Raises:
        FileNotFoundError: The file does not exist.
        ImageError: The file is not an image, is damaged or is too large.
    """
    image = decode_image(read_content(path), os.fspath(path))
    return image if channel_order == 'bgr' else np.ascontiguousarray(image[..., ::-1])


def content_key(content: bytes) -> bytes:
    """Return what identifies the pixels of an image in caches: its content.

    Images that are not ordinary get a prefix, because earlier versions decoded them differently.
    """
    with contextlib.suppress(Exception), open_image(content) as image:
        if not is_ordinary(image):
            return b'as_rgb\0' + content
    return content
