"""Convert proposals between formats, merging several sources into one.

python tools/dataset_converters/proposals.py MCG-Pascal-Main_trainvaltest_2012-boxes data/voc_mcg
python tools/dataset_converters/proposals.py MCG-Pascal-Segmentation_trainvaltest_2012-boxes \\
    MCG-SBD-trainval-boxes data/voc_sbd_mcg --on-duplicate first
python tools/dataset_converters/proposals.py voc_2007_train.mat out --names ImageSets/Main/train.txt
python tools/dataset_converters/proposals.py data/proposals/voc_train out.pkl --to mmdet

Readable formats: our store (a folder), MCG (a folder of .mat), Selective Search (one .mat),
Detectron and detectron2 (.pkl) and mmdet's dictionaries (.pkl). Writable formats: the store,
detectron2 and mmdet. An image found in two sources is an error, or the first source wins.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from projects.common.cli.report import report_user_errors
from projects.common.errors import InputError
from projects.pdsl.proposals import (
    FORMATS,
    read_proposals,
    tidy,
    write_detectron2,
    write_mmdet,
    write_store,
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', type=Path, nargs='+', help='files or folders to read')
    parser.add_argument('out', type=Path, help='folder (store) or .pkl file to write')
    parser.add_argument(
        '--to',
        choices=['store', 'detectron2', 'mmdet'],
        default='store',
        help='format to write (default: store)',
    )
    parser.add_argument('--from', dest='format', choices=FORMATS, help='format of the sources')
    parser.add_argument(
        '--names',
        type=Path,
        action='append',
        help='image set of a Selective Search .mat; once for each source',
    )
    parser.add_argument(
        '--on-duplicate',
        choices=['error', 'first'],
        default='error',
        help='what to do with a picture that several sources have: stop, or take the proposals of '
        'the first (default: %(default)s)',
    )
    parser.add_argument('--max-proposals', type=int, help='keep the best of each picture')
    parser.add_argument(
        '--trust-pickle', action='store_true', help='unpickle freely, which may run code'
    )
    return parser.parse_args()


def read_names(path: Path) -> list[str]:
    return [line.split()[0] for line in path.read_text().splitlines() if line.strip()]


def read_all(args: argparse.Namespace) -> Iterator[tuple]:
    """Yield the proposals of all sources, each image once."""
    owners: dict[str, Path] = {}
    skipped = 0
    for index, source in enumerate(args.source):
        names = read_names(args.names[index]) if args.names else None
        for name, boxes, scores in read_proposals(source, args.format, names, args.trust_pickle):
            owner = owners.setdefault(name, source)
            if owner != source:
                if args.on_duplicate == 'error':
                    raise InputError(
                        f'{source}: picture {name!r} is in {owner} as well; --on-duplicate first '
                        'takes the proposals of the source that is named first'
                    )
                skipped += 1
                continue
            yield name, *tidy(boxes, scores, args.max_proposals)
    if skipped:
        print(f'{skipped} pictures taken from the first of several sources')


def main() -> None:
    args = parse_args()
    if args.names and len(args.names) != len(args.source):
        raise InputError(f'--names: {len(args.names)} image sets of {len(args.source)} sources')
    if len(set(args.source)) < len(args.source):
        raise InputError('a source is named twice')
    if args.out.exists() and (args.out.is_file() or any(args.out.iterdir())):
        raise InputError(f'{args.out}: exists already')
    entries = read_all(args)
    if args.to == 'store':
        count = len(write_store(args.out, entries))
    else:
        count = (write_detectron2 if args.to == 'detectron2' else write_mmdet)(args.out, entries)
    print(f'{args.out}: proposals of {count} pictures')


if __name__ == '__main__':
    with report_user_errors():
        main()
