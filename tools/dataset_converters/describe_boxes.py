"""Write sentences for boxes that one has, as JSON lines for grounding.

python tools/dataset_converters/describe_boxes.py data/coco/annotations/instances_val2017.json \
    --images data/coco/val2017 --out data/coco_sentences
python tools/dataset_converters/describe_boxes.py data/mine/Annotations --images data/mine/images \
    --out data/mine --val 0.1 --test 0.1

The boxes are those of a COCO json file or of a folder of VOC XML files. A sentence names its object
by class, color, place, order, size or a neighbor, and is written only if it fits no other object of
the image; each is read back to check it. docs/box_sentences.md describes the rules.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from projects.common.cli.options import add_overwrite_option, refuse_existing
from projects.common.cli.report import report_user_errors
from projects.common.errors import InputError
from projects.common.files.atomic import check_writable
from projects.common.hooks.progress import track
from projects.plvl.datasets.reference import Reference
from projects.plvl.datasets.writers import output_files, write_json_lines
from projects.plvl.descriptions.make import describe_photo, split_by_image, with_colors
from projects.plvl.descriptions.photo import Photo
from projects.plvl.descriptions.propose import Rules
from projects.plvl.descriptions.read_back import RESERVED
from projects.plvl.descriptions.sources import read_photos


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', type=Path, help='COCO json file, or folder of VOC XML files')
    parser.add_argument('--images', type=Path, required=True, help='folder of the images')
    parser.add_argument('--out', type=Path, required=True, help='folder to write SPLIT.jsonl to')
    parser.add_argument(
        '--per-object', type=int, default=3, help='most sentences about an object (default: 3)'
    )
    parser.add_argument('--seed', type=int, default=0, help='of sentences and splits (default: 0)')
    parser.add_argument('--val', type=float, default=0.0, help='share of images for val.jsonl')
    parser.add_argument('--test', type=float, default=0.0, help='share of images for test.jsonl')
    parser.add_argument(
        '--min-area',
        type=float,
        default=Rules.min_area,
        help='least area of a described box, as a share of the image (default: %(default)s)',
    )
    parser.add_argument(
        '--similar',
        nargs='+',
        default=[],
        metavar='NAME,NAME',
        help='classes that people mistake for one another, such as van,car,truck',
    )
    add_overwrite_option(parser)
    args = parser.parse_args()
    if args.per_object < 1:
        parser.error(f'--per-object: found {args.per_object}, expected at least 1')
    if args.seed < 0:
        parser.error(f'--seed: found {args.seed}, expected at least 0')
    if not 0 <= args.min_area < Rules.max_area:
        parser.error(f'--min-area: found {args.min_area}, expected 0 to {Rules.max_area}')
    if args.val < 0 or args.test < 0 or args.val + args.test > 1:
        parser.error(
            f'--val and --test: found {args.val} and {args.test}, expected shares of at most 1'
        )
    return args


def rules_of(args: argparse.Namespace, photos: list[Photo]) -> Rules:
    """Return the rules, after comparing the names in them with the classes.

    Raises:
        InputError: A class of ``--similar`` does not exist.
    """
    nouns = {obj.noun for photo in photos for obj in photo.objects}
    groups = [tuple(name.strip().lower() for name in each.split(',')) for each in args.similar]
    for name in (name for group in groups for name in group):
        if name not in nouns:
            raise InputError(f'--similar: found {name!r}, expected one of {sorted(nouns)}')
    for noun in sorted(nouns):
        if words := RESERVED & set(noun.split()):
            print(f'no sentences about {noun!r}: {min(words)!r} is also a word for a place')
    return Rules(min_area=args.min_area, similar=groups)


def summary(references: list[Reference], num_images: int) -> str:
    kinds = Counter(s.kind for reference in references for s in reference.sentences)
    images = len({reference.image for reference in references})
    counts = ', '.join(f'{kind} {count:,}' for kind, count in sorted(kinds.items()))
    return (
        f'{kinds.total():,} sentences about {len(references):,} objects in {images:,} of '
        f'{num_images:,} images ({counts or "none"})'
    )


def main() -> None:
    args = parse_args()
    shares = {'train': 1 - args.val - args.test, 'val': args.val, 'test': args.test}
    shares = {split: share for split, share in shares.items() if share > 1e-9}
    paths = output_files('jsonl', args.out, shares, '')
    refuse_existing(paths, args.overwrite)
    check_writable(args.out)
    photos = read_photos(args.source)
    rules = rules_of(args, photos)
    splits: dict[str, list[Reference]] = {split: [] for split in shares}
    split_of = split_by_image([photo.name for photo in photos], shares, args.seed)
    for photo in track(photos, 'describing', 'image'):
        colored = with_colors(photo, args.images)
        found = describe_photo(colored, args.seed, args.per_object, rules)
        splits[split_of[photo.name]] += found
    sent_id = 0
    for ref_id, reference in enumerate(ref for found in splits.values() for ref in found):
        reference.number(ref_id, sent_id)
        sent_id += len(reference.sentences)
    for split, found in splits.items():
        count = sum(kind == split for kind in split_of.values())
        if not found:
            raise InputError(f'{args.source}: {split}: found no sentence for {count:,} images')
        print(f'{split}: {summary(found, count)}')
    write_json_lines(splits, paths)
    print(f'wrote {", ".join(map(str, paths))}')


if __name__ == '__main__':
    with report_user_errors():
        main()
