"""Convert grounding data between formats, or compare its counts with the published numbers.

python tools/dataset_converters/grounding.py data/refcoco --to seqtr --out data/refcoco-unc
python tools/dataset_converters/grounding.py data/refcoco --verify --images data/images/train2014

Readable and writable formats: refer (a folder with instances.json and refs(*).p), seqtr
(instances.json) and jsonl (our JSON lines). Readable only: grefcoco and refzom (sentences about
none, one or several objects; say `--from refzom` if its file is named refs(final).p), transvg (the
.pth files of TransVG, EEVG and PLVL), flickr30k (Flickr30K Entities as published) and vg (Visual
Genome's region descriptions). docs/plvl_data.md shows where each is expected.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from projects.common.cli.options import (
    add_overwrite_option,
    add_trust_pickle_option,
    refuse_existing,
)
from projects.common.cli.report import report_user_errors
from projects.common.errors import InputError
from projects.common.files.atomic import check_writable
from projects.plvl.datasets.conversion import (
    FORMATS,
    find_format,
    find_refs,
    iter_splits,
    read_references,
)
from projects.plvl.datasets.published import (
    COUNTED,
    PUBLISHED,
    compare,
    count,
    published_name,
    published_split,
)
from projects.plvl.datasets.reference import Reference
from projects.plvl.datasets.writers import output_files


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', type=Path, help='file or folder to read')
    action = parser.add_mutually_exclusive_group(required=True)
    writable = [name for name, kind in FORMATS.items() if kind.write]
    action.add_argument('--to', choices=writable, help='format to write')
    action.add_argument(
        '--verify',
        nargs='?',
        const='',
        metavar='NAME',
        help='compare the counts with the published ones and name what is missing; NAME is one of '
        f'{", ".join(PUBLISHED)}, and is known from most folder names',
    )
    parser.add_argument('--out', type=Path, help='folder to write to')
    parser.add_argument('--from', dest='kind', choices=FORMATS, help='format of the source')
    parser.add_argument(
        '--by', help='which refs(BY).p of the refer layout to read, or the name of the one to write'
    )
    parser.add_argument('--images', help='folder of the images, to check and to read sizes from')
    parser.add_argument('--splits', nargs='+', help='only these splits')
    parser.add_argument(
        '--sentence-key',
        choices=['sent', 'raw'],
        help='which sentences of the refer layout',
    )
    parser.add_argument(
        '--box-format', choices=['xywh', 'xyxy'], help='of .pth files, where their name misleads'
    )
    parser.add_argument(
        '--source-folders',
        nargs='+',
        default=[],
        metavar='NAME=FOLDER',
        help='folders of the collections within --images: coco=train2014 vg=visual-genome',
    )
    parser.add_argument(
        '--skip-invalid', action='store_true', help='leave invalid samples out and count them'
    )
    add_overwrite_option(parser)
    add_trust_pickle_option(parser)
    args = parser.parse_args()
    if (args.to is None) != (args.out is None):
        parser.error('--to and --out belong together')
    return args


def dataset_options(args: argparse.Namespace, kind: str) -> dict:
    """Return the dataset arguments set on the command line."""
    options: dict = dict(skip_invalid=args.skip_invalid, trust_pickle=args.trust_pickle)
    for flag, value, format_ in (
        ('--sentence-key', args.sentence_key, 'refer'),
        ('--box-format', args.box_format, 'transvg'),
    ):
        if value is not None:
            if kind != format_:
                raise InputError(f'{flag}: only for the format {format_!r}, the source is {kind!r}')
            options[flag[2:].replace('-', '_')] = value
    if args.source_folders:
        pairs = [pair.partition('=') for pair in args.source_folders]
        if any(not sign or not name for name, sign, _ in pairs):
            raise InputError(
                f'--source-folders: found {" ".join(args.source_folders)}, expected NAME=FOLDER ...'
            )
        options['source_folders'] = {name: folder for name, _, folder in pairs}
    return options


def read(args: argparse.Namespace, kind: str) -> dict[str, list[Reference]]:
    """Read the references of each split."""
    by = args.by if kind == 'refer' else None
    splits = {}
    found = []
    for split, dataset in iter_splits(
        args.source,
        kind,
        by=by,
        images=args.images,
        check_images=args.to is not None,
        **dataset_options(args, kind),
    ):
        found.append(split)
        if args.splits and split not in args.splits:
            continue
        if split in splits:
            raise InputError(f'{args.source}: two files for the split {split!r}; give one of them')
        splits[split] = read_references(dataset, kind, need_sizes=args.to in ('refer', 'seqtr'))
        if not splits[split]:
            raise InputError(f'{dataset.ann_file}: no usable sample in the split {split!r}')
    if absent := set(args.splits or ()) - set(found):
        raise InputError(f'{args.source}: no split {", ".join(sorted(absent))}; it has {found}')
    return splits


def print_counts(splits: dict[str, list[Reference]]) -> dict[str, dict[str, int]]:
    counts = {split: count(references) for split, references in splits.items()}
    if len(splits) > 1:
        counts['total'] = count([ref for references in splits.values() for ref in references])
    width = max(len(split) for split in counts)
    print(f'{"":{width}}' + ''.join(f'{what:>14}' for what in COUNTED))
    for split, numbers in counts.items():
        print(f'{split:{width}}' + ''.join(f'{numbers[what]:>14,}' for what in COUNTED))
    return counts


def convert(args: argparse.Namespace, kind: str) -> None:
    by = args.by
    if by is None and args.to == 'refer':
        by = find_refs(args.source, None).name[5:-3] if kind == 'refer' else 'converted'
    check_writable(args.out)
    # The files are named after the splits, which are only known for sure when all are read.
    refuse_existing(output_files(args.to, args.out, args.splits or (), by or ''), args.overwrite)
    content = read(args, kind)
    paths = output_files(args.to, args.out, content, by or '')
    refuse_existing(paths, args.overwrite)
    FORMATS[args.to].write(content, paths)
    print_counts(content)
    print(f'wrote {", ".join(map(str, paths))}')


def guess_name(args: argparse.Namespace, kind: str) -> str | None:
    """Return the dataset's name in the table of published counts, based on its file names."""
    folder = args.source.absolute() if args.source.is_dir() else args.source.absolute().parent
    if kind == 'refer':
        by = find_refs(args.source, args.by).name[5:-3]
        return published_name(f'{folder.name}-{by}')
    if kind == 'transvg' and args.source.is_file():
        return published_name(args.source.stem.rsplit('_', 1)[0])
    return published_name(folder.name)


