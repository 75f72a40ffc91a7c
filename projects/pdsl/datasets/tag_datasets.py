"""Datasets of images with image-level tags; training reads nothing else."""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.datasets import VOCDataset
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from mmengine.registry import DATASETS

from projects.common.errors import InputError
from projects.common.files.annotation_files import check_text, shown
from projects.common.files.array_files import read_mat
from projects.common.files.pictures import naming_broken_picture

from .coco_files import read_instances
from .tag_tables import read_tags
from .voc_layout import ImageFinder, read_image_set, read_objects

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
        for tag in {tag for _, _, tags in entries for tag in tags}:
            check_text(tag, f'{self.ann_file}: tag')
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


@DATASETS.register_module()
class VOCTagDataset(BaseTagDataset):
    """Read tags from a VOCdevkit: only the object names in ``Annotations/<id>.xml``.

    ``ann_file`` is an image set, e.g. ``ImageSets/Main/train.txt``. The two-column image sets of a
    single class (``cat_train.txt``) also work: only their first column is read, which lists all
    images. An image may have another suffix than '.jpg'.

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
        find_image = ImageFinder(self.data_prefix['img'])
        folder = Path(find_image.folder).name
        for name in read_image_set(self.ann_file, self.data_root, self.exclude, folder):
            path = Path(self.data_prefix['xml']) / f'{name}.xml'
            self._require(path)
            tags = [
                entry.findtext('name', '')
                for entry in read_objects(path).findall('object')
                if self.use_difficult or entry.findtext('difficult') != '1'
            ]
            yield find_image(name), name, tags


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
        content = read_instances(self.ann_file)
        names = {each['id']: each['name'] for each in content['categories']}
        # numbers in numerical order, then strings
        ordered = sorted(names, key=lambda key: (isinstance(key, str), key))
        self._categories = [names[key] for key in ordered]
        tags: dict[Any, list[str]] = {each['id']: [] for each in content['images']}
        for annotation in content['annotations']:
            if self.use_crowd or not annotation['iscrowd']:
                tags[annotation['image_id']].append(names[annotation['category_id']])
        for image in content['images']:
            yield image['file_name'], image['id'], tags[image['id']]

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
        find_image = ImageFinder(self.data_prefix['img'])
        for name in read_image_set(self.ann_file, folder=Path(find_image.folder).name):
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
            yield find_image(name), name, [classes[number - 1] for number in numbers]


@DATASETS.register_module()
class TagFileDataset(BaseTagDataset):
    """Read tags of custom images from a text, CSV or JSON file.

    See :func:`~projects.pdsl.datasets.tag_tables.read_tags` for the formats. Unless the config sets
    the classes, they are all tags in alphabetical order; the columns of a table of 0 and 1 are all
    classes, in their order.

    Args:
        separator: What separates tags in one cell; None means semicolons, bars and commas.
        kwargs: Arguments of :class:`BaseTagDataset`.
    """

    def __init__(self, *args, separator: str | None = None, **kwargs) -> None:
        self.separator = separator
        self._columns: tuple[str, ...] | None = None
        super().__init__(*args, **kwargs)

    def iter_tags(self) -> Iterator[tuple[str, str, list[str]]]:
        """Yield each image of the file.

        Raises:
            ValueError: The file does not match a format, or an image is listed twice.
        """
        classes = self._metainfo.get('classes')
        rows, self._columns = read_tags(Path(self.ann_file), classes, self.separator)
        for name, tags in rows.items():
            yield name, Path(name.strip()).with_suffix('').as_posix(), tags

    def default_classes(self, tags: list[list[str]]) -> tuple[str, ...]:
        """Return the columns of a table of 0 and 1, or all tags in alphabetical order."""
        return self._columns or super().default_classes(tags)
