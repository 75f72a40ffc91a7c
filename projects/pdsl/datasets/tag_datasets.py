"""Datasets of images with image-level tags; training reads nothing else."""

from __future__ import annotations

import csv
import io
import logging
import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.datasets import VOCDataset
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from mmengine.registry import DATASETS

from projects.common.errors import InputError
from projects.common.files.annotation_files import (
    IDENTIFIER,
    by_id,
    check_fields,
    read_json,
    read_text,
    read_xml,
    shown,
)
from projects.common.files.array_files import read_mat
from projects.common.files.image_reader import read_any_image
from projects.common.files.pictures import naming_broken_picture

from ..image_sets import read_image_names
from .categories import check_category_names
from .classes import report_absent_classes

__all__ = [
    'BaseTagDataset',
    'COCOTagDataset',
    'SBDTagDataset',
    'TagFileDataset',
    'VOCTagDataset',
]

_VOC = dict(VOCDataset.METAINFO)


class BaseTagDataset(BaseDataset):
    """Provide the common parts of datasets with image-level tags.

    A sample is::

        {
            'img_path': 'data/VOCdevkit/VOC2012/JPEGImages/2008_000008.jpg',
            'img_id': '2008_000008',
            'tags': [12, 14],      # class indices in ascending order; 'horse', 'person'
        }

    Boxes and masks in the annotation files are never read, and tags stay unchanged if a crop
    removes an object. Proposals are added by the pipeline (:class:`LoadStoredProposals`).

    Images without tags are kept (as negatives of all classes) unless
    ``filter_cfg=dict(filter_empty=True)``; a warning reports their number either way.

    Args:
        ann_file: Annotation file, relative to ``data_root``.
        data_root: Folder of ``ann_file`` and ``data_prefix``.
        data_prefix: ``dict(img=folder)``, relative to ``data_root``.
        ignore_unknown: Drop tags that are not among the classes and report their number in a
            warning; otherwise they are an error. Use it to train on a subset of the classes.
        kwargs: Further arguments of :class:`mmengine.dataset.BaseDataset`.

    Raises:
        FileNotFoundError: The annotation file or an image does not exist.
        ValueError: The annotations are invalid.
    """

    def __init__(
        self,
        ann_file: str,
        data_root: str = '',
        data_prefix: dict | None = None,
        *,
        ignore_unknown: bool = False,
        **kwargs,
    ) -> None:
        self.ignore_unknown = ignore_unknown
        super().__init__(
            ann_file=ann_file,
            data_root=data_root or '',
            data_prefix=dict(img='') if data_prefix is None else data_prefix,
            **kwargs,
        )
        read_any_image(self.pipeline.transforms)

    @abstractmethod
    def iter_tags(self) -> Iterator[tuple[str, str | int, Iterable[str]]]:
        """Yield the file name within the image folder, the id and the class names of each image."""

    def load_data_list(self) -> list[dict]:
        """Return the samples described above, in the order of the file.

        Raises:
            FileNotFoundError: The annotation file or an image does not exist.
            ValueError: The file lists no images, or a tag is not among the classes.
        """
        if not os.path.isfile(self.ann_file):
            raise FileNotFoundError(
                f'ann_file of {type(self).__name__}: {self.ann_file!r} does not exist (looked in '
                f'{os.getcwd()!r}); set data_root or ann_file in the dataset config'
            )
        entries = [(name, img_id, list(tags)) for name, img_id, tags in self.iter_tags()]
        if not entries:
            raise InputError(f'{self.ann_file}: names no pictures')
        if self._metainfo.get('classes') is None:
            self._metainfo['classes'] = self.default_classes([tags for _, _, tags in entries])
        number = self._number_classes()
        unknown: dict[str, int] = {}
        samples = []
        for name, img_id, tags in entries:
            path = self._image_path(name)
            tags = [tag.strip() for tag in tags]
            for tag in tags:
                if tag not in number:
                    unknown[tag] = unknown.get(tag, 0) + 1
            known = sorted({number[tag] for tag in tags if tag in number})
            samples.append(dict(img_path=path, img_id=img_id, tags=known))
        if unknown and not self.ignore_unknown:
            tag = next(iter(unknown))
            raise InputError(
                f'{self.ann_file}: tag {tag!r} is none of the {len(number)} classes '
                f'({", ".join(list(number)[:5])}, ...); metainfo=dict(classes=...) sets them, '
                'ignore_unknown=True leaves others out'
            )
        if unknown:
            counts = ', '.join(f'{tag} ({count})' for tag, count in sorted(unknown.items()))
            print_log(
                f'{self.ann_file}: tags of no class left out: {counts}', 'current', logging.WARNING
            )
        report_absent_classes(self.ann_file, number, {tag for s in samples for tag in s['tags']})
        if empty := sum(not sample['tags'] for sample in samples):
            print_log(
                f'{self.ann_file}: {empty} of {len(samples)} pictures have no tag',
                'current',
                logging.WARNING,
            )
        return samples

    def _number_classes(self) -> dict[str, int]:
        """Return the index of each class by its name, without blanks around it."""
        number: dict[str, int] = {}
        for index, name in enumerate(self._metainfo['classes']):
            if number.setdefault(name.strip(), index) != index:
                raise InputError(f'{self.ann_file}: two classes are called {name.strip()!r}')
        return number

    def _image_path(self, name: str) -> str:
        """Return the path of an image, whose name may have blanks around it in the file only."""
        folder = self.data_prefix.get('img') or ''
        paths = [os.path.join(folder, each) for each in (name, name.strip())]
        found = next((path for path in paths if os.path.isfile(path)), None)
        if found is None:
            raise FileNotFoundError(f'{self.ann_file}: picture {paths[0]!r} does not exist')
        return found

    def _require(self, path: Path) -> None:
        if not os.path.isfile(path):
            raise FileNotFoundError(f'{self.ann_file}: {shown(str(path), 200)} does not exist')

    def default_classes(self, tags: list[list[str]]) -> tuple[str, ...]:
        """Return the classes to use if the config sets none."""
        return tuple(sorted({tag.strip() for names in tags for tag in names}))

    def filter_data(self) -> list[dict]:
        """Return the samples, without those that have no tags if ``filter_empty`` is set."""
        if self.filter_cfg and self.filter_cfg.get('filter_empty'):
            return [sample for sample in self.data_list if sample['tags']]
        return self.data_list

    def prepare_data(self, idx: int) -> Any:
        """Return the sample after the pipeline.

        Raises:
            ValueError: The image is broken; the message contains its path.
        """
        with naming_broken_picture(self.get_data_info(idx)['img_path']):
            return super().prepare_data(idx)

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the tags of a sample, for mmdet's class-balanced sampling."""
        return list(self.get_data_info(idx)['tags'])


