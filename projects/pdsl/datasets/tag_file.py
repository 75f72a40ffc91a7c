"""Tags of custom images in a text, CSV or JSON file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from mmengine.registry import DATASETS

from projects.common.errors import InputError
from projects.common.files.annotation_files import read_json, read_text, shown

from .base_tag_dataset import BaseTagDataset

__all__ = ['TagFileDataset']


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
