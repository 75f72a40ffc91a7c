"""Kills a process that works, at random moments, and looks at what it leaves.

Run by test_kills.py: ``kill_loop.py KINDS FOLDER KILLS SEED [CONFIG]``, kinds with commas between.
Each victim is a fork of this process, which has imported everything; it is killed by SIGKILL after
a random part of the time that it would take. Prints a line of JSON for each kind: how many victims
were killed, how many runs came to their end, and the seconds that a straight run takes.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from projects.common.cli.config import load_config
from projects.common.cli.run import build_runner, prepare
from projects.common.hooks.checkpoint_hook import find_resumable
from projects.common.weights.checkpoint import load_checkpoint_file
from projects.pdsl.cues.store import MaskStore
from projects.pdsl.proposals import ProposalStore, write_store
from projects.rvse.retrieval import EmbeddingCache, open_store


def run(work: Callable[[], None], seconds: float | None = None) -> bool:
    """Lets a fork work, for so long; whether it came to its end."""
    child = os.fork()
    if not child:
        code = 1
        try:
            with open(os.devnull, 'w') as silence:
                os.dup2(silence.fileno(), 1)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise AssertionError(f'a victim failed by itself: {status}')
    return status == 0


def training(folder: Path, config: str) -> tuple[Callable, Callable, Callable]:
    """A run of 24 iterations that saves a checkpoint, and the best one, all the time."""

    def work(name: str) -> None:
        cfg = load_config(config)
        prepare(cfg, config, 'none', str(folder / name))
        found = find_resumable(cfg.work_dir)
        cfg.load_from, cfg.resume = found, found is not None
        cfg.experiment_name = f'{name}-{time.time_ns()}'
        build_runner(cfg).train()

    def final(name: str) -> dict:
        checkpoint = load_checkpoint_file(folder / name / 'iter_24.pth')
        return {key: checkpoint[key] for key in ('state_dict', 'optimizer', 'param_schedulers')}

    def look(name: str) -> None:
        path = find_resumable(folder / name)  # whatever is there is whole
        if path is not None:
            load_checkpoint_file(path)
        for best in (folder / name).glob('best_*.pth'):
            load_checkpoint_file(best)

    return work, look, final


def masks(folder: Path, _: str) -> tuple[Callable, Callable, Callable]:
    """The masks of 40 boxes of an image, one write each."""
    boxes = [(i, 0, i + 1, 1) for i in range(40)]

    def mask(i: int) -> np.ndarray:
        return np.random.default_rng(i).random((60, 60)) < 0.5

    def work(name: str) -> None:
        store = MaskStore(folder / name, 'x')
        for i, box in enumerate(boxes):
            if not store.read('ab12', [box]):
                store.add('ab12', {box: mask(i)})

    def look(name: str) -> None:
        found = MaskStore(folder / name, 'x').read('ab12', boxes)
        assert all(np.array_equal(found[box], mask(box[0])) for box in found)
        assert sorted(found) == boxes[: len(found)], 'a mask that was there is lost'

    def final(name: str) -> list:
        found = MaskStore(folder / name, 'x').read('ab12', boxes)
        return [found[box].tolist() for box in boxes]

    return work, look, final


def embeddings(folder: Path, _: str) -> tuple[Callable, Callable, Callable]:
    """The vectors of 60 images, five at once."""

    def vectors(i: int) -> np.ndarray:
        return np.full((5, 64), i, np.float32)

    def keys(cache: EmbeddingCache, i: int) -> list[bytes]:
        return [cache.key(f'{i} {j}'.encode()) for j in range(5)]

    def work(name: str) -> None:
        cache = EmbeddingCache(folder / name, 'x')
        for i in range(12):
            if cache.get(keys(cache, i)[0]) is None:
                cache.put(keys(cache, i), vectors(i))

    def look(name: str) -> None:
        cache = EmbeddingCache(folder / name, 'x')
        for i in range(12):
            found = [cache.get(key) for key in keys(cache, i)]
            assert all(v is None for v in found) or np.array_equal(found, vectors(i)), i
        cache.close()

    def final(name: str) -> list:
        cache = EmbeddingCache(folder / name, 'x')
        return [cache.get(key).tolist() for i in range(12) for key in keys(cache, i)]

    return work, look, final


def gallery(folder: Path, _: str) -> tuple[Callable, Callable, Callable]:
    """A faiss store to which an image is added, and which is saved, twenty times."""

    def vectors(count: int) -> np.ndarray:
        return np.eye(count, 64, dtype=np.float32)

    def work(name: str) -> None:
        store = open_store(folder / name / 'store', 'x')
        for i in range(len(store), 20):
            store.add([str(i)], vectors(20)[i : i + 1])
            store.save()

    def names(name: str) -> list[str]:
        store = open_store(folder / name / 'store', 'x', create=False)
        hits = store.search(vectors(len(store)), 1)
        assert all(hit[0].score == 1.0 for hit in hits)
        return [hit[0].name for hit in hits]

    def look(name: str) -> None:
        if (folder / name / 'store/store.json').is_file():
            found = names(name)
            assert found == [str(i) for i in range(len(found))]

    return work, look, names


def proposals(folder: Path, _: str) -> tuple[Callable, Callable, Callable]:
    """A store of proposals that is written anew, again and again, with the same content."""
    boxes = np.random.default_rng(0).random((4000, 2, 2)).astype(np.float32).cumsum(1) * 100
    entries = [(str(i), boxes[i::8].reshape(-1, 4), None) for i in range(8)]

    def work(name: str) -> None:
        for _ in range(10):
            write_store(folder / name, entries)

    def final(name: str) -> list:
        store = ProposalStore(folder / name)
        return [store.read(str(i))[0].tolist() for i in range(8)]

    expected: list = []

    def look(name: str) -> None:
        if not expected:
            write_store(folder / 'expected', entries)
            expected.extend(final('expected'))
        if (folder / name / 'index.json').is_file():  # there is a store only if it is whole
            assert final(name) == expected

    return work, look, final


def main() -> None:
    kinds, folder, kills, seed, *rest = sys.argv[1:]
    torch.set_num_threads(1)
    random.seed(int(seed))
    for kind in kinds.split(','):
        found = kill(kind, Path(folder, kind), int(kills), *rest)
        print(json.dumps(found), flush=True)


def kill(kind: str, folder: Path, kills: int, config: str = '') -> dict:
    """Kills so many victims of a kind; raises where one left something half or other."""
    work, look, final = globals()[kind](folder, config)
    start = time.monotonic()
    run(lambda: work('straight'))
    seconds = time.monotonic() - start
    killed = ended = 0
    while killed < kills:
        name = f'broken{ended}'
        while not run(lambda name=name: work(name), limit := random.uniform(0, 1.1 * seconds)):
            killed += 1
            run(lambda name=name: look(name))
            if killed == kills:
                run(lambda name=name: work(name))
                break
        ended += 1
        # The first run may have been a slow one: then victims end before they are killed.
        seconds = min(seconds, limit) if killed < kills else seconds
        run(lambda name=name: compare(final('straight'), final(name)))
    return dict(kind=kind, killed=killed, ended=ended, seconds=round(seconds, 2))


def compare(a, b) -> None:
    """Bit for bit, through nested containers."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            compare(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b):
            compare(x, y)
    else:
        assert a == b


if __name__ == '__main__':
    main()