def read_image_set(
    path: str | os.PathLike, data_root: str | os.PathLike = '', exclude: str | None = None
) -> list[str]:
    """Return the names in an image set, minus those of a second image set.

    Raises:
        FileNotFoundError: A file does not exist.
    """
    names = read_image_names(path)
    if exclude is None:
        return names
    unwanted = set(read_image_set(os.path.join(data_root, exclude)))
    return [name for name in names if name not in unwanted]


@DATASETS.register_module()
class VOCTagDataset(BaseTagDataset):
    """Read tags from a VOCdevkit: only the object names in ``Annotations/<id>.xml``.

    ``ann_file`` is an image set, e.g. ``ImageSets/Main/train.txt``. The two-column image sets of a
    single class (``cat_train.txt``) also work: only their first column is read.

    Args:
        use_difficult: Whether objects marked as difficult contribute tags.
        exclude: A second image set, relative to ``data_root``, whose images are left out: the
            paper trains on Main/trainval without Segmentation/val.
        kwargs: Arguments of :class:`BaseTagDataset`. ``data_prefix`` has the keys ``img`` and
            ``xml``, by default 'JPEGImages' and 'Annotations'.
    """

    METAINFO: dict = _VOC

    def __init__(
        self,
        ann_file: str,
        data_root: str = '',
        data_prefix: dict | None = None,
        *,
        use_difficult: bool = True,
        exclude: str | None = None,
        **kwargs,
    ) -> None:
        self.use_difficult = use_difficult
        self.exclude = exclude
        prefix = dict(img='JPEGImages', xml='Annotations')
        prefix.update(data_prefix or {})
        super().__init__(ann_file, data_root, prefix, **kwargs)

    def iter_tags(self) -> Iterator[tuple[str, str, list[str]]]:
        """Yield each image of the image set with the names of its objects, including repeats.

        Raises:
            FileNotFoundError: The image set or an XML file does not exist.
            ValueError: An XML file cannot be read.
        """
        for name in read_image_set(self.ann_file, self.data_root, self.exclude):
            path = Path(self.data_prefix['xml']) / f'{name}.xml'
            self._require(path)
            tags = [
                (entry.findtext('name') or '').strip()
                for entry in read_xml(path).iter('object')
                if self.use_difficult or (entry.findtext('difficult') or '0').strip() != '1'
            ]
            yield f'{name}.jpg', name, tags


