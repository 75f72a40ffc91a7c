"""Prepare image-text data: vocabularies, precomputed regions, counts.

python tools/dataset_converters/itm.py vocab data/f30k_precomp --out data/vocab/f30k_vocab.json
python tools/dataset_converters/itm.py precomp dataset_coco.json --tsv *.tsv --out data/coco_precomp
python tools/dataset_converters/itm.py verify data/coco_precomp

A source is a folder of precomputed files ({split}_ims.npy, {split}_caps.txt), Karpathy's json, a
COCO caption json, or a text, CSV or .jsonl file of captions. `precomp` writes the precomputed
layout from Karpathy's json and the features in BUTD's .tsv files, once per image; COCO's test split
becomes testall, and its first 1,000 images become test.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from projects.common.cli.options import add_overwrite_option, refuse_existing
from projects.common.cli.report import report_user_errors
from projects.common.errors import InputError
from projects.common.files.annotation_files import read_text
from projects.common.files.atomic import check_output_file, check_writable
from projects.common.hooks.progress import progress_bar
from projects.rvse.datasets import (
    BaseMatchingDataset,
    CaptionFileMatchingDataset,
    COCOCaptionsMatchingDataset,
    KarpathyMatchingDataset,
    PrecompMatchingDataset,
    precomputed_lines,
    write_precomputed,
)
from projects.rvse.datasets.butd import butd_offsets, read_butd_at
from projects.rvse.datasets.published import PUBLISHED, compare_counts, published_name
from projects.rvse.text import Vocabulary


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest='action', required=True)

    vocab = actions.add_parser('vocab', help='build a vocabulary')
    vocab.add_argument('source', type=Path, nargs='+', help='files or folders of captions')
    vocab.add_argument('--out', type=Path, required=True, help='json to write')
    vocab.add_argument(
        '--splits',
        nargs='+',
        default=['train', 'dev', 'val'],
        help='of those that the source has (default: train dev val)',
    )
    vocab.add_argument(
        '--min-count', type=int, default=4, help='leave rarer words out (default: 4)'
    )

    precomp = actions.add_parser('precomp', help='write the precomputed layout')
    precomp.add_argument('source', type=Path, help="Karpathy's json")
    precomp.add_argument('--tsv', type=Path, nargs='+', required=True, help="BUTD's files")
    precomp.add_argument(
        '--key',
        choices=['id', 'name'],
        help="what the files' image_id is: COCO's id (imgid where there is none), or the number in "
        "the name of the image's file (default: that by which all images are found)",
    )
    precomp.add_argument('--out', type=Path, required=True, help='folder to write to')
    precomp.add_argument(
        '--splits',
        nargs='+',
        default=['train', 'val', 'test'],
        help='default: train val test',
    )

    verify = actions.add_parser('verify', help='compare with the published numbers of images')
    verify.add_argument('source', type=Path, help='file or folder of captions')
    verify.add_argument(
        '--name', choices=PUBLISHED, help="the data set (default: by the source's name)"
    )
    for action in (vocab, precomp):
        add_overwrite_option(action)
    for action in (vocab, precomp, verify):
        action.add_argument(
            '--skip-invalid-captions',
            action='store_true',
            help='leave out captions that are blank or hold half a character',
        )
    return parser.parse_args()


def open_splits(
    source: Path, skip_invalid_captions: bool, wanted: list[str] | None = None
) -> dict[str, BaseMatchingDataset]:
    """Open the dataset of each split in a file or folder."""
    options = dict(check_images=False, test_mode=True, skip_invalid_captions=skip_invalid_captions)
    if source.is_dir():
        names = sorted(path.name.removesuffix('_caps.txt') for path in source.glob('*_caps.txt'))
        if not names:
            raise InputError(f'{source}: found no *_caps.txt, expected the precomputed layout')
        return {
            name: PrecompMatchingDataset(name, str(source), **options)
            for name in names
            if wanted is None or name in wanted
        }
    if not source.is_file():
        raise InputError(f'{source}: no such file or folder')
    if source.suffix != '.json':
        return {'all': CaptionFileMatchingDataset(str(source), **options)}
    if '"sentences"' not in read_text(source):
        return {'all': COCOCaptionsMatchingDataset(str(source), **options)}
    return {
        split: KarpathyMatchingDataset(str(source), split, **options)
        for split in ('train', 'val', 'test')
        if wanted is None or split in wanted
    }


def build_vocabulary(args: argparse.Namespace) -> None:
    refuse_existing([args.out], args.overwrite)
    check_output_file(args.out)
    captions = []
    for source in args.source:
        splits = open_splits(source, args.skip_invalid_captions, args.splits)
        if not splits:
            raise InputError(f'{source}: none of the splits {", ".join(args.splits)}')
        for split, dataset in splits.items():
            captions += dataset.captions()
            print(f'{source}: {split}: {dataset.text_size:,} captions')
    vocabulary = Vocabulary.build(captions, args.min_count)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    vocabulary.save(args.out)
    print(f'wrote {args.out}: {len(vocabulary):,} words')


def feature_places(files: list[Path]) -> dict[str, tuple[str, int]]:
    """Return the file and offset of every image in the .tsv files."""
    places: dict[str, tuple[str, int]] = {}
    for file in files:
        if not file.is_file():
            raise InputError(f'--tsv {file}: no such file')
        for image_id, offset in butd_offsets(str(file)).items():
            # If an image is in several files, the last one counts.
            places[image_id] = (str(file), offset)
    return places


def find_features(
    images: list[dict], places: dict[str, tuple[str, int]], key: str | None
) -> list[tuple[str, int]]:
    """Return the place of each image's features, all found by ids or all by names of files.

    Args:
        images: Samples with ``ori_id`` and ``img_path``.
        places: Places of features, by the id in the .tsv files.
        key: What these ids are, 'id' or 'name'; None takes what all images have.

    Raises:
        InputError: An image has no features, or ids and names lead to different ones.
    """
    names = {
        'id': [[image['ori_id']] for image in images],
        'name': [[stem, stem.lstrip('0')] for image in images for stem in [image_stem(image)]],
    }
    found = {
        kind: [next((places[name] for name in each if name in places), None) for each in of_kind]
        for kind, of_kind in names.items()
        if key in (None, kind)
    }
    complete = [rows for rows in found.values() if None not in rows]
    if not complete:
        best = min(found.values(), key=lambda rows: rows.count(None))
        image = images[best.index(None)]
        raise InputError(
            f'{os.path.basename(image["img_path"])} (id {image["ori_id"]}): no features of it in '
            f'the {len(places):,} images of --tsv'
        )
    if complete[0] != complete[-1]:
        raise InputError(
            '--tsv: ids and file names of the images lead to different features; --key says '
            'which are meant'
        )
    return complete[0]


def image_stem(image: dict) -> str:
    return Path(image['img_path']).stem


def write_precomp(args: argparse.Namespace) -> None:
    is_coco = published_name(args.source.name) == 'coco'
    names = {'val': 'dev', 'test': 'testall' if is_coco else 'test'}
    check_writable(args.out)
    outputs = [args.out / f'{names.get(split, split)}_ims.npy' for split in args.splits]
    refuse_existing(outputs, args.overwrite)
    # The released files have five captions per image.
    splits = {
        split: KarpathyMatchingDataset(
            str(args.source),
            split,
            max_captions=5,
            check_images=False,
            test_mode=True,
            skip_invalid_captions=args.skip_invalid_captions,
        )
        for split in args.splits
    }
    # Everything is checked before the first split is written.
    parts: dict[str, list[dict]] = {}
    for split, dataset in splits.items():
        images = [dataset.get_data_info(i) for i in range(len(dataset))]
        short = next((image for image in images if len(image['text']) != 5), None)
        if short is not None:
            raise InputError(
                f'{args.source}: {short["img_path"]} has {len(short["text"])} captions, the '
                'layout needs 5'
            )
        precomputed_lines(args.source, images)
        name = names.get(split, split)
        parts[name] = images
        if name == 'testall' and len(images) > 1000:
            parts['test'] = images[:1000]
            refuse_existing([args.out / 'test_ims.npy'], args.overwrite)
    places = feature_places(args.tsv)
    found = {name: find_features(images, places, args.key) for name, images in parts.items()}
    args.out.mkdir(parents=True, exist_ok=True)
    for name, images in parts.items():
        with progress_bar(len(images), name, 'image') as bar:

            def features(found=found[name], bar=bar):
                for file, offset in found:
                    yield read_butd_at(file, offset).features
                    bar.update()

            captions = write_precomputed(args.out, name, features(), images)
        print(f'wrote {args.out}/{name}_*: {len(images):,} images, {captions:,} captions')


def verify(args: argparse.Namespace) -> None:
    name = args.name or published_name(args.source.absolute().name)
    splits = open_splits(args.source, args.skip_invalid_captions)
    for split, dataset in splits.items():
        print(f'{split}: {dataset.img_size:,} images, {dataset.text_size:,} captions')
    if name is None:
        raise InputError(f'{args.source}: --name says which data set it is: {", ".join(PUBLISHED)}')
    problems = compare_counts(name, {split: data.img_size for split, data in splits.items()})
    for problem in problems:
        print(f'MISSING  {problem}')
    if problems:
        sys.exit(1)
    print(f'complete: as published ({name})')


def main() -> None:
    args = parse_args()
    {'vocab': build_vocabulary, 'precomp': write_precomp, 'verify': verify}[args.action](args)


if __name__ == '__main__':
    with report_user_errors():
        main()
