"""Opening a store by its URI."""

from __future__ import annotations

import os

from projects.common.errors import InputError

from .faiss_store import FaissStore
from .milvus_store import MilvusStore
from .store import VectorStore

__all__ = ['open_store']


def open_store(
    uri: str | os.PathLike, space: str | None, create: bool = True, **kwargs
) -> VectorStore:
    """Open the store at a URI.

    Args:
        uri: A folder or ``faiss:FOLDER`` for faiss in the memory of this process, exact unless
            ``factory`` says otherwise; ``milvus:FILE.db`` for embedded Milvus Lite; or
            ``milvus:http://HOST:19530`` for a Milvus server or cluster, for galleries that outgrow
            a single machine.
        space: Identifies the model and weights that compute the vectors. None opens an existing
            store of any model, for example to list or remove entries.
        create: Create the store if it does not exist.
        kwargs: Additional arguments of the engine's class.

    Raises:
        FileNotFoundError: The store does not exist and ``create`` is not set.
        ModuleNotFoundError: The engine is not installed. The message names the package to install.
        ValueError: The store belongs to another space.
    """
    uri = os.fspath(uri)
    scheme, colon, place = uri.partition(':')
    if colon and scheme == 'milvus':
        return MilvusStore(place, space, create, **kwargs)
    if colon and scheme == 'faiss':
        return FaissStore(place, space, create, **kwargs)
    if '://' in uri:
        raise InputError(f'store {uri}: expected a folder, faiss:FOLDER, milvus:FILE.db or '
                         'milvus:http://HOST:PORT')  # fmt: skip
    return FaissStore(uri, space, create, **kwargs)
