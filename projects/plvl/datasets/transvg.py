"""Annotation files of TransVG, EEVG and PLVL."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
from mmengine.registry import DATASETS, FUNCTIONS

from projects.common.errors import InputError
from projects.common.files.unpickle import load_legacy_torch

from .checks import Invalid, check_transvg_entry
from .dataset import GroundingDataset
from .image_identity import canonical_source
from .reference import Reference, Sentence, Target

__all__ = ['TransVGGroundingDataset', 'read_transvg']

_SOURCES = ('coco', 'flickr', 'saiapr', 'vg')


@FUNCTIONS.register_module()
def read_transvg(
    files: Mapping[str, str],
    split: str | None = None,
    *,
    box_format: Literal['xywh', 'xyxy'] | None = None,
    trust_pickle: bool = False,
) -> Iterator[Reference | Invalid]:
    """Read a ``<set>_<split>.pth`` of TransVG (also used by HiVG and others) or of EEVG and PLVL.

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
        files: ``ann_file`` is the .pth file.
        split: Not used; each file is one split.
        box_format: 'xywh' or 'xyxy'. None means 'xyxy' for tuples of three and for files named
            ``referit*``, and 'xywh' otherwise.
        trust_pickle: Load the file with the ordinary unpickler, which may run code.
    """
    file = files['ann_file']
    entries = load_legacy_torch(file, trust=trust_pickle)
    if not isinstance(entries, (list, tuple)):
        raise InputError(f'{file}: expected a list of tuples, found {type(entries).__name__}')
    is_referit = os.path.basename(file).startswith('referit')
    for index, entry in enumerate(entries):
        try:
            check_transvg_entry(entry)
        except Invalid as invalid:
            yield invalid.at(file, f'entry {index}')
            continue
        if len(entry) == 3:
            image, box, text = entry
            source: str | None = 'flickr'
            ann_id = None
        else:
            image, second, box, text, _ = entry
            source, ann_id = _parse_second(second)
            if source is None and is_referit:
                source = 'saiapr'
        is_xyxy = len(entry) == 3 or is_referit
        box, polygons = _split_box(box)
        target = Target(
            box, box_format or ('xyxy' if is_xyxy else 'xywh'), mask=polygons, ann_id=ann_id
        )
        yield Reference(
            file, f'entry {index} ({image})', image, [Sentence(text)], [target], source=source
        )


def _parse_second(second: Any) -> tuple[str | None, int | None]:
    """Return the collection and the annotation id; the field holds at most one of them."""
    stem = str(second).removesuffix('.pth').removesuffix('.0')
    if stem.isdecimal():
        return None, int(stem)
    source = canonical_source(stem)
    return (source, None) if source in _SOURCES else (None, None)


def _split_box(box: Any) -> tuple[Any, list | None]:
    """Return the box, and the polygons or RLE that follow it in EEVG and PLVL files."""
    if isinstance(box, (list, tuple)) or np.ndim(box) == 1:
        return (box[:4], list(box[4:])) if len(box) > 4 else (box, None)
    return box, None


@DATASETS.register_module()
class TransVGGroundingDataset(GroundingDataset):
    """Load annotations of TransVG, EEVG or PLVL, which :func:`read_transvg` describes.

    Args:
        ann_file: The .pth file, relative to ``data_root``.
        box_format: 'xywh', 'xyxy' or None; see :func:`read_transvg`.
        trust_pickle: Load the file with the ordinary unpickler, which may run code.
        kwargs: Arguments of :class:`GroundingDataset`. ``check_images=False`` loads the
            sentences and boxes without the images.

    Raises:
        ValueError: If an entry is not such a tuple.
    """

    def __init__(
        self,
        ann_file: str,
        box_format: Literal['xywh', 'xyxy'] | None = None,
        *,
        trust_pickle: bool = False,
        **kwargs,
    ) -> None:
        if box_format not in (None, 'xywh', 'xyxy'):
            raise InputError(f"box_format={box_format!r}: expected None, 'xywh' or 'xyxy'")
        reader = partial(read_transvg, box_format=box_format, trust_pickle=trust_pickle)
        super().__init__(ann_file, reader=reader, **kwargs)
