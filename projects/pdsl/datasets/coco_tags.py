"""Tags of COCO's annotation files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.registry import DATASETS

from projects.common.errors import InputError
from projects.common.files.annotation_files import (
    IDENTIFIER,
    by_id,
    check_fields,
    read_json,
    shown,
)

from .base_tag_dataset import BaseTagDataset
from .categories import check_category_names

__all__ = ['COCOTagDataset']


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
