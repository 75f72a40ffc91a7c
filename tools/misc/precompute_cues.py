"""Fill the cache of masks that training with CachedCue reads.

python tools/misc/precompute_cues.py data/VOC2012/JPEGImages data/proposals/voc_train data/cues \\
    --max-proposals 100 --workers 8

A mask takes about half a second at 400 pixels, so computing all 2,000 proposals of each image is
rarely worthwhile: training computes and caches the masks that are missing when it needs them. An
interrupted run resumes where it stopped. Images that cannot be read do not stop the others. On
several machines, or to use more processes, use torchrun, which splits the images over its ranks.
The masks are GrabCut's, or those of the cue of a config (--config).
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from projects.common.cli.config import load_config
from projects.common.cli.report import report_user_errors
from projects.common.errors import InputError
from projects.common.files.atomic import check_writable
from projects.common.files.images import image_problem
from projects.common.hooks.progress import progress_bar
from projects.pdsl.cues import BottomUpCue, CachedCue, GrabCutCue
from projects.pdsl.proposals import (
    ImageIdentity,
    ProposalStore,
    list_images,
    map_unordered,
    of_this_rank,
)
from projects.pdsl.proposals.identity import check_identity


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('images', type=Path, help='folder of the images')
    parser.add_argument(
        'proposals', type=Path, help='folder of generate_proposals.py or proposals.py'
    )
    parser.add_argument('cache', type=Path, help='folder of the cache (CachedCue.folder)')
    parser.add_argument('--names', type=Path, help='file with a name a line: only these images')
    parser.add_argument(
        '--max-proposals', type=int, help='only the first (best) of each image (default: all)'
    )
    parser.add_argument('--config', help="config whose model.cue makes the masks, not GrabCut's")
    parser.add_argument('--iterations', type=int, default=5, help='as in the config (default 5)')
    parser.add_argument('--max-side', type=int, default=400, help='as in the config (default 400)')
    parser.add_argument('--seed', type=int, default=0, help='as in the config (default 0)')
    parser.add_argument('--workers', type=int, default=1, help='processes of each rank')
    parser.add_argument(
        '--skip-damaged', action='store_true', help='leave out images that cannot be read'
    )
    return parser.parse_args()


def build_cue(args: argparse.Namespace) -> BottomUpCue:
    """Build GrabCut, or the cue of the config, without the cache around it."""
    if args.config is None:
        return GrabCutCue(args.iterations, args.max_side, num_threads=1, seed=args.seed)
    if args.workers > 1:
        raise InputError(
            f'--workers {args.workers}: each process would copy the cue of --config; expected 1, '
            'and torchrun for several processes'
        )
    import torch
    from mmengine.registry import MODELS

    if torch.cuda.is_available():  # each rank's own, where a segmenter runs
        torch.cuda.set_device(int(os.environ.get('LOCAL_RANK') or 0))
    cue = load_config(args.config).model.get('cue')
    if cue is None:
        raise InputError(f'--config {args.config}: it has no model.cue')
    return MODELS.build(cue.cue if cue.type == 'CachedCue' else cue)


class Task(NamedTuple):
    """Hold an image, its boxes in whole pixels, and what the proposal store knows of it."""

    path: str
    boxes: list[tuple[int, int, int, int]]
    known: ImageIdentity | None
    entry: str


def fill(task: Task, cue: CachedCue) -> int | str:
    """Return the number of boxes whose masks are cached, or why the image cannot be read."""
    try:
        if task.known is not None:
            check_identity(task.known, task.path, what=task.entry)
        cue.fill(task.path, task.boxes, read=False)
    except (InputError, OSError):
        reason = image_problem(task.path)
        if reason is None:
            raise
        return f'{task.path}: {reason}'
    return len(task.boxes)


def main() -> None:
    args = parse_args()
    for name, least in (('max_proposals', 1), ('iterations', 1), ('max_side', 1), ('workers', 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            option = name.replace('_', '-')
            raise InputError(f'--{option}: found {value}, expected at least {least}')
    check_writable(args.cache)
    pictures = list_images(args.images, args.names)
    store = ProposalStore(args.proposals)
    tasks: list[Task] = []
    lacking: list[str] = []  # images without proposals, because they cannot be read
    for name, path in of_this_rank(list(pictures.items())):
        found = store.find(path)
        if found is None:
            reason = image_problem(path) if args.skip_damaged else None
            if reason is not None:  # generate_proposals.py has left it out, too
                lacking.append(f'{path}: {reason}')
                continue
            by = ', which lists image ids and not file names' if store.keys == 'ids' else ''
            raise InputError(f'{args.proposals}{by}: no proposals of image {name!r} ({path})')
        boxes = np.rint(store.read(found)[0][: args.max_proposals]).astype(int).tolist()
        entry = f'{args.proposals}: {found!r}'
        tasks.append(Task(path, list(map(tuple, boxes)), store.images.get(found), entry))
    work = partial(fill, cue=CachedCue(build_cue(args), args.cache))
    count, damaged = 0, list(lacking)
    with progress_bar(len(tasks), 'cues', 'image') as bar:
        for done in map_unordered(work, tasks, args.workers):
            if isinstance(done, str):
                damaged.append(done)
            else:
                count += done
            bar.update()
    for reason in damaged:
        print(f'left out: {reason}')
    number = len(tasks) + len(lacking) - len(damaged)
    print(f'{args.cache}: masks of {count} proposals of {number} images are there')
    if damaged and not args.skip_damaged:
        raise InputError(
            f'{len(damaged)} of {len(tasks)} images cannot be read; mend them, or leave them out '
            'with --skip-damaged'
        )


if __name__ == '__main__':
    with report_user_errors():
        main()
