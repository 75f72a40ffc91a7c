"""A vector store in Milvus: embedded (Milvus Lite), or on a server or cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from projects.common.errors import InputError
from projects.common.files.annotation_files import is_utf8

from .store import STATE_BYTES, Hit, VectorStore, check_vectors

__all__ = ['MilvusStore']

ROWS_AT_ONCE = 1000  # per request; Milvus limits messages to 64 MB
ROWS_LISTED = 16_384  # the most that Milvus returns at once
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
        space: str | None,
        create: bool = True,
        index_type: str = 'FLAT',
        token: str = '',
    ) -> None:
        if '://' not in place and not place.endswith('.db'):
            raise InputError(f'store milvus:{place}: expected a file that ends in .db, or a URL')
        self.milvus = _import_milvus()
        missing = f'store milvus:{place}: does not exist; index something first'
        if '://' not in place:
            if not (create and space) and not Path(place).exists():
                raise FileNotFoundError(missing)
            Path(place).parent.mkdir(parents=True, exist_ok=True)
        self.place = place
        self.index_type = index_type
        self.client = self.milvus.MilvusClient(uri=place, token=token)
        self._channels: int | None = None
        self._has_states = True
        others = [name for name in self.client.list_collections() if name.startswith('retrieval_')]
        if space is None and len(others) > 1:
            self.close()
            raise InputError(
                f'store milvus:{place}: it has entries of {len(others)} models; give the weights'
            )
        create = create and space is not None
        self.collection = others[0] if space is None and others else f'retrieval_{space}'
        if self.collection in others:
            fields = self.client.describe_collection(self.collection)['fields']
            self._channels = next(f['params']['dim'] for f in fields if f['name'] == 'vector')
            # earlier versions made none
            self._has_states = any(field['name'] == 'state' for field in fields)
            self.client.load_collection(self.collection)
        elif others:
            self.close()
            raise InputError(
                f'store milvus:{place}: made by another model or other weights, or by a version '
                'that read images otherwise; use those, or another store'
            )
        elif not create:
            self.close()
            raise FileNotFoundError(missing)

    def _create(self, channels: int) -> None:
        kind = self.milvus.DataType
        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field('name', kind.VARCHAR, is_primary=True, max_length=NAME_BYTES)
        schema.add_field('vector', kind.FLOAT_VECTOR, dim=channels)
        schema.add_field('state', kind.VARCHAR, max_length=STATE_BYTES)
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

    def add(
        self, names: Sequence[str], vectors: np.ndarray, states: Sequence[str] | None = None
    ) -> None:
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
        if self._has_states:
            for row, i in zip(rows, last.values()):
                row['state'] = states[i] if states is not None else ''
        for part in _parts(rows):
            self.client.upsert(self.collection, part)

    def remove(self, names: Sequence[str]) -> None:
        """Remove entries; see :meth:`VectorStore.remove`."""
        self._rows(names, 'name')  # raises for unknown ones
        for part in _parts(names):
            self.client.delete(self.collection, filter=_filter(part))

    def names(self) -> list[str]:
        """Return the names of all entries, sorted."""
        return sorted(row['name'] for row in self._all('name'))

    def __contains__(self, name: object) -> bool:
        """Return whether there is an entry of this name."""
        if self._channels is None or not isinstance(name, str) or not is_utf8(name):
            return False
        return bool(self.client.query(self.collection, filter=_filter([name])))

    def states(self) -> dict[str, str]:
        """Return the states of the entries that were added with one, by name."""
        if not self._has_states:
            return {}
        return {row['name']: row['state'] for row in self._all('name', 'state') if row['state']}

    def vectors(self, names: Sequence[str]) -> np.ndarray:
        """Return vectors (N, C); see :meth:`VectorStore.vectors`."""
        rows = self._rows(names, 'name', 'vector')
        found = [rows[name]['vector'] for name in names]
        return np.array(found, np.float32).reshape(len(names), self._channels or 0)

    def _rows(self, names: Sequence[str], *fields: str) -> dict[str, dict[str, Any]]:
        """Return the fields of entries by name.

        Raises:
            ValueError: A name is not in the store.
        """
        self.check_names(names)
        rows: dict[str, dict[str, Any]] = {}
        if self._channels is not None:
            for part in _parts(names):
                found = self.client.query(
                    self.collection, filter=_filter(part), output_fields=list(fields)
                )
                rows.update((row['name'], row) for row in found)
        for name in names:
            if name not in rows:
                raise InputError(f'store milvus:{self.place}: no entry {name!r}')
        return rows

    def _all(self, *fields: str) -> Iterator[dict[str, Any]]:
        if self._channels is None:
            return
        options: dict[str, Any] = dict(output_fields=list(fields))
        if '://' not in self.place:  # Milvus Lite logs an error about its iterator
            for start in range(0, len(self), ROWS_LISTED):
                yield from self.client.query(
                    self.collection, filter='', limit=ROWS_LISTED, offset=start, **options
                )
            return
        rows = self.client.query_iterator(self.collection, batch_size=ROWS_AT_ONCE, **options)
        while part := rows.next():
            yield from part
        rows.close()

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


def _parts(rows: Sequence[Any]) -> Iterator[Any]:
    return (rows[start : start + ROWS_AT_ONCE] for start in range(0, len(rows), ROWS_AT_ONCE))


def _filter(names: Sequence[str]) -> str:
    """Return an expression that selects entries; Milvus Lite has no parameters for values."""
    escapes = str.maketrans({'\\': r'\\', '"': r'\"', '\n': r'\n', '\r': r'\r', '\t': r'\t'})
    quoted = ', '.join(f'"{name.translate(escapes)}"' for name in names)
    return f'name in [{quoted}]'


def _import_milvus():
    try:
        import pymilvus
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "a store milvus:... needs Milvus's client: pip install -c requirements/constraints.txt "
            "'pymilvus[milvus_lite]'"
        ) from None
    return pymilvus
