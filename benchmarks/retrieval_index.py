"""Measure an index of many small images: time, memory, a kill, and what indexing again costs.

    python benchmarks/retrieval_index.py                  # 100,000 images of 64 x 64 pixels
    python benchmarks/retrieval_index.py --images 2000    # minutes: does it run?

The images are generated as JPEGs of random shapes. Each indexing is a process of its own with the
model demo/models/rvse-scenes and, as in ``tools/infer.py retrieval index``, a cache of embeddings:

1. index all, but kill the process (SIGKILL) at a random moment, and go on;
2. index again with nothing changed;
3. index again with ten images changed;
4. index again after all files were touched, so that they are read but not encoded.

A log that is written around the encoder counts the images in it. Those in the encoder at the moment
of the kill are encoded a second time, as nobody has seen their result; no others may be.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

MODEL = ROOT / 'demo/models/rvse-scenes'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--images', type=int, default=100_000)
    parser.add_argument('--seed', type=int, default=0, help='of the images and the kill')
    parser.add_argument('--out', type=Path, help='write the figures as JSON')
    parser.add_argument('--folder', type=Path, help='keep images, index and logs in a new folder')
    parser.add_argument('--worker', nargs=2, metavar=('FOLDER', 'LOG'), help=argparse.SUPPRESS)
    return parser.parse_args()


# ------------------------------------------------------------------------------------- images


def write_image(path: Path, seed: int) -> None:
    """Write a JPEG of 64 x 64 pixels: rectangles, and noise so that each is different."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (8, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    for _ in range(3):
        x, y, w, h = (int(value) for value in rng.integers(0, 40, 4))
        image[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    path.write_bytes(cv2.imencode('.jpg', image)[1].tobytes())


def write_images(folder: Path, count: int, seed: int) -> None:
    for i in range(count):
        if i % 1000 == 0:
            (folder / f'{i // 1000:03}').mkdir(parents=True)
        write_image(folder / f'{i // 1000:03}/{i:06}.jpg', seed + i)


# ------------------------------------------------------------------------------------ indexing


def worker(folder: Path, log: Path) -> None:
    """Index the images of a folder, and log what enters and leaves the encoder."""
    from projects.rvse import RetrievalInferencer

    start = time.perf_counter()
    inferencer = RetrievalInferencer(
        weights=MODEL, device='cpu', cache_dir=folder / 'cache', show_progress=True
    )
    encode = inferencer.model.encode_images
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def logged(inputs):
        names = [hashlib.md5(each.numpy().tobytes()).hexdigest() for each in inputs]
        os.write(descriptor, ''.join(f'in {name}\n' for name in names).encode())
        result = encode(inputs)
        os.write(descriptor, ''.join(f'out {name}\n' for name in names).encode())
        return result

    inferencer.model.encode_images = logged
    loaded = time.perf_counter()
    added = inferencer.index(folder / 'images', folder / 'store')
    done = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = dict(load_s=loaded - start, index_s=done - loaded)
    print(json.dumps(dict(seconds, added=added, peak_mib=peak)))


def start(folder: Path, log: Path) -> subprocess.Popen:
    """Start a process that indexes."""
    command = [sys.executable, __file__, '--worker', str(folder), str(log)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> dict:
    """Wait for a process, and return its figures and its seconds, in which it imports, too."""
    begin = time.perf_counter()
    output = process.communicate()[0]
    if process.returncode:
        raise RuntimeError(f'the process that indexes ended with {process.returncode}')
    return dict(process_s=time.perf_counter() - begin, **json.loads(output.splitlines()[-1]))


def entered(log: Path) -> Counter[str]:
    """Count how often each image has entered the encoder."""
    if not log.exists():
        return Counter()
    return Counter(line[3:] for line in log.read_text().splitlines() if line.startswith('in '))


def kill_and_go_on(folder: Path, count: int, rng: random.Random) -> dict:
    """Index everything in two processes, the first of which is killed."""
    first, second = folder / 'first.log', folder / 'second.log'
    moment = rng.randint(count // 10, count * 9 // 10)  # as a number of encoded images
    begin = time.perf_counter()
    process = start(folder, first)
    while sum(entered(first).values()) < moment and process.poll() is None:
        time.sleep(0.05 if count < 5000 else 1.0)
    time.sleep(rng.random())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    killed = time.perf_counter() - begin
    row = finish(start(folder, second))
    before, after = entered(first), entered(second)
    left = Counter(line[4:] for line in first.read_text().splitlines() if line.startswith('out '))
    return dict(
        row,
        killed_after_s=killed,
        encoded_before_kill=sum(before.values()),
        encoded_after_kill=sum(after.values()),
        in_encoder_when_killed=sum((before - left).values()),
        encoded_twice=sum(n - 1 for n in (before + after).values()),
        encoded_twice_otherwise=sum(n - 1 for n in (left + after).values()),
        contents=len(before + after),
    )


def again(folder: Path, what: str) -> dict:
    log = folder / f'{what}.log'
    return dict(finish(start(folder, log)), encoded=sum(entered(log).values()))


def run(folder: Path, count: int, seed: int) -> dict[str, dict]:
    rng = random.Random(seed)
    begin = time.perf_counter()
    write_images(folder / 'images', count, seed)
    rows = {'generate': dict(seconds=time.perf_counter() - begin)}
    show('generate', rows)
    rows['kill and go on'] = kill_and_go_on(folder, count, rng)
    show('kill and go on', rows)
    files = sorted((folder / 'images').rglob('*.jpg'))
    time.sleep(2.5)  # files that have just changed are read again
    rows['nothing changed'] = again(folder, 'nothing')
    show('nothing changed', rows)
    for i, path in enumerate(rng.sample(files, 10)):
        write_image(path, seed + count + i)
    rows['ten changed'] = again(folder, 'ten')
    show('ten changed', rows)
    for path in files:
        os.utime(path, (1, 1))
    rows['all touched'] = again(folder, 'touched')
    show('all touched', rows)
    return rows


def show(what: str, rows: dict[str, dict]) -> None:
    values = ', '.join(
        f'{key} {value:,.1f}' if isinstance(value, float) else f'{key} {value:,}'
        for key, value in rows[what].items()
    )
    print(f'{what}: {values}', flush=True)


def main() -> None:
    args = parse_args()
    if args.worker:
        worker(*map(Path, args.worker))
        return
    folder = Path(args.folder or tempfile.mkdtemp(prefix='mmtriad-index-'))
    try:
        rows = run(folder, args.images, args.seed)
    finally:
        if args.folder is None:
            shutil.rmtree(folder)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(rows, indent=2) + '\n')


if __name__ == '__main__':
    main()
