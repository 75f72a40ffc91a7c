"""The base class of datasets with image-level tags; training reads nothing else."""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from projects.common.errors import InputError
from projects.common.files.annotation_files import check_text, shown
from projects.common.files.image_backend import read_any_image
from projects.common.files.images import naming_broken_image

from .classes import report_absent_classes

__all__ = ['BaseTagDataset']


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
        keep_missing: Keep images whose files do not exist, for a caller that handles the error of
            loading them. If none exists, that is still an error.
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
        keep_missing: bool = False,
        **kwargs,
    ) -> None:
        self.ignore_unknown = ignore_unknown
        self.keep_missing = keep_missing
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
            raise InputError(f'{self.ann_file}: names no images')
        if self._metainfo.get('classes') is None:
            self._metainfo['classes'] = self.default_classes([tags for _, _, tags in entries])
        found = {tag for _, _, tags in entries for tag in tags}
        for tag in found.union(self._metainfo['classes']):
            check_text(tag, f'{self.ann_file}: tag')
        number = self._number_classes()
        unknown: dict[str, int] = {}
        present: set[int] = set()
        samples = []
        paths = self._image_paths([name for name, _, _ in entries])
        for path, (_, img_id, tags) in zip(paths, entries, strict=True):
            tags = [tag.strip() for tag in tags]
            for tag in tags:
                if tag not in number:
                    unknown[tag] = unknown.get(tag, 0) + 1
            known = sorted({number[tag] for tag in tags if tag in number})
            present.update(known)
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
        report_absent_classes(self.ann_file, number, present)
        if empty := sum(not sample['tags'] for sample in samples):
            print_log(
                f'{self.ann_file}: {empty} of {len(samples)} images have no tag',
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

    def _image_paths(self, names: list[str]) -> list[str]:
        """Return the paths of images, whose names may have blanks around them in the file only."""
        folder = self.data_prefix.get('img') or ''
        paths: list[str] = []
        missing: list[str] = []
        for name in names:
            both = [os.path.join(folder, each) for each in (name, name.strip())]
            path = next((path for path in both if os.path.isfile(path)), None)
            if path is None:
                missing.append(both[0])
            paths.append(path or both[0])
        if missing and (not self.keep_missing or len(missing) == len(names)):
            raise FileNotFoundError(f'{self.ann_file}: image {missing[0]!r} does not exist')
        return paths

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
        with naming_broken_image(self.get_data_info(idx)['img_path']):
            return super().prepare_data(idx)

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the tags of a sample, for mmdet's class-balanced sampling."""
        return list(self.get_data_info(idx)['tags'])
