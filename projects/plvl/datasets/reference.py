"""A reference: objects in an image, usually one, with the sentences about them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from projects.common.errors import InputError
from projects.common.files.annotation_files import FLAG, IDENTIFIER

from .checks import (
    Invalid,
    check_box,
    check_size,
    check_text,
    check_types,
    expect,
    expect_utf8,
    four_numbers,
    xywh_to_xyxy,
)
from .image_identity import ImageFolder, ImageKey
from .masks import check_mask, check_mask_file, check_mask_meets_box, mask_box, read_mask_file

__all__ = ['Reference', 'Sentence', 'Target']


@dataclass
class Sentence:
    """Hold a referring expression.

    Args:
        text: The expression.
        sent_id: Its id. None numbers the sentences of a dataset from 0.
        kind: Kind of sentence, such as 'position', for results by kind.
    """

    text: str
    sent_id: int | str | None = None
    kind: str | None = None


@dataclass
class Target:
    """Hold an object that sentences refer to.

    Args:
        box: The box in pixels.
        box_format: 'xyxy' for [x1, y1, x2, y2], 'xywh' for [x, y, width, height], or 'mask' if the
            box is to be computed from the mask.
        mask: Polygons, an RLE, the path of a mask image, or None.
        ann_id: Id of the object.
        category: Name of its category.
        category_id: Id of its category.
        iscrowd: Whether it is a group that is outlined as one object.
    """

    box: Any = None
    box_format: Literal['xyxy', 'xywh', 'mask'] = 'xyxy'
    mask: Any = None
    ann_id: int | str | None = None
    category: str | None = None
    category_id: int | str | None = None
    iscrowd: int | None = 0
    bbox: list[float] = field(init=False, default_factory=list)
    """The box inside the image, XYXY in float pixels; set by :meth:`check`."""

    def check(self, height: int | None, width: int | None, read_mask: bool = False) -> None:
        """Validate the box and the mask for an image of this size, and set :attr:`bbox`.

        Args:
            height: Height of the image in pixels, or None if unknown.
            width: Width of the image in pixels, or None.
            read_mask: Whether to read a mask image even if the box is annotated.

        Raises:
            Invalid: If the box or the mask cannot be used.
        """
        mask = self.mask
        if isinstance(mask, str):  # read again when the sample is used, to save memory
            check_mask_file(mask)
            needs_mask = read_mask or self.box_format == 'mask'
            mask = check_mask(read_mask_file(mask), height, width) if needs_mask else None
        elif mask is not None:
            mask = self.mask = check_mask(mask, height, width)
        if self.box_format == 'mask':
            expect(mask is not None, 'mask', 'a mask or a box', mask, reason='invalid mask')
            self.box, self.box_format = check_box(mask_box(mask), height, width), 'xyxy'
        self.bbox = check_box(self.box_xyxy(), height, width)
        if mask is not None:
            check_mask_meets_box(mask, self.bbox)

    def instance(self) -> dict[str, Any]:
        """Return the checked object as an entry of mmdet's ``instances``."""
        instance: dict[str, Any] = dict(bbox=self.bbox, bbox_label=0, ignore_flag=0)
        if self.mask is not None:
            instance['mask'] = self.mask
        return instance

    def box_xyxy(self) -> list[float]:
        """Return the annotated box as [x1, y1, x2, y2]."""
        return xywh_to_xyxy(self.box) if self.box_format == 'xywh' else four_numbers(self.box)

    def box_xywh(self) -> list[float]:
        """Return the annotated box as [x, y, width, height]."""
        if self.box_format == 'xywh':  # x + w - x is not always w in floating point
            return four_numbers(self.box)
        x1, y1, x2, y2 = four_numbers(self.box)
        return [x1, y1, round(x2 - x1, 9), round(y2 - y1, 9)]


