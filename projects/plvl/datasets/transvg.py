"""Annotation files of TransVG."""

from __future__ import annotations

from collections.abc import Iterator

from mmengine.registry import DATASETS

from projects.common.unpickle import load_legacy_torch

from .annotations import InvalidSampleError, xywh_to_xyxy
from .base import BaseGroundingDataset

__all__ = ['TransVGGroundingDataset']


@DATASETS.register_module()
class TransVGGroundingDataset(BaseGroundingDataset):
    """A ``<set>_<split>.pth`` of TransVG, as HiVG and others use it too. Boxes only.

    The file is a pickled list with one tuple for each sentence::

        [(
            'COCO_train2014_000000000716.jpg',   # picture
            '225429.pth',                        # '<ann_id>.pth'; the mask is not in the file
            [407.6, 133.24, 226.67, 190.33],     # box, XYWH
            'man on right',
            [('r1', ['man']), ...],              # attributes, not used
        ), ...]

    Args:
        ann_file: The .pth file, relative to ``data_root``.
        box_format: 'xywh' (RefCOCO, RefCOCO+, RefCOCOg) or 'xyxy' (ReferItGame).
        kwargs: Arguments of :class:`BaseGroundingDataset`. ``check_images=False`` loads the
            sentences and boxes without the pictures.

    Raises:
        ValueError: An entry is no such tuple.
    """

    def __init__(self, ann_file: str, box_format: str = 'xywh', **kwargs) -> None:
        if box_format not in ('xywh', 'xyxy'):
            raise ValueError(f"box_format={box_format!r}: expected 'xywh' or 'xyxy'")
        self.box_format = box_format
        super().__init__(ann_file=ann_file, **kwargs)

    def iter_references(self) -> Iterator[dict]:
        """See :meth:`BaseGroundingDataset.iter_references`."""
        for index, entry in enumerate(load_legacy_torch(self.ann_file, trust=self.trust_pickle)):
            where = f'{self.ann_file}: entry {index}'
            if not isinstance(entry, (tuple, list)) or len(entry) != 5:
                raise ValueError(
                    f'{where}: expected (picture, mask file, box, sentence, attributes), found '
                    f'{str(entry)[:80]}'
                )
            img_name, mask_name, box, text, _ = entry
            try:
                box = xywh_to_xyxy(box) if self.box_format == 'xywh' else box
            except InvalidSampleError as error:
                self.leave_out(f'{where} ({img_name})', error)
                continue
            stem = str(mask_name).removesuffix('.pth')
            yield dict(
                where=f'{where} ({img_name})',
                img_name=img_name,
                img_id=img_name,
                ref_id=index,
                ann_id=int(stem) if stem.isdigit() else None,
                box=box,
                mask=None,
                sentences=[dict(text=text, sent_id=index)],
            )
