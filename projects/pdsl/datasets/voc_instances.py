"""Boxes and masks of a VOCdevkit, for testing."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from mmdet.datasets import VOCDataset
from mmengine.logging import print_log
from mmengine.registry import DATASETS
from PIL import Image
from pycocotools import mask as coco_mask

from projects.common.errors import InputError
from projects.common.files.image_backend import read_any_image

from ..proposals.identity import upright_size
from .classes import report_absent_classes
from .voc_layout import ImageFinder, read_image_set, read_objects

__all__ = ['VOCInstanceDataset']


@DATASETS.register_module()
class VOCInstanceDataset(VOCDataset):
    """Extend mmdet's VOC dataset with the masks from ``SegmentationObject``.

    The value k in such a PNG denotes the k-th object in the image's XML file; 255 is void. Objects
    of no class are left out, with a warning, and the others keep their numbers. Among other keys, a
    sample has::

        {
            'img_path': 'data/VOCdevkit/VOC2012/JPEGImages/2007_000033.jpg',
            'img_id': '2007_000033',
            'instances': [
                {'bbox': [8, 106, 498, 262], 'bbox_label': 0, 'ignore_flag': 0,
                 'mask': {'size': [366, 500], 'counts': '...'}},       # RLE
                ...
            ],
        }

    ``bbox`` is taken from the XML file, and ``ignore_flag`` marks difficult objects. Image sets,
    images and XML files are found and read as by :class:`VOCTagDataset`.

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
        classes = tuple(name.strip() for name in self._metainfo['classes'])
        self.cat2label = {name: index for index, name in enumerate(classes)}
        if len(self.cat2label) < len(classes):
            raise InputError(f'{self.ann_file}: two of the classes {classes} have one name')
        self._metainfo['classes'] = classes
        self._left_out: Counter[str] = Counter()
        images = Path(self.sub_data_root) / self.img_subdir
        annotations = Path(self.sub_data_root) / self.ann_subdir
        find_image = ImageFinder(images)
        names = read_image_set(self.ann_file, self.data_root, self.exclude, images.name)
        samples = [
            self.parse_data_info(
                dict(
                    img_id=name,
                    img_path=str(images / find_image(name)),
                    xml_path=str(annotations / f'{name}.xml'),
                )
            )
            for name in names
        ]
        if self._left_out:
            counts = ', '.join(f'{name} ({n})' for name, n in sorted(self._left_out.items()))
            print_log(
                f'{self.ann_file}: objects of no class left out: {counts}',
                'current',
                logging.WARNING,
            )
        labels = {each['bbox_label'] for sample in samples for each in sample['instances']}
        report_absent_classes(self.ann_file, classes, labels)
        return samples

    def parse_data_info(self, img_info: dict) -> dict:
        """Return mmdet's sample of an image, with masks from the PNG if ``mask_subdir`` is set.

        Args:
            img_info: ``img_id``, ``img_path`` and ``xml_path``.

        Raises:
            ValueError: The XML file is invalid, or the size of the PNG, or its number of objects,
                does not match.
        """
        root = read_objects(img_info['xml_path'], boxes=True)
        height, width = _size(root, img_info)
        names = [entry.findtext('name', '') for entry in root.findall('object')]
        self._left_out.update(name for name in names if name not in self.cat2label)
        instances = self._parse_instance_info(root)
        if self.mask_subdir is not None:
            numbers = [i for i, name in enumerate(names, 1) if name in self.cat2label]
            values = self._read_mask(img_info['img_id'], (height, width), len(names))
            for number, instance in zip(numbers, instances, strict=True):
                mask = coco_mask.encode(np.asfortranarray(values == number, dtype=np.uint8))
                instance['mask'] = dict(mask, counts=mask['counts'].decode())
        return dict(img_info, height=height, width=width, instances=instances)

    def _read_mask(self, name: str, shape: tuple[int, int], count: int) -> np.ndarray:
        """Return the numbers (H, W) of the objects at each pixel of an image."""
        path = Path(self.sub_data_root) / str(self.mask_subdir) / f'{name}.png'
        if not path.is_file():  # of the base name, for image sets with folders
            path = path.with_name(os.path.basename(path))
        with Image.open(path) as image:
            values = np.asarray(image)
        if values.shape != shape:
            raise InputError(f'{path}: {values.shape} pixels, its image has {shape}')
        known = (values <= count) | (values == 255)
        if not known.all():
            raise InputError(
                f'{path}: value {values[~known][0]}, but the XML file has {count} objects'
            )
        return values


def _size(root: ElementTree.Element, img_info: dict[str, Any]) -> tuple[int, int]:
    """Return height and width in pixels: of the XML file, or of the image if there are none."""
    texts = [(root.findtext(f'size/{side}') or '').strip() for side in ('height', 'width')]
    try:
        height, width = (int(float(text or 0)) for text in texts)
    except (ValueError, OverflowError):
        raise InputError(
            f'{img_info["xml_path"]}: size: expected height and width, found {texts}'
        ) from None
    return (height, width) if height > 0 and width > 0 else upright_size(img_info['img_path'])
