"""Several processes that fill one cache, or save into one store, at the same time."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from projects.pdsl.cues.store import MaskStore
from projects.rvse.retrieval import EmbeddingCache, open_store


def together(*works: Callable[[], object]) -> list[int]:
    """Exit codes of forks that work at the same time."""
    children = []
    for work in works:
        child = os.fork()
        if not child:
            code = 1
            try:
                work()
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def vectors(i: int) -> np.ndarray:
    return np.full((4, 32), i, np.float32)


def test_embeddings(tmp_path: Path) -> None:
    """Two processes write 60 batches each, half of them the same."""

    def keys(cache: EmbeddingCache, i: int) -> list[bytes]:
        return [cache.key(f'{i} {j}'.encode()) for j in range(4)]

    def fill(first: int) -> None:
        cache = EmbeddingCache(tmp_path, 'x')
        for i in range(first, first + 60):
            cache.put(keys(cache, i), vectors(i))

    assert together(lambda: fill(0), lambda: fill(30)) == [0, 0]
    cache = EmbeddingCache(tmp_path, 'x')
    assert len(cache) == 90 * 4
    for i in range(90):
        assert all(np.array_equal(cache.get(key), vectors(i)[0]) for key in keys(cache, i))


def test_masks(tmp_path: Path) -> None:
    """Two processes write 40 masks of one image each, half of them the same."""

    def fill(first: int) -> None:
        store = MaskStore(tmp_path, 'x')
        for i in range(first, first + 40):
            store.add('ab', {(i, 0, i + 1, 1): np.full((20, 20), i % 2 == 0)})

    assert together(lambda: fill(0), lambda: fill(20)) == [0, 0]
    boxes = [(i, 0, i + 1, 1) for i in range(60)]
    found = MaskStore(tmp_path, 'x').read('ab', boxes)
    assert sorted(found) == boxes
    assert all(mask.all() == (box[0] % 2 == 0) for box, mask in found.items())


def test_galleries(tmp_path: Path) -> None:
    """Of two that save into one store, the later one is told; the store is one of them, whole."""
    folder = tmp_path / 'store'
    first, second = (open_store(folder, 'x') for _ in range(2))
    first.add(['a', 'b'], np.eye(2, 8, dtype=np.float32))
    second.add(['c'], np.eye(1, 8, dtype=np.float32))
    first.save()
    with pytest.raises(ValueError, match='store .*store: another process has saved'):
        second.save()
    first.add(['d'], np.eye(3, 8, dtype=np.float32)[2:])
    first.save()  # its own saving is no other process's
    with open_store(folder, 'x', create=False) as store:
        assert {hit.name for hit in store.search(np.ones((1, 8), np.float32), 9)[0]} == set('abd')

    def add(name: str) -> None:
        with open_store(folder, 'x', create=False) as store:
            store.add([name], np.full((1, 8), 2, np.float32))
            store.save()

    codes = together(*(lambda name=name: add(name) for name in 'efgh'))
    with open_store(folder, 'x', create=False) as store:
        names = {hit.name for hit in store.search(np.ones((1, 8), np.float32), 9)[0]}
    assert names == set('abd') | {name for name, code in zip('efgh', codes) if code == 0}
    assert 0 in codes


def test_a_gallery_whose_first_save_was_killed(tmp_path: Path) -> None:
    """Found by killing at random moments: the folder was refused as somebody else's."""
    folder = tmp_path / 'store'
    folder.mkdir()
    for name in ('vectors.1.faiss', 'names.1.json', '.store.json.partial'):
        (folder / name).write_bytes(b'half')
    with open_store(folder, 'x') as store:
        store.add(['a'], np.eye(1, 8, dtype=np.float32))
        store.save()
    with open_store(folder, 'x', create=False) as store:
        assert len(store) == 1
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other/names.1.json.txt').touch()
    with pytest.raises(ValueError, match='not empty'):
        open_store(tmp_path / 'other', 'x')
