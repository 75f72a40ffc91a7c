"""A vector store in the memory of the process, searched by faiss and saved in a folder."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from projects.common.errors import InputError
from projects.common.files.annotation_files import check_fields, is_utf8, json_bytes, read_json
from projects.common.files.atomic import check_writable, folder_locked, write_atomically

from .store import Hit, VectorStore, check_vectors

__all__ = ['FaissStore']


class FaissStore(VectorStore):
    """Store vectors in a faiss index of inner products.

    Args:
        folder: Folder of the store. :meth:`save` writes ``store.json`` last and atomically, so an
            interruption leaves the previous store intact.
        space, create: See :func:`open_store`.
        factory: faiss's ``index_factory`` string. ``Flat`` is exact and the only one that can
            replace entries. ``HNSW32`` or ``IVF4096,Flat`` are faster but approximate, which
            costs recall when searching images with captions.

    Raises:
        FileNotFoundError: The store does not exist and ``create`` is not set.
        ModuleNotFoundError: faiss is not installed.
        ValueError: The folder does not contain a store, or one of another space or factory.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        space: str,
        create: bool = True,
        factory: str = 'Flat',
    ) -> None:
        self.faiss = _import_faiss()
        self.folder = Path(folder)
        if not is_utf8(str(folder)):  # faiss opens no other names
            raise InputError(f'store {self.folder}: expected a name of a folder in UTF-8')
        self.space = space
        self.factory = factory
        self.index: Any = None
        self._names: dict[int, str] = {}
        self._ids: dict[str, int] = {}
        self._next = 0
        self._generation = 0
        if (self.folder / 'store.json').is_file():
            with folder_locked(self.folder, shared=True):
                self._load()
        elif self.folder.is_dir() and not all(map(_is_ours, self.folder.iterdir())):
            raise InputError(f'store {self.folder}: the folder is not empty and has no store.json')
        elif not create:
            raise FileNotFoundError(f'store {self.folder}: does not exist; index something first')

    def _load(self) -> None:
        where = f'store {self.folder}'
        try:
            content = read_json(self.folder / 'store.json')
            check_fields(content, 'store.json', space=str, factory=str, generation=int)
            space, factory = content['space'], content['factory']
            self._generation = content['generation']
            entries = read_json(self._file('names', 'json'))
            check_fields(entries, 'names', **dict.fromkeys(entries, str))
            self._names = {int(number): name for number, name in entries.items()}
            self.index = self.faiss.read_index(str(self._file('vectors', 'faiss')))
            numbers = self.faiss.vector_to_array(self.index.id_map)
        except (OSError, ValueError, TypeError, AttributeError, RuntimeError, MemoryError) as error:
            raise InputError(f'{where}: damaged ({" ".join(str(error).split())})') from None
        if space != self.space:
            raise InputError(
                f'{where}: made by another model or other weights; use those, or another store'
            )
        if factory != self.factory:
            raise InputError(f'{where}: factory={self.factory!r}, but it has {factory!r}')
        if self.index.ntotal != len(self._names):
            raise InputError(f'{where}: {self.index.ntotal} vectors, but {len(self._names)} names')
        if not np.array_equal(np.sort(numbers), sorted(self._names)):
            raise InputError(f'{where}: damaged (its vectors have other numbers than its names)')
        self._ids = {name: number for number, name in self._names.items()}
        self._next = max(self._names, default=-1) + 1

    def _file(self, name: str, suffix: str) -> Path:
        return self.folder / f'{name}.{self._generation}.{suffix}'

    @property
    def incremental(self) -> bool:  # type: ignore[override]
        """Return whether the index is trained or needs no training, as Flat and HNSW do."""
        trained = self.index is not None and self.index.is_trained
        return trained or bool(re.fullmatch(r'(HNSW\d+,?)?(Flat)?', self.factory))

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._names)

    def check_names(self, names: Sequence[str]) -> None:
        """Check that the folder can be written to, and that no entry has to be replaced in vain."""
        check_writable(self.folder)
        self._check_replaced(names)

    def _check_replaced(self, names: Sequence[str]) -> None:
        known = next((name for name in names if name in self._ids), None)
        if known is not None and self.factory != 'Flat':
            raise InputError(
                f'store {self.folder}: {known!r} is there already, and an index {self.factory!r} '
                'cannot replace it'
            )

    def add(self, names: Sequence[str], vectors: np.ndarray) -> None:
        """Add or replace entries; an index that needs training is trained on the first ones.

        Raises:
            ValueError: See :meth:`VectorStore.add`; also if a name exists already in an index that
                cannot replace it (any but 'Flat').
        """
        self._check_replaced(names)
        channels = None if self.index is None else self.index.d
        vectors = check_vectors(vectors, channels, f'store {self.folder}')
        # the last vector of a duplicate name wins
        last = {name: i for i, name in enumerate(names)}
        if len(names) != len(vectors):
            raise InputError(f'store {self.folder}: {len(names)} names, {len(vectors)} vectors')
        if not last:
            return
        if self.index is None:
            metric = self.faiss.METRIC_INNER_PRODUCT
            self.index = self.faiss.index_factory(
                vectors.shape[1], f'IDMap2,{self.factory}', metric
            )
        if not self.index.is_trained:
            self.index.train(vectors)
        known = [self._ids[name] for name in last if name in self._ids]
        if known:
            self.index.remove_ids(np.array(known, dtype=np.int64))
            for number in known:
                del self._names[number]
        numbers = np.arange(self._next, self._next + len(last), dtype=np.int64)
        chosen = vectors if len(last) == len(names) else vectors[list(last.values())]
        self.index.add_with_ids(chosen, numbers)
        self._next += len(last)
        for name, number in zip(last, numbers.tolist()):
            self._names[number] = name
            self._ids[name] = number

    def search(self, queries: np.ndarray, top_k: int) -> list[list[Hit]]:
        """Search exactly, or approximately if the index is; see :meth:`VectorStore.search`."""
        if not len(self):
            raise InputError(f'store {self.folder}: it is empty; index something first')
        queries = check_vectors(queries, self.index.d, f'store {self.folder}')
        scores, numbers = self.index.search(queries, min(top_k, len(self)))
        return [
            [Hit(self._names[n], float(s)) for s, n in zip(*row) if n >= 0]
            for row in zip(scores, numbers.tolist())
        ]

    def save(self) -> None:
        """Write new files, reference them in ``store.json``, then remove the old ones.

        Raises:
            ValueError: Another process has saved since this one opened the store.
        """
        if self.index is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with folder_locked(self.folder):
            self._save()

    def _save(self) -> None:
        note = self.folder / 'store.json'
        there = read_json(note)['generation'] if note.is_file() else 0
        if there != self._generation:
            raise InputError(
                f'store {self.folder}: another process has saved into it since it was opened; '
                'open it again'
            )
        try:
            self._generation += 1
            self._write()
        except BaseException:
            self._generation -= 1
            raise

    def _write(self) -> None:
        self.faiss.write_index(self.index, str(self._file('vectors', 'faiss')))
        self._file('names', 'json').write_bytes(json_bytes(self._names))
        content = dict(
            space=self.space,
            factory=self.factory,
            entries=len(self),
            channels=self.index.d,
            generation=self._generation,
        )
        write_atomically(self.folder / 'store.json', json.dumps(content, indent=2).encode())
        current = {self._file('vectors', 'faiss'), self._file('names', 'json')}
        # remove old files and leftovers of interrupted saves
        for path in [*self.folder.glob('vectors.*.faiss'), *self.folder.glob('names.*.json')]:
            if path not in current:
                path.unlink()


def _is_ours(path: Path) -> bool:
    """Return whether a file may be left by an interrupted first :meth:`FaissStore.save`."""
    return bool(re.fullmatch(r'vectors\.1\.faiss|names\.1\.json|\.store\.json\.partial', path.name))


def _import_faiss():
    try:
        import faiss
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            'a store in a folder needs faiss: pip install -c requirements/constraints.txt faiss-cpu'
        ) from None
    return faiss
