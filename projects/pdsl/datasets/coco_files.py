"""COCO's instance files, read alike for training, testing and evaluation."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmdet.datasets.api_wrappers import COCO
from mmengine.logging import print_log
from pycocotools import mask as coco_mask

from projects.common.errors import InputError
from projects.common.files.annotation_files import (
    FLAG,
    IDENTIFIER,
    NUMBER,
    by_id,
    check_fields,
    check_text,
    read_json,
    shown,
)

from .categories import check_category_names

__all__ = ['COCOFile', 'mask_rle', 'read_instances']

_LARGEST = 2**20  # pixels; pycocotools counts the steps along an outline with 32 bits


def read_instances(path: str | os.PathLike, boxes: bool = False) -> dict[str, Any]:
    """Read and check a COCO file of instances.

    ``iscrowd`` may be a number, true or false, or missing. Ids, and sizes of images, may be floats
    without a fraction, which become integers. An empty ``segmentation`` is removed, and an empty
    ``info`` added if the file has none: some versions of pycocotools need it.

    Args:
        path: The file.
        boxes: Whether to check boxes, areas and sizes as well. Training on tags does without.

    Returns:
        The content. Records that occur twice are listed once.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: A list or field is missing or has another type, two records have one id, two
            categories have one name, or an annotation refers to an unknown image or category.
    """
    where = str(path)
    content = read_json(path)
    for field in ('images', 'annotations', 'categories'):
        if not isinstance(content, Mapping) or not isinstance(content.get(field), list):
            raise InputError(f'{where}: no list {field!r}, expected COCO instances')
    categories = by_id(content, 'categories', where, name=str)
    check_category_names(categories, where)
    for category in categories.values():
        category['name'] = category['name'].strip()
        check_text(category['name'], f'{where}: categories: name')
    sizes: dict[str, type] = dict(height=int, width=int) if boxes else {}
    images = by_id(content, 'images', where, file_name=str, **sizes)
    for i, annotation in enumerate(content['annotations']):
        check_fields(
            *(annotation, f'{where}: annotations[{i}]'),
            image_id=IDENTIFIER,
            category_id=IDENTIFIER,
            iscrowd=(*FLAG, type(None)),
        )
        for field, known in (('image_id', images), ('category_id', categories)):
            if annotation[field] not in known:
                raise InputError(
                    f'{where}: annotation {shown(annotation.get("id"))} has {field} '
                    f'{shown(annotation[field])}, which the file does not list'
                )
        annotation['iscrowd'] = int(bool(annotation.get('iscrowd')))
        if boxes:
            _check_box(annotation, f'{where}: annotations[{i}]')
            if not annotation.get('segmentation'):
                annotation.pop('segmentation', None)
    if boxes:
        content['annotations'] = list(by_id(content, 'annotations', where).values())
    if not isinstance(content.get('info'), dict):
        content['info'] = {}
    content['categories'], content['images'] = list(categories.values()), list(images.values())
    return content


def _check_box(annotation: dict, where: str) -> None:
    check_fields(annotation, where, bbox=list, area=NUMBER)
    box = annotation['bbox']
    try:
        is_box = len(box) == 4 and np.isfinite(box).all()
    except TypeError:
        is_box = False
    if not is_box:
        raise InputError(f'{where}: bbox: expected four numbers (XYWH), found {shown(box)}')


class COCOFile(COCO):
    """Read a COCO file through :func:`read_instances`, for mmdet's data set and metric.

    Annotations are numbered from 1, because pycocotools takes an object with the id 0 for one that
    was never found.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: See :func:`read_instances`.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        super().__init__()
        self.path = os.fspath(path)
        self.dataset = read_instances(path, boxes=True)
        for number, annotation in enumerate(self.dataset['annotations'], 1):
            annotation['id'] = number
        self._index()

    def _index(self) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self.createIndex()
        self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs

    def get_cat_ids(
        self, cat_names: Sequence[str] = (), sup_names: Sequence = (), cat_ids: Sequence = ()
    ) -> list:
        """Return the ids of categories; those of names in the order of the names.

        pycocotools returns them in the order of the file, which numbers the labels otherwise than
        the config does. A name that is not in the file gets an id of its own, with a warning: the
        file has no such object.
        """
        if not cat_names:
            return super().get_cat_ids(cat_names, sup_names, cat_ids)
        ids = {category['name']: category['id'] for category in self.dataset['categories']}
        cat_names = [name.strip() for name in cat_names]
        missing = [name for name in cat_names if name not in ids]
        if missing:
            print_log(
                f'{self.path}: no category of the classes {", ".join(missing[:8])} '
                f'({len(missing)} of {len(cat_names)}); it has {", ".join(list(ids)[:8])}',
                'current',
                logging.WARNING,
            )
            first = 1 + max((i for i in ids.values() if isinstance(i, int)), default=0)
            ids.update(zip(missing, range(first, first + len(missing))))
            self.dataset['categories'] += [dict(id=ids[name], name=name) for name in missing]
            self._index()
        return [ids[name] for name in cat_names]

    def check_masks(self) -> None:
        """Check that all objects have a mask that pycocotools can read.

        Raises:
            ValueError: A mask is missing or cannot be read.
        """
        for annotation in self.dataset['annotations']:
            image = self.imgs[annotation['image_id']]
            where = f'{self.path}: an object of {shown(image["file_name"])}'
            mask_rle(annotation.get('segmentation'), image['height'], image['width'], where)

    def check_size(self, image_id: Any, shape: Sequence[int], where: str) -> None:
        """Check that an image is listed with the size that it has.

        Masks of another size overlap nothing in pycocotools, which does not say so.

        Raises:
            ValueError: The image is not in the file, or has another size there.
        """
        image = self.imgs.get(image_id)
        found = None if image is None else (image['height'], image['width'])
        if found != tuple(shape[:2]):
            raise InputError(
                f'{where}: height and width are {tuple(shape[:2])}, but {self.path} has '
                f'{found or "no image"} of the id {shown(image_id)}'
            )


def mask_rle(mask: Any, height: int, width: int, where: str) -> dict[str, Any]:
    """Return the run-length encoding of a mask of polygons or run lengths.

    Args:
        mask: ``segmentation`` of an annotation.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        where: The start of error messages.

    Raises:
        ValueError: The mask is missing, has another size, or is not one that pycocotools can read.
    """
    if not mask or not isinstance(mask, (list, dict)):
        raise InputError(
            f'{where}: segmentation: found {shown(mask)}, expected polygons or a run-length '
            "encoding; metric='bbox' does without masks"
        )
    try:
        if isinstance(mask, list):
            # pycocotools writes beyond its memory for points far outside of the image
            if any(len(each) == 0 or np.abs(each).max() > _LARGEST for each in mask):
                raise InputError('a polygon without points, or far outside of the image')
            return coco_mask.merge(coco_mask.frPyObjects(mask, height, width))
        if list(mask['size']) != [height, width]:
            raise InputError(f'expected the size {[height, width]}')
        is_list = isinstance(mask['counts'], list)
        return coco_mask.frPyObjects(mask, height, width) if is_list else mask
    except Exception as error:  # pycocotools raises almost any exception
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise InputError(f'{where}: segmentation: found {shown(mask)} ({reason})') from None
