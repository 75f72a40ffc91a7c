"""Tags of COCO's annotation files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.registry import DATASETS

from .base_tag_dataset import BaseTagDataset
from .coco_files import read_instances

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
