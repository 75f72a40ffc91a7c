"""gRefCOCO and Ref-ZOM: the refer layout with sentences about no object, one or several."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.registry import DATASETS, FUNCTIONS

from projects.common.errors import InputError
from projects.common.files.annotation_files import IDENTIFIER, read_json, shown

from .checks import Invalid, check_annotation, check_ref, check_split, check_types, expect
from .refer import ReferGroundingDataset, load_instances, load_refs, sentences_of, target_of
from .reference import Reference

__all__ = [
    'GRefCOCODataset',
    'RefZOMDataset',
    'load_grefs',
    'read_grefcoco',
    'read_refzom',
]

NO_OBJECT = -1
_COCO_YEAR = re.compile(r'COCO_((?:train|val)2014)_\d+\.jpg')


def load_grefs(path: str, trust_pickle: bool = False) -> list[dict]:
    """Load the entries of a ``grefs(*).json``, or of a pickle with the same content.

    Raises:
        ValueError: If the file has another format.
    """
    if not path.endswith('.json'):
        return load_refs(path, trust_pickle)
    refs = read_json(path)
    if not isinstance(refs, list) or not all(isinstance(ref, dict) for ref in refs):
        raise InputError(f'{path}: expected a list of references (dicts)')
    return refs


def _read(
    refs: list[dict],
    files: Mapping[str, str],
    split: str | None,
    sentence_key: str,
    says_no_object: str,
    by_year: bool,
) -> Iterator[Reference | Invalid]:
    """Yield the references of a split.

    Args:
        refs: The entries of the split file.
        files: See :func:`read_grefcoco`.
        split: The split.
        sentence_key: Field of the text.
        says_no_object: Field of an entry that tells whether nothing fits.
        by_year: Whether the images lie in the folders of COCO's ``train2014`` and ``val2014``.
    """
    file, ann_file = files['split_file'], files['ann_file']
    check_split(file, split, {str(ref.get('split')) for ref in refs})
    images, annotations, categories = load_instances(ann_file)
    seen: set = set()
    for index, ref in enumerate(refs):
        if str(ref.get('split')) != split:
            continue
        try:
            # The id of any object, since these checks are of entries with one
            check_ref({**ref, 'ann_id': NO_OBJECT}, sentence_key, seen)
            seen.add(ref['ref_id'])
            ann_ids = _ann_ids(ref, says_no_object)
            if ref['image_id'] not in images:
                found = shown(ref['image_id'])
                lost: dict[str, Any] = dict(num_sentences=len(ref['sentences']))
                raise Invalid('image_id', f'an image of {ann_file}', found, 'no annotation', **lost)
            for ann_id in ann_ids:
                check_annotation({**ref, 'ann_id': ann_id}, images, annotations, ann_file)
        except Invalid as invalid:
            yield invalid.at(file, f'reference {index} (ref_id {shown(ref.get("ref_id"))})')
            continue
        image = images[ref['image_id']]
        name = image['file_name']
        year = _COCO_YEAR.fullmatch(name) if by_year else None
        yield Reference(
            file=file,
            entry=f'ref_id {ref["ref_id"]}, ann_id {shown(ann_ids)}',
            image=f'{year[1]}/{name}' if year else name,
            sentences=sentences_of(ref, sentence_key),
            targets=[target_of(annotations[ann_id], categories) for ann_id in ann_ids],
            image_id=ref['image_id'],
            ref_id=ref['ref_id'],
            height=image['height'],
            width=image['width'],
        )


def _ann_ids(ref: dict, says_no_object: str) -> list:
    """Return the ids of an entry's objects, each once, in order.

    Raises:
        Invalid: If they are no ids, or contradict the field that tells whether nothing fits.
    """
    given = ref.get('ann_id')
    ids = list(given) if isinstance(given, (list, tuple)) else [given]
    if says_no_object == 'source':  # Ref-ZOM; the ids of its entries without objects mean nothing
        check_types(ref, str, 'source', optional=True)
        if ref.get('source') == 'zero':
            return []
    for ann_id in ids:
        check_types(dict(ann_id=ann_id), IDENTIFIER, 'ann_id')
    nothing = ids in ([], [NO_OBJECT])
    expect(nothing or NO_OBJECT not in ids, 'ann_id', 'ids of objects, or [-1] alone', given)
    if nothing and says_no_object == 'source':
        raise Invalid('ann_id', "an object, unless source is 'zero'", shown(given))
    says = ref.get(says_no_object)
    if isinstance(says, bool):
        expected = 'ids of objects' if nothing else '[-1] alone'
        expect(says == nothing, 'ann_id', f'{expected}, as {says_no_object} is {says}', given)
    return [] if nothing else list(dict.fromkeys(ids))


@FUNCTIONS.register_module()
def read_grefcoco(
    files: Mapping[str, str],
    split: str | None,
    *,
    sentence_key: str = 'sent',
    trust_pickle: bool = False,
) -> Iterator[Reference | Invalid]:
    """Read gRefCOCO (GRES, Liu et al., CVPR 2023), or any data in its layout.

    ::

        data_root
        ├── images/train2014/COCO_train2014_000000000154.jpg
        └── grefcoco/{instances.json, grefs(unc).json}

    ``instances.json`` is a COCO annotation file. ``grefs(unc).json`` is a list::

        [{
            'ref_id': 0, 'image_id': 154, 'split': 'train',
            'ann_id': [590410, 590822],   # [-1] if nothing in the image fits
            'no_target': False,           # optional; must agree with ann_id
            'sentences': [{'sent_id': 0, 'sent': 'both zebras', 'raw': 'Both zebras', ...}],
        }, ...]

    Crowds (``iscrowd=1``) are kept, as they are by :func:`read_refer`; ReLA's code leaves them out
    of the mask.

    Args:
        files: ``ann_file`` is ``instances.json``, ``split_file`` is ``grefs(*).json``.
        split: 'train', 'val', 'testA' or 'testB', as named in the split file.
        sentence_key: 'sent' or 'raw'; see :func:`read_refer`.
        trust_pickle: Load a split file that is a pickle with the ordinary unpickler, which may run
            code.
    """
    refs = load_grefs(files['split_file'], trust_pickle)
    yield from _read(refs, files, split, sentence_key, 'no_target', by_year=False)


@FUNCTIONS.register_module()
def read_refzom(
    files: Mapping[str, str],
    split: str | None,
    *,
    sentence_key: str = 'sent',
    trust_pickle: bool = False,
) -> Iterator[Reference | Invalid]:
    """Read Ref-ZOM (DMMI, Hu et al., ICCV 2023).

    ::

        data_root
        ├── images/{train2014, val2014}/COCO_train2014_000000000154.jpg
        └── ref-zom/{instances.json, refs(final).p}     # published as Ref-ZOM(final).p

    The files are those of :func:`read_refer`, except that ``ann_id`` is an id or a list of ids, and
    that an entry to which nothing in the image fits has ``'source': 'zero'``. Images with the name
    of a COCO image are looked for in the folder of their year below the image directory.

    Args:
        files: ``ann_file`` is ``instances.json``, ``split_file`` is ``refs(final).p``.
        split: 'train' or 'test', as named in the split file.
        sentence_key: 'sent' or 'raw'; see :func:`read_refer`.
        trust_pickle: Load the split file with the ordinary unpickler, which may run code.
    """
    refs = load_refs(files['split_file'], trust_pickle)
    yield from _read(refs, files, split, sentence_key, 'source', by_year=True)


class _GeneralizedDataset(ReferGroundingDataset):
    """Keep the sentences about any number of objects, unless told otherwise."""

    def __init__(self, *args: Any, targets: str = 'any', **kwargs: Any) -> None:
        super().__init__(*args, targets=targets, **kwargs)


@DATASETS.register_module()
class GRefCOCODataset(_GeneralizedDataset):
    """Load gRefCOCO or data in its layout; see :func:`read_grefcoco`.

    Args:
        ann_file: ``instances.json``, relative to ``data_root``.
        split_file: ``grefs(*).json``, relative to ``data_root``.
        split: 'train', 'val', 'testA' or 'testB', as named in the split file.
        sentence_key: 'sent' or 'raw'; see :func:`read_refer`.
        targets: 'any', or 'single' for the sentences about one object alone.
        trust_pickle: Load a split file that is a pickle with the ordinary unpickler, which may run
            code.
        kwargs: Arguments of :class:`GroundingDataset`.

    Raises:
        ValueError: If the split file has no such split, or a file has another format.
    """

    READER = staticmethod(read_grefcoco)


@DATASETS.register_module()
class RefZOMDataset(_GeneralizedDataset):
    """Load Ref-ZOM; see :func:`read_refzom`.

    Args:
        ann_file: ``instances.json``, relative to ``data_root``.
        split_file: ``refs(final).p``, relative to ``data_root``.
        split: 'train' or 'test', as named in the split file.
        sentence_key: 'sent' or 'raw'; see :func:`read_refer`.
        targets: 'any', or 'single' for the sentences about one object alone.
        trust_pickle: Load the split file with the ordinary unpickler, which may run code.
        kwargs: Arguments of :class:`GroundingDataset`.

    Raises:
        ValueError: If the split file has no such split, or a file has another format.
    """

    READER = staticmethod(read_refzom)
