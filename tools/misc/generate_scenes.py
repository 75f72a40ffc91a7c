"""Generate the scenes dataset: images, sentences, boxes, masks, tags and captions."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from projects.common.scenes import write_dataset


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__
        + ' The same arguments give the same files, whatever the number of workers. A folder that '
        'already holds them is left as it is.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('out', help='folder to write to: new, empty, or generated before')
    parser.add_argument('--train', type=int, default=8000, help='number of training images')
    parser.add_argument('--val', type=int, default=500, help='number of validation images')
    parser.add_argument('--test', type=int, default=500, help='number of test images')
    parser.add_argument('--size', type=int, default=128, help='side of an image in pixels')
    parser.add_argument('--seed', type=int, default=0, help='seed of all randomness')
    parser.add_argument('--workers', type=int, default=1, help='processes that draw')
    parser.add_argument('--quiet', action='store_true', help='show no progress bar')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        summary = write_dataset(
            args.out,
            num_train=args.train,
            num_val=args.val,
            num_test=args.test,
            image_size=args.size,
            seed=args.seed,
            workers=args.workers,
            progress=not args.quiet,
        )
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
    kinds = ', '.join(f'{k} {v}' for k, v in summary['sentences_by_kind'].items())
    print(
        f'{args.out}: {summary["images"]} images, {summary["objects"]} objects, '
        f'{summary["sentences"]} sentences ({kinds}), {summary["captions"]} captions'
    )


if __name__ == '__main__':
    main()