def verify(args: argparse.Namespace, kind: str) -> None:
    name = args.verify or guess_name(args, kind)
    if args.verify and name not in PUBLISHED:
        raise InputError(
            f'--verify {name}: there are published counts of {", ".join(PUBLISHED)} only'
        )
    splits = read(args, kind)
    counts = print_counts(splits)
    problems = []
    compared = set()
    for split in splits:
        data_set, meant = published_split(name, split)
        if meant in PUBLISHED.get(data_set, {}):
            compared.add((data_set, meant))
            problems += compare(split, counts[split], PUBLISHED[data_set][meant])
    is_whole = args.source.is_dir() or kind == 'seqtr'
    if name is not None and is_whole and not args.splits:
        published = PUBLISHED[name]
        absent = [s for s in published if s != 'total' and (name, s) not in compared]
        problems += [
            f'{split}: not in {args.source}: {published[split]["sentences"]:,} sentences missing'
            for split in absent
        ]
        if not absent and len(compared) == len(splits):
            problems += compare('total', counts['total'], published['total'])
    if args.images:
        problems += missing_images(args.images, splits) or damaged(args, kind)
    for problem in problems:
        print(f'MISSING  {problem}')
    if problems:
        sys.exit(1)
    if compared:
        print(f'complete: as published ({", ".join(" ".join(pair) for pair in sorted(compared))})')
    else:
        print(
            f'nothing to compare with: no published counts of {args.source} are on record (NAME is '
            f'one of {", ".join(PUBLISHED)})'
        )


def missing_images(images: str, splits: dict[str, list[Reference]]) -> list[str]:
    if not os.path.isdir(images):
        raise InputError(f'--images {images}: no such folder')
    lines = []
    for split, references in splits.items():
        names = sorted({ref.image for ref in references})
        absent = [name for name in names if not os.path.isfile(os.path.join(images, name))]
        if absent:
            shown = ', '.join(absent[:5]) + (', ...' if len(absent) > 5 else '')
            lines.append(
                f'{split}: {len(absent):,} of {len(names):,} images are not in {images}: {shown}'
            )
    return lines


def damaged(args: argparse.Namespace, kind: str) -> list[str]:
    """Return what training would stop at, now that the images are there."""
    options = {**dataset_options(args, kind), 'skip_invalid': True, 'check_content': True}
    by = args.by if kind == 'refer' else None
    lines = []
    for split, dataset in iter_splits(args.source, kind, by=by, images=args.images, **options):
        if not args.splits or split in args.splits:
            for _ in dataset.valid_references():
                pass
            if dataset.left_out:
                lines.append(f'{split}: {dataset.left_out}')
    return lines


def main() -> None:
    args = parse_args()
    kind = args.kind or find_format(args.source)
    if args.to is not None:
        convert(args, kind)
    else:
        verify(args, kind)


if __name__ == '__main__':
    with report_user_errors():
        main()
