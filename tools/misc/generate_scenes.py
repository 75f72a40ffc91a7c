"""Generate scenes of shapes or of cut-outs: images, sentences, boxes, masks, tags and captions."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from projects.common.scenes import write_collages, write_dataset


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
    parser.add_argument(
        '--generalized',
        action='store_true',
        help='add sentences about several objects and none; only of shapes',
    )
    group = parser.add_argument_group(
        'cut-outs', 'paste images of objects with an alpha channel on photographs'
    )
    group.add_argument('--cutouts', metavar='DIR', help='cut-outs, named by folder, file or table')
    group.add_argument('--backgrounds', metavar='DIR', help='photographs to paste them on')
    group.add_argument(
        '--names', metavar='CSV', help='table: file, name, further words (default: DIR/names.csv)'
    )
    group.add_argument(
        '--min-cutouts', type=int, default=1, help='leave out names with fewer cut-outs'
    )
    group.add_argument(
        '--held-out', type=float, default=0.2, help='share kept out of the training images'
    )
    group.add_argument(
        '--test-seen', type=int, default=500, help='test images of objects seen in training'
    )
    args = parser.parse_args()
    if bool(args.cutouts) != bool(args.backgrounds):
        parser.error('--cutouts and --backgrounds: found one of them, expected both or none')
    if args.generalized and args.cutouts:
        parser.error('--generalized: found --cutouts, expected scenes of shapes')
    return args


def main() -> None:
    args = parse_args()
    options = dict(
        num_train=args.train,
        num_val=args.val,
        num_test=args.test,
        image_size=args.size,
        seed=args.seed,
        workers=args.workers,
        progress=not args.quiet,
    )
    try:
        if args.cutouts:
            summary = write_collages(
                args.out,
                args.cutouts,
                args.backgrounds,
                names=args.names,
                min_cutouts=args.min_cutouts,
                held_out=args.held_out,
                num_test_seen=args.test_seen,
                **options,
            )
        else:
            summary = write_dataset(args.out, generalized=args.generalized, **options)
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
    kinds = ', '.join(f'{k} {v}' for k, v in summary['sentences_by_kind'].items())
    print(
        f'{args.out}: {summary["images"]} images, {summary["objects"]} objects, '
        f'{summary["sentences"]} sentences ({kinds}), {summary["captions"]} captions'
    )
    if args.cutouts:
        held = sum(map(len, summary['held_out_cutouts'].values()))
        print(
            f'{len(summary["names"])} names, {sum(summary["names"].values())} cut-outs, {held} of '
            f'them held out; held-out backgrounds: {len(summary["held_out_backgrounds"])}'
        )


if __name__ == '__main__':
    main()
