"""Boxes and masks of a VOCdevkit, for testing."""

from __future__ import annotations

import os
from pathlib import Path
from xml.etree.ElementTree import ElementTree

import numpy as np
from mmdet.datasets import VOCDataset
from mmengine.registry import DATASETS
from PIL import Image
from pycocotools import mask as coco_mask

from projects.common.errors import InputError
from projects.common.files.image_reader import read_any_image

from .classes import report_absent_classes
from .tag_datasets import read_image_set

__all__ = ['VOCInstanceDataset']


@DATASETS.register_module()
class VOCInstanceDataset(VOCDataset):
    """Extend mmdet's VOC dataset with the masks from ``SegmentationObject``.

    The value k in such a PNG denotes the k-th object in the image's XML file; 255 is void. Among
    other keys, a sample has::

        {
            'img_path': 'data/VOCdevkit/VOC2012/JPEGImages/2007_000033.jpg',
            'img_id': '2007_000033',
            'instances': [
                {'bbox': [8, 106, 498, 262], 'bbox_label': 0, 'ignore_flag': 0,
                 'mask': {'size': [366, 500], 'counts': '...'}},       # RLE
                ...
            ],
        }

    ``bbox`` is taken from the XML file, and ``ignore_flag`` marks difficult objects.

    Args:
        mask_subdir: Folder of the PNGs; None loads only boxes (most images in Main have no PNG).
        exclude: A second image set, relative to ``data_root``, whose images are left out.
        kwargs: Arguments of mmdet's dataset.

    Raises:
        FileNotFoundError: A PNG does not exist.
        ValueError: The size of a PNG differs from its image, or a value has no matching object.
    """

    def __init__(
        self,
        *args,
        mask_subdir: str | None = 'SegmentationObject',
        exclude: str | None = None,
        **kwargs,
    ) -> None:
        self.mask_subdir = mask_subdir
        self.exclude = exclude
        super().__init__(*args, **kwargs)
        read_any_image(self.pipeline.transforms)

    def load_data_list(self) -> list[dict]:
        """Return mmdet's samples, without the excluded images."""
        samples = super().load_data_list()
        if self.exclude is not None:
            wanted = set(read_image_set(self.ann_file, self.data_root, self.exclude))
            samples = [sample for sample in samples if sample['img_id'] in wanted]
        labels = {each['bbox_label'] for sample in samples for each in sample['instances']}
        report_absent_classes(self.ann_file, self.metainfo['classes'], labels)
        return samples

    def _parse_instance_info(self, raw_ann_info: ElementTree, minus_one: bool = True) -> list[dict]:
        """Return mmdet's instances of an XML file, in which names may have blanks around them."""
        for name in raw_ann_info.iter('name'):
            name.text = (name.text or '').strip()
        return super()._parse_instance_info(raw_ann_info, minus_one)

    def parse_data_info(self, img_info: dict) -> dict:
        """Return mmdet's sample of an image, with masks from the PNG if ``mask_subdir`` is set.

        Raises:
            ValueError: The size of the PNG, or its number of objects, does not match.
        """
        sample = super().parse_data_info(img_info)
        if self.mask_subdir is None:
            return sample
        folder = Path(self.sub_data_root) / self.mask_subdir
        path = folder / f'{os.path.basename(sample["img_id"])}.png'
        with Image.open(path) as picture:
            values = np.asarray(picture)
        if values.shape != (sample['height'], sample['width']):
            raise InputError(
                f'{path}: {values.shape} pixels, its picture has '
                f'{(sample["height"], sample["width"])}'
            )
        count = len(sample['instances'])
        known = (values <= count) | (values == 255)
        if not known.all():
            raise InputError(
                f'{path}: value {values[~known][0]}, but the XML file has {count} objects'
            )
        for number, instance in enumerate(sample['instances'], 1):
            mask = coco_mask.encode(np.asfortranarray(values == number, dtype=np.uint8))
            instance['mask'] = dict(mask, counts=mask['counts'].decode())
        return sample
