"""Region descriptions of Visual Genome, as its authors publish them."""

from __future__ import annotations

import os
from collections.abc import Iterator

from mmengine.registry import DATASETS

from projects.common.annotation_files import IDENTIFIER, NUMBER, check_fields, read_json

from .base import BaseGroundingDataset

__all__ = ['VisualGenomeRegionDataset']


@DATASETS.register_module()
class VisualGenomeRegionDataset(BaseGroundingDataset):
    """One phrase about one box; it has no splits and no masks.

    ``region_descriptions.json``::

        [{'id': 1, 'regions': [
            {'region_id': 1382, 'image_id': 1, 'x': 421, 'y': 57, 'width': 82, 'height': 139,
             'phrase': 'the clock is green in colour'}, ...]}, ...]

    The pictures are in ``VG_100K/`` and ``VG_100K_2/`` of the image folder, as they are
    published, or all in the image folder itself if it has no ``VG_100K/``.

    Many boxes leave their picture; ``skip_invalid=True`` counts and drops them.

    Args:
        ann_file: ``region_descriptions.json``, relative to ``data_root``.
        vg_image_data: ``image_data.json``, relative to ``data_root``: sizes, folders and which
            pictures are COCO's.
        kwargs: Arguments of :class:`BaseGroundingDataset`.

    Raises:
        ValueError: A file is of another form.
    """

    IMAGE_SOURCE = 'vg'

    def __init__(self, ann_file: str, vg_image_data: str, **kwargs) -> None:
        super().__init__(ann_file=ann_file, vg_image_data=vg_image_data, **kwargs)

    def iter_references(self) -> Iterator[dict]:
        """See :meth:`BaseGroundingDataset.iter_references`."""
        has_folders = not self.check_images or os.path.isdir(
            os.path.join(self.data_prefix['img'], 'VG_100K')
        )
        entries = read_json(self.ann_file)
        if not isinstance(entries, list):
            raise ValueError(f'{self.ann_file}: expected a list of entries with regions')
        images = self.vg_images or {}
        for index, entry in enumerate(entries):
            where = f'{self.ann_file}: entry {index}'
            check_fields(entry, where, regions=list)
            for region in entry['regions']:
                check_fields(
                    *(region, where),
                    image_id=IDENTIFIER,
                    region_id=IDENTIFIER,
                    **dict.fromkeys(('x', 'y', 'width', 'height'), NUMBER),
                    phrase=str,
                )
                image_id, region_id = region['image_id'], region['region_id']
                if image_id not in images:
                    raise ValueError(f'{where}: no image {image_id!r} in {self.vg_image_data}')
                image = images[image_id]
                check_fields(
                    *(image, f'{self.vg_image_data}: image {image_id}'),
                    url=str,
                    width=int,
                    height=int,
                )
                parts = image['url'].rsplit('/', 2)[-2:]
                yield dict(
                    where=f'{where}: region_id {region_id}',
                    img_name=os.path.join(*parts) if has_folders else parts[-1],
                    img_id=image_id,
                    height=image['height'],
                    width=image['width'],
                    ref_id=region_id,
                    ann_id=region_id,
                    box_xywh=[region[key] for key in ('x', 'y', 'width', 'height')],
                    sentences=[dict(text=region['phrase'], sent_id=region_id)],
                )
