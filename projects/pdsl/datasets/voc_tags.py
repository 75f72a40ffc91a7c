"""Tags of VOC and of SBD, which has VOC's classes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from mmdet.datasets import VOCDataset
from mmengine.registry import DATASETS

from projects.common.errors import InputError
from projects.common.files.array_files import read_mat

from .base_tag_dataset import BaseTagDataset
from .voc_layout import ImageFinder, read_image_set, read_objects

__all__ = ['SBDTagDataset', 'VOCTagDataset', 'read_image_set']

_VOC = dict(VOCDataset.METAINFO)


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
