"""Tags of custom images in a text, CSV or JSON file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mmengine.registry import DATASETS

from .base_tag_dataset import BaseTagDataset
from .tag_tables import read_tags

__all__ = ['TagFileDataset']


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
