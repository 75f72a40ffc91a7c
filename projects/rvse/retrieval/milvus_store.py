"""A vector store in Milvus: embedded (Milvus Lite), or on a server or cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from projects.common.errors import InputError
from projects.common.files.annotation_files import is_utf8

from .store import Hit, VectorStore, check_vectors

__all__ = ['MilvusStore']

ROWS_AT_ONCE = 1000  # per insertion; Milvus limits messages to 64 MB
NAME_BYTES = 4096


class MilvusStore(VectorStore):
    """Store vectors in a Milvus collection with inner products, named after the space.

    Args:
        place: A Milvus Lite file (ending in ``.db``) or the URL of a server.
        space, create: See :func:`open_store`.
        index_type: ``FLAT`` is exact. A cluster offers others, such as ``HNSW`` and ``DISKANN``.
        token: Token for a server that requires one, such as ``user:password``.

    Raises:
        FileNotFoundError: The store does not exist and ``create`` is not set.
        ModuleNotFoundError: pymilvus is not installed.
        ValueError: The place is not such a file or URL, or only has vectors of other spaces.
    """

    def __init__(
        self,
        place: str,
        space: str,
        create: bool = True,
        index_type: str = 'FLAT',
        token: str = '',
    ) -> None:
        if '://' not in place and not place.endswith('.db'):
            raise InputError(f'store milvus:{place}: expected a file that ends in .db, or a URL')
        self.milvus = _import_milvus()
        missing = f'store milvus:{place}: does not exist; index something first'
        if '://' not in place:
            if not create and not Path(place).exists():
                raise FileNotFoundError(missing)
            Path(place).parent.mkdir(parents=True, exist_ok=True)
        self.place = place
        self.collection = f'retrieval_{space}'
        self.index_type = index_type
        self.client = self.milvus.MilvusClient(uri=place, token=token)
        self._channels: int | None = None
        others = [name for name in self.client.list_collections() if name.startswith('retrieval_')]
        if self.collection in others:
            fields = self.client.describe_collection(self.collection)['fields']
            self._channels = next(f['params']['dim'] for f in fields if f['name'] == 'vector')
            self.client.load_collection(self.collection)
        elif others:
            self.close()
            raise InputError(
                f'store milvus:{place}: made by another model or other weights; use those, or '
                'another store'
            )
        elif not create:
            self.close()
            raise FileNotFoundError(missing)

    def _create(self, channels: int) -> None:
        kind = self.milvus.DataType
        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field('name', kind.VARCHAR, is_primary=True, max_length=NAME_BYTES)
        schema.add_field('vector', kind.FLOAT_VECTOR, dim=channels)
        index = self.client.prepare_index_params()
        index.add_index('vector', index_type=self.index_type, metric_type='IP')
        # 'Strong': the next search finds everything added before
        self.client.create_collection(
            self.collection, schema=schema, index_params=index, consistency_level='Strong'
        )
        self._channels = channels

    def __len__(self) -> int:
        """Return the number of entries, as counted by the server."""
        if self._channels is None:
            return 0
        found = self.client.query(self.collection, filter='', output_fields=['count(*)'])
        return int(found[0]['count(*)'])

    def check_names(self, names: Sequence[str]) -> None:
        """Check that all names are UTF-8 and short enough for a key."""
        for name in names:
            if not is_utf8(name):
                raise InputError(
                    f'store milvus:{self.place}: the name {name!r} is not UTF-8, which Milvus '
                    'needs; rename the file, or use a folder as the store'
                )
            if (size := len(name.encode())) > NAME_BYTES:
                raise InputError(
                    f'store milvus:{self.place}: a name of {size} bytes, expected at most '
                    f'{NAME_BYTES}: {name[:60]!r}'
                )

    def add(self, names: Sequence[str], vectors: np.ndarray) -> None:
        """Add or replace entries, in chunks that the server accepts.

        Raises:
            ValueError: See :meth:`VectorStore.add`; also if a name is longer than a key may be.
        """
        vectors = check_vectors(vectors, self._channels, f'store milvus:{self.place}')
        if len(names) != len(vectors):
            raise InputError(
                f'store milvus:{self.place}: {len(names)} names, {len(vectors)} vectors'
            )
        self.check_names(names)
        last = {name: i for i, name in enumerate(names)}
        if last and self._channels is None:
            self._create(vectors.shape[1])
        rows = [dict(name=name, vector=vectors[i]) for name, i in last.items()]
        for start in range(0, len(rows), ROWS_AT_ONCE):
            self.client.upsert(self.collection, rows[start : start + ROWS_AT_ONCE])

    def search(self, queries: np.ndarray, top_k: int) -> list[list[Hit]]:
        """Search with the index of the collection; see :meth:`VectorStore.search`."""
        if not len(self):
            raise InputError(f'store milvus:{self.place}: it is empty; index something first')
        queries = check_vectors(queries, self._channels, f'store milvus:{self.place}')
        found = self.client.search(
            self.collection, data=list(queries), limit=top_k, output_fields=['name']
        )
        return [
            [Hit(hit['entity']['name'], float(hit['distance'])) for hit in row] for row in found
        ]

    def save(self) -> None:
        """Flush the collection, so that the server seals the added entries."""
        if self._channels is not None:
            self.client.flush(self.collection)

    def close(self) -> None:
        """Close the connection."""
        self.client.close()


def _import_milvus():
    try:
        import pymilvus
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "a store milvus:... needs Milvus's client: pip install -c requirements/constraints.txt "
            "'pymilvus[milvus_lite]'"
        ) from None
    return pymilvus
