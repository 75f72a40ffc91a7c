"""Convert proposals between formats, merging several sources into one.

python tools/dataset_converters/proposals.py MCG-Pascal-Main_trainvaltest_2012-boxes data/voc_mcg
python tools/dataset_converters/proposals.py MCG-Pascal-Segmentation_trainvaltest_2012-boxes \\
    MCG-SBD-trainval-boxes data/voc_sbd_mcg --on-duplicate first
python tools/dataset_converters/proposals.py voc_2007_train.mat out --names ImageSets/Main/train.txt
python tools/dataset_converters/proposals.py voc_2012.pkl out --voc-ids --images data/JPEGImages
python tools/dataset_converters/proposals.py data/proposals/voc_train out.pkl --to mmdet \\
    --images data/VOCdevkit/VOC2012/JPEGImages

Readable formats: our store (a folder), MCG (a folder of .mat), Selective Search (one .mat),
Detectron and detectron2 (.pkl) and mmdet's dictionaries (.pkl), which its DumpProposals writes.
Writable formats: the store, detectron2 and mmdet. An image found in two sources is an error, or the
first source wins. A store says whether its names are ids, file names or paths. With --images, it
also knows the images, so that the proposals are refused for others. mmdet's keys are the folder and
the name of the file with its suffix (JPEGImages/2007_000032.jpg), which --images finds.
"""

from __future__ import annotations

import argparse
import sys
from collections import ChainMap
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from projects.common.cli.options import add_trust_pickle_option
from projects.common.cli.report import report_user_errors
from projects.common.errors import InputError
from projects.common.files.atomic import check_writable
from projects.pdsl.image_sets import read_image_names
from projects.pdsl.proposals import (
    FORMATS,
    open_proposals,
    tidy,
    write_detectron2,
    write_mmdet,
    write_store,
)
from projects.pdsl.proposals.formats import ProposalSource
from projects.pdsl.proposals.identity import KEYS, voc_name
from projects.pdsl.proposals.known_images import identify_in_folder, identify_in_json
from projects.pdsl.proposals.mmdet_keys import mmdet_keys


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
        help='image set of a Selective Search .mat that names no images; once for each source',
    )
    parser.add_argument(
        '--keys',
        choices=KEYS,
        help='what the names are, for sources that do not say it',
    )
    parser.add_argument(
        '--voc-ids',
        action='store_true',
        help="turn ids that are integers into VOC's names: 12 into 000012, 2008000002 into "
        '2008_000002',
    )
    parser.add_argument(
        '--images',
        type=Path,
        help='folder of the images, or COCO json that lists them: the store keeps their sizes '
        'and, of a folder, checksums; a file of mmdet names the images as found there',
    )
    parser.add_argument(
        '--folder',
        help='last folder of the images in the paths that mmdet has, such as val2017, for a COCO '
        'json that lists only file names; with --to mmdet',
    )
    parser.add_argument(
        '--on-duplicate',
        choices=['error', 'first'],
        default='error',
        help='what to do with an image that several sources have: stop, or take the proposals of '
        'the first (default: %(default)s)',
    )
    parser.add_argument('--max-proposals', type=int, help='keep the best of each image')
    add_trust_pickle_option(parser)
    return parser.parse_args()


def open_sources(args: argparse.Namespace) -> list[ProposalSource]:
    """Open all sources."""
    opened = []
    for index, path in enumerate(args.source):
        names = read_image_names(args.names[index]) if args.names else None
        source = open_proposals(path, args.format, names, args.trust_pickle)
        if args.keys and source.keys not in (None, args.keys):
            raise InputError(f'--keys {args.keys}: the names of {path} are {source.keys}')
        source.keys = source.keys or args.keys
        if args.voc_ids:
            if source.keys != 'ids':
                raise InputError(f'--voc-ids: the names of {path} are {source.keys}, expected ids')
            source.keys = 'names'
            source.entries = ((voc_name(name), *rest) for name, *rest in source.entries)
            source.images = {voc_name(name): known for name, known in source.images.items()}
        opened.append(source)
    return opened


def common_keys(args: argparse.Namespace, sources: list[ProposalSource]) -> str | None:
    """Return what the names of all sources are. File names are paths, too."""
    kinds = {source.keys: path for path, source in zip(args.source, sources)}
    if kinds.keys() == {'names', 'paths'}:
        return 'paths'
    if len(kinds) > 1:
        found = ', '.join(f'{keys or "unknown"} in {path}' for keys, path in kinds.items())
        raise InputError(f'names of several kinds cannot be combined: {found}')
    return next(iter(kinds))


def read_all(args: argparse.Namespace, sources: list[ProposalSource]) -> Iterator[tuple]:
    """Yield the proposals of all sources, each image once."""
    owners: dict[str, Path] = {}
    skipped = 0
    for path, source in zip(args.source, sources):
        for name, boxes, scores in source.entries:
            owner = owners.setdefault(name, path)
            if owner != path:
                if args.on_duplicate == 'error':
                    raise InputError(
                        f'{path}: image {name!r} is in {owner} as well; --on-duplicate first '
                        'takes the proposals of the source that is named first'
                    )
                skipped += 1
                continue
            yield name, *tidy(boxes, scores, args.max_proposals)
    if skipped:
        print(f'{skipped} images taken from the first of several sources')


def main() -> None:
    args = parse_args()
    if args.names and len(args.names) != len(args.source):
        raise InputError(f'--names: {len(args.names)} image sets of {len(args.source)} sources')
    if len(set(args.source)) < len(args.source):
        raise InputError('a source is named twice')
    if args.out.exists() and (args.out.is_file() or any(args.out.iterdir())):
        raise InputError(f'{args.out}: exists already')
    if args.images and args.to == 'detectron2':
        raise InputError('--images: only a store keeps sizes, not a file of detectron2')
    if args.folder and args.to != 'mmdet':
        raise InputError(f'--folder: only mmdet has folders in its keys, not {args.to}')
    if args.max_proposals is not None and args.max_proposals < 1:
        raise InputError(f'--max-proposals: found {args.max_proposals}, expected at least 1')
    check_writable(args.out if args.to == 'store' else args.out.parent)
    sources = open_sources(args)
    keys = common_keys(args, sources)
    entries = read_all(args, sources)
    if args.to == 'store':
        identify = ChainMap(*(source.images for source in sources)).get
        if args.images:
            of = identify_in_folder if args.images.is_dir() else identify_in_json
            identify = of(args.images, keys)
        store = write_store(args.out, entries, keys=keys, identify=identify)
        count = len(store)
        unknown = count - len(store.images)
        if unknown:
            print(f'{unknown} of {count} images are not known by their size; --images adds it')
    elif args.to == 'mmdet':
        key_of = mmdet_keys(args.images, keys, args.folder)
        count = write_mmdet(args.out, ((key_of(name), *rest) for name, *rest in entries))
    else:
        count = write_detectron2(args.out, entries)
    print(f'{args.out}: proposals of {count} images')


if __name__ == '__main__':
    with report_user_errors():
        main()