@dataclass
class Reference:
    """Hold the objects that sentences name, and the sentences, as an annotation file has them.

    Readers fill in the fields that their files have; :meth:`check` validates them. ``image_id``,
    ``ref_id`` and the ``sent_id`` of sentences may be left out: they are then the image, and the
    positions of the reference and of the sentence in the dataset.

    Args:
        file: The annotation file.
        entry: The place in the file for messages: a line number, or a text such as 'ref_id 7'.
        image: Path of the image relative to the image directory.
        sentences: The sentences.
        targets: The objects that each of the sentences refers to. One, unless the data has
            generalized expressions, which refer to none or several as well.
        image_id: Id of the image.
        ref_id: Id of the reference.
        height: Height of the image in pixels, or None if it is not annotated.
        width: Width of the image in pixels, or None.
        source: The collection of the image, or None if the file does not tell.
    """

    file: str
    entry: str | int
    image: str
    sentences: list[Sentence]
    targets: list[Target]
    image_id: int | str | None = None
    ref_id: int | str | None = None
    height: int | None = None
    width: int | None = None
    source: str | None = None
    img_path: str = field(init=False, default='')
    """Path of the image; set by :meth:`check`."""
    image_keys: tuple[ImageKey, ...] = field(init=False, default=())
    """What identifies the image in all datasets; set by :meth:`check`."""

    @property
    def target(self) -> Target:
        """Return the only target.

        Raises:
            ValueError: If the sentences refer to no object or to several.
        """
        if len(self.targets) != 1:
            raise InputError(
                f'{self.file}: {self.entry}: found sentences about {len(self.targets)} objects, '
                'expected one (targets="single" of the dataset leaves the others out)'
            )
        return self.targets[0]

    def number(self, ref_id: int, sent_id: int) -> None:
        """Fill in the ids that are left out, the first sentence getting ``sent_id``."""
        if self.image_id is None:
            self.image_id = self.image
        if self.ref_id is None:
            self.ref_id = ref_id
        for i, sentence in enumerate(self.sentences, start=sent_id):
            if sentence.sent_id is None:
                sentence.sent_id = i

    def check(self, images: ImageFolder | None = None, any_number: bool = False) -> list[Invalid]:
        """Validate all fields, and bring boxes, masks and sentences into their final form.

        Sentences that cannot be used are dropped. If the image or an object cannot be used, all
        sentences are.

        Args:
            images: Where the image is, and whether to decode it. None does not look for it.
            any_number: Whether the sentences may refer to no object or to several.

        Returns:
            What is wrong with the reference or with each dropped sentence.
        """
        try:
            self._check_types(any_number)
            if images is not None:
                images.locate(self)
            if self.height is not None or self.width is not None:
                check_size(self.height, self.width)
            for target in self.targets:
                target.check(self.height, self.width, images is not None and images.decode)
        except Invalid as invalid:
            lost = replace(invalid.at(self.file, self.entry), num_sentences=len(self.sentences))
            self.sentences = []
            return [lost]
        problems, usable = [], []
        for sentence in self.sentences:
            try:
                sentence.text = check_text(sentence.text, f'sent_id {sentence.sent_id}')
                usable.append(sentence)
            except Invalid as invalid:
                problems.append(invalid.at(self.file, self.entry))
        self.sentences = usable
        return problems

    def _check_types(self, any_number: bool) -> None:
        fields = vars(self)
        check_types(fields, str, 'image')
        check_types(fields, str, 'source', optional=True)
        check_types(fields, IDENTIFIER, 'image_id', 'ref_id')
        integer = (int, np.integer)
        check_types(
            fields, integer, 'height', 'width', expected='a positive integer', optional=True
        )
        one = 'one object (targets="any" of the dataset admits none and several)'
        expect(any_number or len(self.targets) == 1, 'targets', one, self.targets)
        for target in map(vars, self.targets):
            check_types(target, IDENTIFIER, 'ann_id', 'category_id', optional=True)
            check_types(target, str, 'category', optional=True)
            check_types(target, FLAG, 'iscrowd', optional=True)
            expect_utf8(target, 'category')
        for sentence in map(vars, self.sentences):
            check_types(sentence, IDENTIFIER, 'sent_id')
            check_types(sentence, str, 'kind', optional=True)
            expect_utf8(sentence, 'kind')

    def samples(self, subset: str | None = None) -> list[dict]:
        """Return one sample per sentence of a checked reference.

        A sample is a dict::

            {
                'img_path': 'data/images/train2014/COCO_train2014_000000000154.jpg',
                'img_id': 154, 'height': 640, 'width': 427,   # None if not annotated
                'text': 'zebra at the bottom',
                'ref_id': 0, 'sent_id': 0, 'ann_id': 590410,
                'kind': None,         # kind of sentence, if annotated
                'subset': None,       # name in the results, if set in the config
                'category': 'zebra',  # or None
                'iscrowd': 0,
                'instances': [{
                    'bbox': [11.98, 315.59, 361.06, 640.0],   # XYXY, float pixels
                    'bbox_label': 0, 'ignore_flag': 0,
                    'mask': [[229.5, 618.18, ...]],           # polygons or RLE, if annotated
                }],
            }

        ``instances`` has an entry for each object. If there are none or several, ``ann_id`` is a
        tuple, ``category`` names each category once, and ``iscrowd`` tells whether any is a crowd.

        Objects with ``iscrowd=1`` (a group outlined as one object) are kept, as in the published
        counts of expressions, and carry the flag. They raise a mean IoU, so exclude them when
        comparing with results that exclude them.

        Args:
            subset: Name of the dataset in the results, or None.
        """
        instances = [target.instance() for target in self.targets]
        ann_ids = tuple(target.ann_id for target in self.targets)
        names = dict.fromkeys(target.category for target in self.targets if target.category)
        return [
            dict(
                img_path=self.img_path,
                img_id=self.image_id,
                height=self.height,
                width=self.width,
                text=sentence.text,
                ref_id=self.ref_id,
                sent_id=sentence.sent_id,
                ann_id=ann_ids[0] if len(ann_ids) == 1 else ann_ids,
                kind=sentence.kind,
                subset=subset,
                category=', '.join(names) or None,
                iscrowd=int(any(target.iscrowd for target in self.targets)),
                instances=[dict(instance) for instance in instances],
            )
            for sentence in self.sentences
        ]
