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

_FILES = (('vectors', 'faiss'), ('names', 'json'), ('states', 'json'))


class FaissStore(VectorStore):
    """Store vectors in a faiss index of inner products.

    Args:
        folder: Folder of the store. :meth:`save` writes ``store.json`` last and atomically, so an
            interruption leaves the previous store intact.
        space, create: See :func:`open_store`.
        factory: faiss's ``index_factory`` string. ``Flat`` is exact and the only one that can
            replace and remove entries. ``HNSW32`` or ``IVF4096,Flat`` are faster but approximate,
            which costs recall when searching images with captions.

    Raises:
        FileNotFoundError: The store does not exist and ``create`` is not set.
        ModuleNotFoundError: faiss is not installed.
        ValueError: The folder does not contain a store, or one of another space or factory.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        space: str | None,
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
        self._states: dict[str, str] = {}
        self._next = 0
        self._generation = 0
        if (self.folder / 'store.json').is_file():
            with folder_locked(self.folder, shared=True):
                self._load()
        elif self.folder.is_dir() and not all(map(_is_ours, self.folder.iterdir())):
            raise InputError(f'store {self.folder}: the folder is not empty and has no store.json')
        elif not create or space is None:
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
            if self._file('states', 'json').is_file():  # not in stores of earlier versions
                self._states = read_json(self._file('states', 'json'))
                check_fields(self._states, 'states', **dict.fromkeys(self._states, str))
            self.index = self.faiss.read_index(str(self._file('vectors', 'faiss')))
            numbers = self.faiss.vector_to_array(self.index.id_map)
        except (OSError, ValueError, TypeError, AttributeError, RuntimeError, MemoryError) as error:
            raise InputError(f'{where}: damaged ({" ".join(str(error).split())})') from None
        self.space = self.space if self.space is not None else space
        if space != self.space:
            raise InputError(
                f'{where}: made by another model or other weights, or by a version that read '
                'images otherwise; use those, or another store'
            )
        if factory != self.factory:
            raise InputError(f'{where}: factory={self.factory!r}, but it has {factory!r}')
        if self.index.ntotal != len(self._names):
            raise InputError(f'{where}: {self.index.ntotal} vectors, but {len(self._names)} names')
        if not np.array_equal(np.sort(numbers), sorted(self._names)):
            raise InputError(f'{where}: damaged (its vectors have other numbers than its names)')
        self._ids = {name: number for number, name in self._names.items()}
        if not self._states.keys() <= self._ids.keys():
            raise InputError(f'{where}: damaged (it has states of entries that it lacks)')
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

    def add(
        self, names: Sequence[str], vectors: np.ndarray, states: Sequence[str] | None = None
    ) -> None:
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
        self._drop([name for name in last if name in self._ids])
        numbers = np.arange(self._next, self._next + len(last), dtype=np.int64)
        chosen = vectors if len(last) == len(names) else vectors[list(last.values())]
        self.index.add_with_ids(chosen, numbers)
        self._next += len(last)
        for name, number in zip(last, numbers.tolist()):
            self._names[number] = name
            self._ids[name] = number
        if states is not None:
            self._states.update((name, states[i]) for name, i in last.items())

    def _drop(self, names: Sequence[str]) -> None:
        """Remove known entries at once, because each removal passes over the whole index."""
        if not names:
            return
        numbers = [self._ids.pop(name) for name in names]
        self.index.remove_ids(np.array(numbers, dtype=np.int64))
        for name, number in zip(names, numbers):
            del self._names[number]
            self._states.pop(name, None)

    def _check_known(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self._ids:
                raise InputError(f'store {self.folder}: no entry {name!r}')

    def remove(self, names: Sequence[str]) -> None:
        """Remove entries.

        Raises:
            ValueError: See :meth:`VectorStore.remove`; also if the index cannot remove entries (any
                but 'Flat').
        """
        self._check_known(names)
        if names and self.factory != 'Flat':
            raise InputError(
                f'store {self.folder}: an index {self.factory!r} cannot remove entries; index anew'
            )
        self._drop(list(dict.fromkeys(names)))

    def names(self) -> list[str]:
        """Return the names of all entries, sorted."""
        return sorted(self._ids)

    def __contains__(self, name: object) -> bool:
        """Return whether there is an entry of this name."""
        return name in self._ids

    def states(self) -> dict[str, str]:
        """Return the states of the entries that were added with one, by name."""
        return dict(self._states)

    def vectors(self, names: Sequence[str]) -> np.ndarray:
        """Return vectors (N, C); those of an index of codes are approximate."""
        self._check_known(names)
        if not names:
            return np.zeros((0, 0 if self.index is None else self.index.d), np.float32)
        lists = self.faiss.try_extract_index_ivf(self.index)
        if lists is not None and lists.direct_map.no():
            lists.make_direct_map()
        return self.index.reconstruct_batch([self._ids[name] for name in names])

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
        self._file('states', 'json').write_bytes(json_bytes(self._states))
        content = dict(
            space=self.space,
            factory=self.factory,
            entries=len(self),
            channels=self.index.d,
            generation=self._generation,
        )
        write_atomically(self.folder / 'store.json', json.dumps(content, indent=2).encode())
        # remove old files and leftovers of interrupted saves
        for name, suffix in _FILES:
            for path in self.folder.glob(f'{name}.*.{suffix}'):
                if path != self._file(name, suffix):
                    path.unlink()


def _is_ours(path: Path) -> bool:
    """Return whether a file may be left by an interrupted first :meth:`FaissStore.save`."""
    first = [f'{name}.1.{suffix}' for name, suffix in _FILES]
    return path.name in (*first, '.store.json.partial')


def _import_faiss():
    try:
        import faiss
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            'a store in a folder needs faiss: pip install -c requirements/constraints.txt faiss-cpu'
        ) from None
    return faiss
