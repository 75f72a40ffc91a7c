"""The formats of grounding data, and reading them split by split for the converter."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from projects.common.errors import InputError

from .dataset import GroundingDataset
from .flickr30k_entities import Flickr30kEntitiesDataset
from .generalized_refer import GRefCOCODataset, RefZOMDataset, load_grefs
from .json_lines import read_json_lines
from .masks import read_mask_file
from .refer import ReferGroundingDataset
from .reference import Reference, Sentence
from .seqtr import SeqTRGroundingDataset, load_seqtr
from .transvg import TransVGGroundingDataset
from .visual_genome import VisualGenomeRegionDataset
from .writers import write_json_lines, write_refer, write_seqtr

__all__ = ['FORMATS', 'Format', 'find_format', 'find_refs', 'iter_splits', 'read_references']

PUBLISHED_REFZOM = 'Ref-ZOM(*).p'

Splits = Iterator[tuple[str, dict]]
"""Split names, and the arguments of a dataset that reads the split."""


def find_refs(folder: Path, by: str | None, *other_names: str) -> Path:
    """Find the ``refs(*).p`` of a directory in the refer layout.

    Args:
        folder: The directory.
        by: What stands in the brackets; None if there is only one such file.
        other_names: Further patterns that the file may match.

    Raises:
        ValueError: If there is none, or there are several and ``by`` does not select one.
    """
    if by is not None:
        path = folder / f'refs({by}).p'
        if path.is_file():
            return path
    patterns = ('refs(*).p', *other_names)
    names = ' or '.join(patterns)
    found = sorted(file.name for pattern in patterns for file in folder.glob(pattern))
    if by is not None or len(found) != 1:
        wanted = f'refs({by}).p' if by is not None else f'one {names}, or --by to choose'
        raise InputError(f'{folder}: found {found or f"no {names}"}, expected {wanted}')
    return folder / found[0]


def _splits_of_refs(path: Path, split_file: Path, trust_pickle: bool) -> Splits:
    cfg = dict(ann_file=str(path / 'instances.json'), split_file=str(split_file))
    refs = load_grefs(str(split_file), trust_pickle)
    for split in dict.fromkeys(str(ref.get('split')) for ref in refs):
        yield split, dict(cfg, split=split, trust_pickle=trust_pickle)


def _refer_splits(path: Path, by: str | None = None, trust_pickle: bool = False) -> Splits:
    return _splits_of_refs(path, find_refs(path, by), trust_pickle)


def _grefcoco_splits(path: Path, by: str | None = None, trust_pickle: bool = False) -> Splits:
    found = sorted(path.glob('grefs(*).json'))
    if len(found) != 1:
        raise InputError(
            f'{path}: found {[file.name for file in found]}, expected one grefs(*).json'
        )
    return _splits_of_refs(path, found[0], trust_pickle)


def _refzom_splits(path: Path, by: str | None = None, trust_pickle: bool = False) -> Splits:
    return _splits_of_refs(path, find_refs(path, by, PUBLISHED_REFZOM), trust_pickle)


def _transvg_splits(path: Path, by: str | None = None, trust_pickle: bool = False) -> Splits:
    for file in [path] if path.is_file() else sorted(path.glob('*.pth')):
        yield file.stem.rsplit('_', 1)[-1], dict(ann_file=str(file), trust_pickle=trust_pickle)


def _seqtr_splits(path: Path, **kwargs) -> Splits:
    file = path if path.is_file() else path / 'instances.json'
    for split in load_seqtr(file):
        yield split, dict(ann_file=str(file), split=split)


def _json_lines_splits(path: Path, **kwargs) -> Splits:
    for file in [path] if path.is_file() else sorted(path.glob('*.jsonl')):
        # The data root is where the mask images are.
        yield file.stem, dict(data_root=str(file.parent.absolute()), ann_file=file.name)


def _flickr30k_splits(path: Path, **kwargs) -> Splits:
    for split in ('train', 'val', 'test'):
        if (path / f'{split}.txt').is_file():
            yield split, dict(ann_file=str(path / f'{split}.txt'))


def _vg_splits(path: Path, **kwargs) -> Splits:
    files = dict(ann_file='region_descriptions.json', vg_image_data='image_data.json')
    yield 'train', {field: str(path / name) for field, name in files.items()}


def _entry(reference: Reference) -> Any:
    return reference.file, reference.entry


def _ref_id(reference: Reference) -> Any:
    return reference.image, reference.ref_id


def _box(reference: Reference) -> Any:
    return reference.image, reference.target.ann_id, tuple(reference.target.box_xyxy())


class Format(NamedTuple):
    """Describe how to read a format and, if it can be written, how to write it.

    Args:
        dataset: Creates the dataset of a split.
        splits: Yields the splits of a file or directory.
        holds: Patterns of the files by which a directory is recognized.
        suffix: Suffix by which a file is recognized.
        write: Writes references by split to the files that :func:`output_files` names.
        object_of: Returns what all entries about one object share.
    """

    dataset: Callable[..., GroundingDataset]
    splits: Callable[..., Splits]
    holds: tuple[str, ...]
    suffix: str | None = None
    write: Callable[[dict[str, list[Reference]], list[Path]], None] | None = None
    object_of: Callable[[Reference], Any] = _entry


_json_lines = partial(
    GroundingDataset, reader=partial(read_json_lines, restore_ids=True), targets='any'
)
FORMATS = {
    'refer': Format(ReferGroundingDataset, _refer_splits, ('refs(*).p',), write=write_refer),
    'grefcoco': Format(GRefCOCODataset, _grefcoco_splits, ('grefs(*).json',)),
    # a folder whose split file was renamed to refs(final).p looks like the refer layout
    'refzom': Format(RefZOMDataset, _refzom_splits, (PUBLISHED_REFZOM,)),
    'flickr30k': Format(
        Flickr30kEntitiesDataset, _flickr30k_splits, ('Annotations/*', 'Sentences/*')
    ),
    'vg': Format(VisualGenomeRegionDataset, _vg_splits, ('region_descriptions.json',)),
    'transvg': Format(TransVGGroundingDataset, _transvg_splits, ('*.pth',), '.pth', object_of=_box),
    'jsonl': Format(
        _json_lines, _json_lines_splits, ('*.jsonl',), '.jsonl', write_json_lines, _ref_id
    ),
    'seqtr': Format(
        SeqTRGroundingDataset, _seqtr_splits, ('instances.json',), '.json', write_seqtr
    ),
}
"""The formats, in the order in which they are looked for."""


def find_format(path: Path) -> str:
    """Detect the format of a file or directory from its file names.

    Raises:
        FileNotFoundError: If the path does not exist.
        ValueError: If the path matches no known format.
    """
    if not path.exists():
        raise FileNotFoundError(f'{path}: no such file or folder')
    for name, kind in FORMATS.items():
        if path.is_file():
            if path.suffix == kind.suffix:
                return name
        elif all(any(path.glob(pattern)) for pattern in kind.holds):
            return name
    raise InputError(
        f'{path}: found no refs(*).p, grefs(*).json, Ref-ZOM(*).p, *.pth, *.jsonl, instances.json, '
        'region_descriptions.json, or Annotations/ with Sentences/; say --from'
    )


def iter_splits(
    path: Path,
    kind: str,
    *,
    by: str | None = None,
    images: str | None = None,
    check_images: bool = True,
    trust_pickle: bool = False,
    **options: Any,
) -> Iterator[tuple[str, GroundingDataset]]:
    """Yield each split of a source with its dataset, which is not loaded yet.

    Args:
        path: File or directory.
        kind: One of :data:`FORMATS`.
        by: Selects the ``refs(*).p`` of a directory in the refer layout.
        images: Image directory. None does not access the images.
        check_images: Whether every image must be in ``images``.
        trust_pickle: Load pickles with the ordinary unpickler, which may run code.
        options: Further arguments of the dataset.

    Raises:
        ValueError: If there is nothing to read.
    """
    options['data_prefix'] = dict(img=os.path.abspath(images or '.'))
    options['check_images'] = check_images and images is not None
    splits = list(FORMATS[kind].splits(path, by=by, trust_pickle=trust_pickle))
    if not splits:
        raise InputError(f'{path}: nothing of the format {kind!r} found')
    for split, cfg in splits:
        yield split, FORMATS[kind].dataset(lazy_init=True, **options, **cfg)


def read_references(
    dataset: GroundingDataset, kind: str, need_sizes: bool = False
) -> list[Reference]:
    """Read the valid references of a split, merging the sentences about one object.

    Args:
        dataset: The dataset, which need not be loaded.
        kind: Its format.
        need_sizes: Read image sizes that are not annotated.

    Returns:
        References without mask images and with ``source`` and ``image_id`` of the collection of
        the image, which are None if they are unknown.

    Raises:
        ValueError: If a size is needed and there are no images to read it from, or a reference is
            invalid and the dataset does not skip invalid ones.
    """
    merged: dict[Any, Reference] = {}
    for reference in dataset.valid_references(read_sizes=need_sizes and dataset.check_images):
        if need_sizes and reference.height is None:
            raise InputError(
                f'{reference.file}: {reference.entry}: the size of the image is not annotated, and '
                'the format to write needs it; say --images to read it from there'
            )
        _complete(reference)
        first = merged.setdefault(FORMATS[kind].object_of(reference), reference)
        if first is not reference:
            first.sentences += reference.sentences
            first.sentences.sort(key=_sent_id)
    return list(merged.values())


def _sent_id(sentence: Sentence) -> Any:
    return sentence.sent_id


def _complete(reference: Reference) -> None:
    """Read mask images, and name the collection of the image and its id there."""
    for target in reference.targets:
        if isinstance(target.mask, str):
            target.mask = read_mask_file(target.mask)
    collection, image_id = reference.image_keys[0]
    known = collection != 'file'
    reference.source = collection if known else None
    if not isinstance(reference.image_id, (int, np.integer)):
        reference.image_id = image_id if known else None
