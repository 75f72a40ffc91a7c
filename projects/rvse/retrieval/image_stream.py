"""Read images in parallel, encode them in batches, and encode the same content only once."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from projects.common.errors import InputError
from projects.common.files.image_reader import (
    ImageError,
    MissingImageError,
    content_key,
    read_content,
)
from projects.common.hooks.progress import track
from projects.common.inferencer import ImageInput, refuse_url
from projects.common.speed.products import fast_products

from .embedding_cache import EmbeddingCache

__all__ = ['ImageStream', 'ReadImage', 'cores', 'read_ahead']

_Item = TypeVar('_Item')
_Result = TypeVar('_Result')


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def read_ahead(
    function: Callable[[_Item], _Result], items: Iterable[_Item], ahead: int, threads: int
) -> Generator[_Result, None, None]:
    """Apply a function in several threads and yield its results in order.

    Args:
        function: Should spend its time in code that releases Python's lock, as decoders do.
        items: The arguments.
        ahead: Number of results that are kept at most before they are asked for.
        threads: Number of threads.
    """
    pool = ThreadPoolExecutor(threads, 'read')
    waiting: deque[Future[_Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass
class ReadImage:
    """Hold an image that has been read: its embedding, the model's input, or an error.

    Attributes:
        image: What was given.
        checksum: Identifies the content of a file, or None for arrays and PIL images.
        vector: The embedding (C,) float32. None if there is an error, or if an image of the same
            content has been in the stream already.
        error: Why the image cannot be read.
    """

    image: ImageInput
    checksum: str | None = None
    vector: np.ndarray | None = None
    error: ImageError | MissingImageError | None = None
    sample: dict[str, Any] | None = None
    cache_key: bytes | None = None


class ImageStream:
    """Turn images into embeddings.

    Args:
        load: Decodes an image, given as its content if it is a file, and applies the pipeline; the
            second argument is its path, or None. It is called by several threads.
        encode: Computes the embeddings (n, C) of what ``load`` has returned.
        cache: The cache, if there is one.
        batch_size: Number of images per batch.

    Raises:
        ValueError: ``batch_size`` is below 1.
    """

    def __init__(
        self,
        load: Callable[[ImageInput, str | None], dict[str, Any]],
        encode: Callable[[list[dict[str, Any]]], Tensor],
        cache: EmbeddingCache | None,
        batch_size: int,
    ) -> None:
        if batch_size < 1:
            raise InputError(f'batch_size={batch_size}: expected at least 1')
        self.load = load
        self.encode = encode
        self.cache = cache
        self.batch_size = batch_size

    def __call__(
        self, images: Iterable[ImageInput], known: Iterable[str] = ()
    ) -> Iterator[ReadImage]:
        """Yield all images in order; those of a batch together, when it has been encoded.

        Args:
            images: The images.
            known: Checksums of contents that need no embedding.
        """
        self._known = set(known)
        held: list[ReadImage] = []
        batch: list[ReadImage] = []
        with contextlib.closing(
            read_ahead(self._read, images, 2 * self.batch_size, cores())
        ) as read:
            for each in read:
                if each.checksum in self._known:
                    each.sample = each.vector = None  # another one was read at the same time
                elif each.sample is not None:
                    batch.append(each)
                if each.checksum is not None and each.error is None:
                    self._known.add(each.checksum)
                held.append(each)
                # what is not encoded need not wait if nothing before it does, nor for long
                if len(batch) in (0, self.batch_size) or len(held) > 8 * self.batch_size:
                    self._encode(batch)
                    yield from held
                    held, batch = [], []
        self._encode(batch)
        yield from held

    def encode_all(self, images: Sequence[ImageInput], show_progress: bool = False) -> np.ndarray:
        """Return the embeddings (N, C) float32 of all images.

        Raises:
            FileNotFoundError: An image does not exist.
            ValueError: An image cannot be read, or there are no images.
        """
        if not images:
            raise InputError('no images are given')
        vectors: list[np.ndarray] = []
        by_checksum: dict[str | None, np.ndarray] = {}
        show = show_progress and len(images) > self.batch_size
        for read in track(self(images), 'images', 'image', show, len(images)):
            if read.error is not None:
                raise read.error
            vector = by_checksum[read.checksum] if read.vector is None else read.vector
            by_checksum.setdefault(read.checksum, vector)
            vectors.append(vector)
        return np.stack(vectors)

    def _read(self, image: ImageInput) -> ReadImage:
        """Read an image in a thread."""
        read = ReadImage(image)
        path = os.fspath(image) if isinstance(image, (str, os.PathLike)) else None
        if path is not None:
            refuse_url('image', path, 'the image')
        try:
            content = read_content(path) if path is not None else image
            if isinstance(content, bytes):
                read.checksum = hashlib.blake2b(content, digest_size=16).hexdigest()
                if read.checksum in self._known:
                    return read
                if self.cache is not None:
                    read.cache_key = self.cache.key(b'images\0' + content_key(content))
                    read.vector = self.cache.get(read.cache_key)
            if read.vector is None:
                read.sample = self.load(content, path)
        except (ImageError, MissingImageError) as error:
            read.error = error
        return read

    @torch.no_grad()
    def _encode(self, batch: list[ReadImage]) -> None:
        if not batch:
            return
        with fast_products():
            vectors = self.encode([each.sample for each in batch if each.sample is not None])
        rows = vectors.float().cpu().numpy()
        if self.cache is not None:
            keys = {each.cache_key: i for i, each in enumerate(batch) if each.cache_key is not None}
            self.cache.put(list(keys), rows[list(keys.values())])
        for each, row in zip(batch, rows, strict=True):
            each.vector, each.sample = row, None
