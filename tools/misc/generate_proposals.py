"""Generate Selective Search proposals for a folder of images.

python tools/misc/generate_proposals.py data/VOC2012/JPEGImages data/proposals/voc_train \\
    --names data/VOC2012/ImageSets/Main/train.txt --workers 8

An interrupted run resumes where it stopped. Images that cannot be read do not stop the others. On
several machines: torchrun --nnodes ... this file.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from projects.common.cli.report import report_user_errors
from projects.common.hooks.progress import progress_bar
from projects.pdsl.proposals import generate_proposals, list_images, of_this_rank


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('images', type=Path, help='folder of the images and folders of them')
    parser.add_argument('out', type=Path, help='folder of the proposals')
    parser.add_argument('--names', type=Path, help='file with a name a line: only these images')
    parser.add_argument('--quality', action='store_true', help='slower, more boxes')
    parser.add_argument('--max-proposals', type=int, default=2000, help='per image (default 2000)')
    parser.add_argument('--min-side', type=float, default=0, help='leave smaller boxes out, pixels')
    parser.add_argument('--max-side', type=int, help='search an image scaled down to this')
    parser.add_argument('--workers', type=int, default=1, help='processes (default 1)')
    parser.add_argument(
        '--skip-damaged', action='store_true', help='leave out images that cannot be read'
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    pictures = list_images(args.images, args.names)
    with progress_bar(len(of_this_rank(list(pictures))), 'proposals', 'image') as bar:
        store = generate_proposals(
            pictures,
            args.out,
            quality=args.quality,
            max_proposals=args.max_proposals,
            min_side=args.min_side,
            max_side=args.max_side,
            workers=args.workers,
            skip_damaged=args.skip_damaged,
            on_image=bar.update,
        )
    if store is None:
        print(f'{args.out}: this part is done, others are not')
    else:
        total = sum(len(store.read(name)[0]) for name in store.names)
        print(f'{args.out}: {total} proposals of {len(store)} images')


if __name__ == '__main__':
    with report_user_errors():
        main()