@DATASETS.register_module()
class COCOTagDataset(BaseTagDataset):
    """Read tags from COCO json (also VOC and SBD in that format): the annotations' categories.

    Image ids may be integers or strings. Unless the config sets the classes, they are the file's
    categories in the order of their ids. Two categories of one name are an error, because mmdet's
    data sets number their classes differently.

    Args:
        use_crowd: Whether annotations with ``iscrowd=1`` contribute tags.
        kwargs: Arguments of :class:`BaseTagDataset`.
    """

    def __init__(self, *args, use_crowd: bool = True, **kwargs) -> None:
        self.use_crowd = use_crowd
        self._categories: list[str] = []
        super().__init__(*args, **kwargs)

    def iter_tags(self) -> Iterator[tuple[str, str | int, list[str]]]:
        """Yield each image of the file with the categories of its annotations, including repeats.

        Raises:
            ValueError: A list is missing, or an annotation refers to an unknown image or category.
        """
        content = read_json(self.ann_file)
        for field in ('images', 'annotations', 'categories'):
            if not isinstance(content, Mapping) or not isinstance(content.get(field), list):
                raise InputError(f'{self.ann_file}: no list {field!r}, expected COCO instances')
        categories = by_id(content, 'categories', self.ann_file, name=str)
        check_category_names(categories, self.ann_file)
        images = by_id(content, 'images', self.ann_file, file_name=str)
        names = {key: category['name'] for key, category in categories.items()}
        # numbers in numerical order, then strings
        ordered = sorted(names, key=lambda key: (isinstance(key, str), key))
        self._categories = [names[key] for key in ordered]
        tags: dict[Any, list[str]] = {key: [] for key in images}
        for i, annotation in enumerate(content['annotations']):
            check_fields(
                *(annotation, f'{self.ann_file}: annotations[{i}]'),
                image_id=IDENTIFIER,
                category_id=IDENTIFIER,
            )
            image, category = annotation['image_id'], annotation['category_id']
            if image not in tags or category not in names:
                field = 'category_id' if image in tags else 'image_id'
                raise InputError(
                    f'{self.ann_file}: annotation {shown(annotation.get("id"))} has {field} '
                    f'{shown(annotation[field])}, which the file does not list'
                )
            if self.use_crowd or not annotation.get('iscrowd'):
                tags[image].append(names[category])
        for key, image in images.items():
            yield image['file_name'], key, tags[key]

    def default_classes(self, tags: list[list[str]]) -> tuple[str, ...]:
        """Return the file's categories, in the order of their ids."""
        return tuple(self._categories)


