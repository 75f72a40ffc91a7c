"""Fill the cache of GrabCut masks that training with CachedCue reads.

python tools/misc/precompute_cues.py data/VOC2012/JPEGImages data/proposals/voc_train data/cues \\
    --max-proposals 100 --workers 8

A mask takes about half a second at 400 pixels, so computing all 2,000 proposals of each image is
rarely worthwhile: training computes and caches the masks that are missing when it needs them. An
interrupted run resumes where it stopped. On several machines, or to use more processes, use
torchrun, which splits the images over its ranks.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from projects.common.cli.report import report_user_errors
from projects.common.errors import InputError
from projects.common.hooks.progress import progress_bar
from projects.pdsl.cues import CachedCue, GrabCutCue
from projects.pdsl.proposals import (
    ProposalStore,
    list_pictures,
    map_unordered,
    names_of_picture,
    of_this_rank,
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('images', type=Path, help='folder of the pictures')
    parser.add_argument(
        'proposals', type=Path, help='folder of generate_proposals.py or proposals.py'
    )
    parser.add_argument('cache', type=Path, help='folder of the cache (CachedCue.folder)')
    parser.add_argument('--names', type=Path, help='file with a name a line: only these pictures')
    parser.add_argument(
        '--max-proposals', type=int, help='only the first (best) of each picture (default: all)'
    )
    parser.add_argument('--iterations', type=int, default=5, help='as in the config (default 5)')
    parser.add_argument('--max-side', type=int, default=400, help='as in the config (default 400)')
    parser.add_argument('--seed', type=int, default=0, help='as in the config (default 0)')
    parser.add_argument('--workers', type=int, default=1, help='processes of each rank')
    return parser.parse_args()


def fill(task: tuple[str, list], cue: CachedCue) -> int:
    path, boxes = task
    cue.fill(path, boxes, read=False)
    return len(boxes)


def main() -> None:
    args = parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    if not os.access(args.cache, os.W_OK):
        raise InputError(f'{args.cache}: cannot be written')
    pictures = list_pictures(args.images, args.names)
    store = ProposalStore(args.proposals)
    tasks = []
    for name, path in of_this_rank(list(pictures.items())):
        found = store.find(name, *names_of_picture(path))
        if found is None:
            raise InputError(f'{args.proposals}: no proposals of picture {name!r} ({path})')
        boxes = np.rint(store.read(found)[0][: args.max_proposals]).astype(int).tolist()
        tasks.append((path, [tuple(box) for box in boxes]))
    grabcut = GrabCutCue(args.iterations, args.max_side, num_threads=1, seed=args.seed)
    work = partial(fill, cue=CachedCue(grabcut, args.cache))
    count = 0
    with progress_bar(len(tasks), 'cues', 'picture') as bar:
        for number in map_unordered(work, tasks, args.workers):
            count += number
            bar.update()
    print(f'{args.cache}: masks of {count} proposals of {len(tasks)} pictures are there')


if __name__ == '__main__':
    with report_user_errors():
        main()
