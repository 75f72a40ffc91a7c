"""Checks of what annotation files hold, and the error for what fails them."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from projects.common.errors import InputError
from projects.common.files.annotation_files import (
    FLAG,
    IDENTIFIER,
    has_kind,
    is_utf8,
    shown,
)

__all__ = [
    'Invalid',
    'check_annotation',
    'check_box',
    'check_json_line',
    'check_ref',
    'check_seqtr_record',
    'check_size',
    'check_split',
    'check_text',
    'check_transvg_entry',
    'check_types',
    'expect',
    'expect_utf8',
    'four_numbers',
    'xywh_to_xyxy',
]

MAX_SIDE = 2**20  # pixels; the largest side that OpenCV reads
_MAX_PIXELS = 2**30
_MAX_OVERFLOW = 2.0  # pixels by which annotated boxes may exceed the image


@dataclass(eq=False)
class Invalid(InputError):
    """Describe an entry of an annotation file that cannot be used.

    Checks raise it, and readers yield it in place of the :class:`Reference`. Its text is
    ``file: entry: reason: field: expected ..., found ...``.

    Args:
        field: The field, as the file names it. Empty if the entry as a whole is wrong.
        expected: Description of what the field must hold.
        found: Description of what it holds.
        reason: Kind of damage, such as 'degenerate box', by which ``skip_invalid`` counts the
            skipped samples. None means that the entry does not have the format of the file, which
            is an error even with ``skip_invalid``.
        file: The annotation file.
        entry: The place in the file, such as 'ref_id 7', or a line number.
        image: The image, relative to the image directory, if it is known.
        num_sentences: Number of sentences that are lost.
    """

    field: str = ''
    expected: str = ''
    found: str = ''
    reason: str | None = None
    file: str = ''
    entry: str | int = ''
    image: str | None = None
    num_sentences: int = 1

    def __str__(self) -> str:
        """Return the message on one line."""
        is_line = isinstance(self.entry, int)
        place = [f'{self.file}:{self.entry}'] if is_line else [self.file, str(self.entry)]
        what = f'expected {self.expected}, found {self.found}'
        parts = [*place, self.reason, self.field, what]
        return ' '.join(': '.join(filter(None, parts)).splitlines())

    def at(self, file: str, entry: str | int) -> Invalid:
        """Return a copy that names the place, unless the place is known already."""
        return self if self.file else replace(self, file=file, entry=entry)


# ------------------------------------------------------------------------------- types of fields

_NAMES = {
    IDENTIFIER: 'a number or a string',
    FLAG: 'a number, true or false',
    str: 'a string',
}


def expect(ok: Any, field: str, expected: str, value: Any, reason: str | None = None) -> None:
    """Raise :class:`Invalid` with the value that was found, unless ``ok`` is true."""
    if not ok:
        raise Invalid(field, expected, shown(value), reason)


def check_types(
    entry: dict[str, Any], kind: Any, *fields: str, expected: str = '', optional: bool = False
) -> None:
    """Check that fields of an entry have a type, as :func:`has_kind` does.

    Args:
        entry: The entry.
        kind: A type or a tuple of types.
        fields: Names of the fields.
        expected: Description of the type; ``str``, ``IDENTIFIER`` and ``FLAG`` have one.
        optional: Whether the fields may be absent or None.

    Raises:
        Invalid: If a field has another type.
    """
    for field in fields:
        ok = has_kind(entry, field, kind)
        value = entry.get(field)
        expect(ok or (optional and value is None), field, expected or _NAMES[kind], value)


def expect_utf8(entry: Mapping[str, Any], field: str) -> None:
    """Check that a text, if there is one, has no half of a character, which no file can hold.

    Raises:
        Invalid: If it has.
    """
    text = entry.get(field) or ''
    expect(is_utf8(text), field, 'text that UTF-8 can encode', text, reason='half a character')


# ------------------------------------------------------------------- entries of annotation files


def check_split(file: str, split: str | None, splits: Collection[str]) -> None:
    """Check that a file has a split.

    Raises:
        ValueError: If it has not.
    """
    if split not in splits:
        raise InputError(f'{file}: no split {split!r}; it has {shown(sorted(splits), 200)}')


def check_ref(ref: dict, sentence_key: str, earlier_ids: set) -> None:
    """Check what is read from an entry of ``refs(*).p``.

    Raises:
        Invalid: If a field is missing or has another type, or an earlier entry has the same id.
    """
    check_types(ref, IDENTIFIER, 'ref_id', 'ann_id', 'image_id')
    expect(ref['ref_id'] not in earlier_ids, 'ref_id', "no earlier reference's id", ref['ref_id'])
    sentences = ref.get('sentences')
    ok = isinstance(sentences, list) and all(isinstance(each, dict) for each in sentences)
    expect(ok, 'sentences', 'a list of dicts', sentences)
    for sentence in ref['sentences']:
        check_types(sentence, IDENTIFIER, 'sent_id')
        expect(sentence_key in sentence, sentence_key, 'a field of each sentence', sentence)


def check_annotation(ref: dict, images: dict, annotations: dict, file: str) -> None:
    """Check that the image and the annotation of an entry of ``refs(*).p`` fit together.

    Args:
        ref: The entry.
        images: Images of the COCO annotation file by id.
        annotations: Its annotations by id.
        file: The COCO annotation file.

    Raises:
        Invalid: If one of them is missing or the annotation is of another image.
    """
    image, annotation = images.get(ref['image_id']), annotations.get(ref['ann_id'])
    lost: dict[str, Any] = dict(reason='no annotation', num_sentences=len(ref['sentences']))
    if image is None:
        raise Invalid('image_id', f'an image of {file}', shown(ref['image_id']), **lost)
    lost['image'] = image['file_name']
    if annotation is None:
        raise Invalid('ann_id', f'an annotation of {file}', shown(ref['ann_id']), **lost)
    try:
        check_types(annotation, IDENTIFIER, 'image_id')
        check_types(annotation, IDENTIFIER, 'category_id', optional=True)
        check_types(annotation, FLAG, 'iscrowd', optional=True)
    except Invalid as invalid:
        raise invalid.at(file, f'annotation {ref["ann_id"]}') from None
    if annotation['image_id'] != ref['image_id']:
        found = f'{ref["ann_id"]}, which is of image {annotation["image_id"]}'
        raise Invalid('ann_id', f'an annotation of image {ref["image_id"]}', found, **lost)


def check_seqtr_record(record: Any) -> None:
    """Check what is read from a record of a SeqTR file.

    Raises:
        Invalid: If a field is missing or has another type.
    """
    expect(isinstance(record, dict), '', 'a record (dict)', record)
    check_types(record, str, 'data_source', 'file_name', optional=True)
    texts = record.get('expressions')
    ok = isinstance(texts, list) and all(isinstance(text, str) for text in texts)
    expect(ok, 'expressions', 'a list of strings', texts)
    for field, values in (
        ('kinds', record.get('kinds') or None),
        ('sent_ids', record.get('sent_ids')),
    ):
        ok = values is None or (isinstance(values, list) and len(values) == len(texts))
        expect(ok, field, f'one for each of the {len(texts)} expressions', values)


def check_transvg_entry(entry: Any) -> None:
    """Check the form of a tuple of a TransVG file.

    Raises:
        Invalid: If it is no such tuple.
    """
    expect(
        isinstance(entry, (tuple, list)) and len(entry) in (3, 5),
        '',
        '(image, mask file or collection, box, sentence, attributes) or (image, box, phrase)',
        entry,
    )
    expect(isinstance(entry[0], str), 'image', 'a file name', entry[0])
    expect(
        len(entry) == 3 or has_kind(dict(second=entry[1]), 'second', IDENTIFIER),
        'second field',
        "a mask file ('225429.pth') or a collection ('coco', 'flickr', 'vg')",
        entry[1],
    )


_OBJECT_FIELDS = ('bbox', 'mask', 'category', 'object_id')
_JSON_FIELDS = (
    'image', 'sentence', 'sentences', *_OBJECT_FIELDS, 'objects', 'width', 'height', 'kind', 'meta',
)  # fmt: skip


def check_json_line(line: str) -> dict[str, Any]:
    """Parse a line of a JSON Lines file, and check its fields.

    Raises:
        Invalid: If it is not JSON, or a field is unknown, missing or has another type.
    """
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        found = f'{shown(line)} ({error})'
        raise Invalid('line', 'a JSON object on one line', found) from None
    expect(isinstance(fields, dict), 'line', 'a JSON object', fields)
    _check_known(fields, _JSON_FIELDS)
    image = fields.get('image')
    expect(isinstance(image, str) and image, 'image', 'a path', image)
    ok = ('sentence' in fields) != ('sentences' in fields)
    expect(ok, 'sentence', "either 'sentence' or 'sentences'", sorted(fields))
    if 'sentence' in fields:
        check_types(fields, str, 'sentence')
    else:
        texts = fields['sentences']
        are_texts = isinstance(texts, list) and all(isinstance(text, str) for text in texts)
        expect(texts and are_texts, 'sentences', 'a list of strings', texts)
    if 'objects' in fields:
        objects = fields['objects']
        ok = isinstance(objects, list) and all(isinstance(each, dict) for each in objects)
        expect(ok, 'objects', 'a list of objects, such as [{"bbox": [...]}], or []', objects)
        ok = fields.keys().isdisjoint(_OBJECT_FIELDS)
        expect(ok, 'objects', f"either 'objects' or {', '.join(_OBJECT_FIELDS)}", sorted(fields))
        for each in objects:
            _check_known(each, _OBJECT_FIELDS)
            _check_json_object(each)
    else:
        _check_json_object(fields)
    ok = (fields.get('width') is None) == (fields.get('height') is None)
    expect(ok, 'width', "'width' and 'height' together or neither", sorted(fields))
    return fields


def _check_known(fields: dict[str, Any], known: tuple[str, ...]) -> None:
    for key in sorted(fields.keys() - set(known)):
        near = difflib.get_close_matches(key, known, n=1)
        expected = repr(near[0]) if near else "further data under 'meta'"
        raise Invalid(f'unknown field {shown(key)}', expected, shown(fields[key]))


def _check_json_object(fields: dict[str, Any]) -> None:
    check_types(
        fields, (list, dict, str), 'mask', expected='polygons, an RLE or a path', optional=True
    )
    box = fields.get('bbox')
    expect(box is not None or fields.get('mask'), 'bbox', "a 'bbox' or a 'mask'", sorted(fields))
    ok = isinstance(box, list) and len(box) == 4 and all(type(v) in (int, float) for v in box)
    expect(box is None or ok, 'bbox', '[x1, y1, x2, y2]', box)
    check_types(fields, IDENTIFIER, 'object_id', optional=True)


# ------------------------------------------------------------------------------------ values


def check_size(height: Any, width: Any) -> None:
    """Reject image sizes that are not possible.

    Args:
        height: Height in pixels.
        width: Width in pixels.

    Raises:
        Invalid: If they are not integers, not positive, or larger than OpenCV reads.
    """
    sides = (height, width)
    ok = all(isinstance(side, (int, np.integer)) and 0 < side <= MAX_SIDE for side in sides)
    if not ok or height * width > _MAX_PIXELS:
        raise Invalid(
            'height, width',
            f'1 to {MAX_SIDE} pixels each, and at most {_MAX_PIXELS} in all',
            f'{shown(height)}, {shown(width)}',
            'invalid size',
        )


def check_text(text: Any, field: str = 'sentence') -> str:
    """Strip surrounding whitespace from a sentence.

    Raises:
        Invalid: If it is not a string, only whitespace, or holds half a character.
    """
    ok = isinstance(text, str) and text.strip()
    expect(ok, field, 'a text', text, reason='empty sentence')
    expect_utf8({field: text}, field)
    return text.strip()


def xywh_to_xyxy(box_xywh: Any) -> list[float]:
    """Convert COCO's [x, y, width, height] to [x1, y1, x2, y2], both in float pixels.

    Raises:
        Invalid: If the box is not four finite numbers.
    """
    x, y, w, h = four_numbers(box_xywh)
    return [x, y, x + w, y + h]


def four_numbers(box: Any) -> list[float]:
    """Convert the numbers of a box to floats.

    Raises:
        Invalid: If they are not four finite numbers.
    """
    try:
        numbers = [] if isinstance(box, (str, Mapping)) else [float(value) for value in box]
    except (TypeError, ValueError, OverflowError):
        numbers = []
    ok = len(numbers) == 4 and all(math.isfinite(value) for value in numbers)
    expect(ok, 'bbox', 'four finite numbers', box, reason='degenerate box')
    return numbers


def check_box(box: Any, height: int | None, width: int | None) -> list[float]:
    """Clip a box to its image.

    Args:
        box: [x1, y1, x2, y2] in pixels.
        height: Height of the image, or None if unknown (then only the order of the corners is
            checked).
        width: Width of the image, or None.

    Raises:
        Invalid: If the box has no area, or exceeds the image by more than 2 pixels.
    """
    x1, y1, x2, y2 = numbers = four_numbers(box)
    ok = x1 < x2 and y1 < y2
    corners = '[x1, y1, x2, y2] with x1 < x2 and y1 < y2'
    expect(ok, 'bbox', corners, numbers, reason='degenerate box')
    if height is None or width is None:
        return numbers
    clipped = [max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))]
    overflow = max(-x1, -y1, x2 - width, y2 - height)
    ok = overflow <= _MAX_OVERFLOW and clipped[0] < clipped[2] and clipped[1] < clipped[3]
    inside = f'a box inside the image of {width}x{height} pixels'
    expect(ok, 'bbox', inside, numbers, reason='degenerate box')
    return clipped