@DATASETS.register_module()
class SBDTagDataset(BaseTagDataset):
    """Read tags from SBD: ``GTcls.CategoriesPresent``, numbers from 1, in ``cls/<id>.mat``.

    ``ann_file`` is ``train.txt`` or ``val.txt``. ``data_prefix`` has the keys ``img`` and ``cls``,
    by default 'img' and 'cls'. If ``cls`` is a folder of ``inst`` files, ``GTinst.Categories`` is
    read instead.
    """

    METAINFO: dict = _VOC

    def __init__(
        self, ann_file: str, data_root: str = '', data_prefix: dict | None = None, **kwargs
    ) -> None:
        prefix = dict(img='img', cls='cls')
        prefix.update(data_prefix or {})
        super().__init__(ann_file, data_root, prefix, **kwargs)

    def iter_tags(self) -> Iterator[tuple[str, str, list[str]]]:
        """Yield each image of the split with the classes in its ``.mat`` file.

        Raises:
            ValueError: A file has neither field, or a number that does not denote a class.
        """
        classes = self.METAINFO['classes']
        for name in read_image_set(self.ann_file):
            path = Path(self.data_prefix['cls']) / f'{name}.mat'
            self._require(path)
            content = read_mat(path)
            for struct, field in (('GTcls', 'CategoriesPresent'), ('GTinst', 'Categories')):
                found = np.ravel(content.get(struct, ()))
                if len(found) and field in (found.dtype.names or ()):
                    numbers = np.ravel(found[0][field])
                    break
            else:
                raise InputError(f'{path}: no GTcls.CategoriesPresent and no GTinst.Categories')
            if numbers.dtype.kind not in 'uif' or not np.isfinite(numbers).all():
                raise InputError(
                    f'{path}: {struct}.{field}: found {numbers.dtype}, expected numbers'
                )
            numbers = numbers.astype(int).tolist()
            if bad := [number for number in numbers if not 1 <= number <= len(classes)]:
                raise InputError(f'{path}: category {bad[0]}, expected 1 to {len(classes)}')
            yield f'{name}.jpg', name, [classes[number - 1] for number in numbers]


@DATASETS.register_module()
class TagFileDataset(BaseTagDataset):
    """Read tags of custom images from a text, CSV or JSON file.

    - ``.json``: ``{"a.jpg": ["cat", "dog"], ...}``, or a list of ``{"file_name": "a.jpg",
      "tags": ["cat", "dog"]}``.
    - ``.csv``: One line ``a.jpg,cat,dog`` per image. A first line whose first cell is
      ``file_name`` is a header.
    - Any other suffix: ``a.jpg cat dog``, separated by spaces or tabs. In a line with tabs, spaces
      are part of the names.

    Unless the config sets the classes, they are all tags in alphabetical order.
    """

    def iter_tags(self) -> Iterator[tuple[str, str, list[str]]]:
        """Yield each line or entry of the file.

        Raises:
            ValueError: An entry does not match the format above, or an image is listed twice.
        """
        path = Path(self.ann_file)
        if path.suffix.lower() == '.json':
            rows = self._json_rows(path)
        else:
            text = read_text(path, encoding='utf-8-sig')
            if path.suffix.lower() == '.csv':
                try:
                    lines = list(csv.reader(io.StringIO(text, newline='')))
                except csv.Error as error:
                    raise InputError(f'{path}: not a CSV file ({error})') from None
            else:
                lines = [
                    line.split('\t') if '\t' in line else line.split() for line in text.splitlines()
                ]
            rows = [
                (line[0], [cell for cell in line[1:] if cell.strip()])
                for line in lines
                if any(cell.strip() for cell in line)
            ]
            if rows and rows[0][0].strip() == 'file_name':
                rows = rows[1:]
        seen: set[str] = set()
        for name, tags in rows:
            if not Path(name.strip()).name:
                raise InputError(f'{path}: picture {shown(name)}, expected the name of a file')
            if name in seen:
                raise InputError(f'{path}: picture {shown(name)} comes twice')
            seen.add(name)
            yield name, Path(name.strip()).with_suffix('').as_posix(), tags

    @staticmethod
    def _json_rows(path: Path) -> list[tuple[str, list[str]]]:
        content = read_json(path)
        if isinstance(content, list) and all(isinstance(row, dict) for row in content):
            rows = [(row.get('file_name'), row.get('tags')) for row in content]
        elif isinstance(content, dict):
            rows = list(content.items())
        else:
            raise InputError(f'{path}: holds a {type(content).__name__}, expected a dict or dicts')
        for name, tags in rows:
            if not isinstance(name, str) or not isinstance(tags, list):
                raise InputError(
                    f'{path}: {shown(name)}: {shown(tags)}, expected a file name and a list'
                )
            if not all(isinstance(tag, str) and tag.strip() for tag in tags):
                raise InputError(
                    f'{path}: tags of {shown(name)} are {shown(tags)}, expected strings'
                )
        return rows
