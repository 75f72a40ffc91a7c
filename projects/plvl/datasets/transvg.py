"""Annotation files of TransVG, EEVG and PLVL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from mmengine.registry import DATASETS

from projects.common.errors import InputError
from projects.common.files.annotation_files import shown
from projects.common.files.unpickle import load_legacy_torch

from .annotations import InvalidSampleError
from .base import BaseGroundingDataset
from .image_identity import canonical_source

__all__ = ['TransVGGroundingDataset']

_SOURCES = ('coco', 'flickr', 'saiapr', 'vg')


@DATASETS.register_module()
class TransVGGroundingDataset(BaseGroundingDataset):
    """Load a ``<set>_<split>.pth`` of TransVG (also used by HiVG and others) or of EEVG and PLVL.

    The file is a pickled list with one tuple per sentence::

        [(
            'COCO_train2014_000000000716.jpg',   # image
            '225429.pth',                        # '<ann_id>.pth'; the mask is not in the file
            [407.6, 133.24, 226.67, 190.33],     # box, XYWH
            'man on right',
            [('r1', ['man']), ...],              # attributes, not used
        ), ...]

    Variants:

    - ReferItGame (``referit_*.pth``): the box is XYXY.
    - Flickr30K (``flickr_*.pth``): tuples of three, (image, box XYXY, phrase).
    - EEVG and PLVL: the second field is the collection of the image, 'coco', 'flickr' or 'vg',
      and the polygons of the mask follow the box: [x, y, w, h, polygon, polygon, ...].

    Args:
        ann_file: The .pth file, relative to ``data_root``.
        box_format: 'xywh' or 'xyxy'. None means 'xyxy' for tuples of three and for files named
            ``referit*``, and 'xywh' otherwise.
        kwargs: Arguments of :class:`BaseGroundingDataset`. ``check_images=False`` loads the
            sentences and boxes without the images.

    Raises:
        ValueError: If an entry is not such a tuple.
    """

    def __init__(self, ann_file: str, box_format: str | None = None, **kwargs) -> None:
        if box_format not in (None, 'xywh', 'xyxy'):
            raise InputError(f"box_format={box_format!r}: expected None, 'xywh' or 'xyxy'")
        self.box_format = box_format
        super().__init__(ann_file=ann_file, **kwargs)

    def iter_references(self) -> Iterator[dict]:
        """Yield one reference per tuple of the annotation file."""
        entries = load_legacy_torch(self.ann_file, trust=self.trust_pickle)
        if not isinstance(entries, (list, tuple)):
            raise InputError(
                f'{self.ann_file}: expected a list of tuples, found {type(entries).__name__}'
            )
        is_referit = os.path.basename(self.ann_file).startswith('referit')
        for index, entry in enumerate(entries):
            where = f'{self.ann_file}: entry {index}'
            if not isinstance(entry, (tuple, list)) or len(entry) not in (3, 5):
                raise InputError(
                    f'{where}: expected (image, mask file or collection, box, sentence, '
                    f'attributes) or (image, box, phrase), found {shown(entry, 80)}'
                )
            if len(entry) == 3:
                (img_name, box, text), ann_id = entry, None
                source: str | None = 'flickr'
            else:
                img_name, second, box, text, _ = entry
                source, ann_id = self._parse_second(second, where)
                if source is None and is_referit:
                    source = 'saiapr'
            if not isinstance(img_name, str):
                raise InputError(f'{where}: image: expected a file name, found {shown(img_name)}')
            reference = dict(
                where=f'{where} ({shown(img_name)})',
                img_name=img_name,
                img_id=img_name,
                ref_id=index,
                ann_id=ann_id,
                source=source,
                sentences=[dict(text=text, sent_id=index)],
            )
            is_xyxy = len(entry) == 3 or is_referit
            box_format = self.box_format or ('xyxy' if is_xyxy else 'xywh')
            try:
                box, reference['mask'] = _split_box(box)
            except InvalidSampleError as error:
                reference['error'] = error
            reference['box' if box_format == 'xyxy' else 'box_xywh'] = box
            yield reference

    @staticmethod
    def _parse_second(second: Any, where: str) -> tuple[str | None, int | None]:
        """Return the collection and the annotation id; the field holds at most one of them."""
        if not isinstance(second, (str, int, np.integer)):
            raise InputError(
                f"{where}: second field: expected a mask file ('225429.pth') or a collection "
                f"('coco', 'flickr', 'vg'), found {shown(second)}"
            )
        stem = str(second).removesuffix('.pth')
        if stem.isdecimal():
            return None, int(stem)
        source = canonical_source(stem)
        return (source, None) if source in _SOURCES else (None, None)


def _split_box(box: Any) -> tuple[Any, list | None]:
    """Return the box, and the polygons or RLE that follow it in EEVG and PLVL files."""
    if not isinstance(box, (list, tuple)) and np.ndim(box) != 1:
        raise InvalidSampleError(f'degenerate box: {shown(box)} is not four numbers')
    return (box[:4], list(box[4:])) if len(box) > 4 else (box, None)
