"""Files of tags: a list of tags per image, a column of 0 and 1 per tag, or a row per tag."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from projects.common.errors import InputError
from projects.common.files.annotation_files import read_json, read_lines, shown
from projects.common.files.tables import (
    IMAGE_COLUMNS,
    Row,
    find_column,
    find_separator,
    read_rows,
)

__all__ = ['read_tags']

TAG_COLUMNS = (
    'tags', 'tag', 'labels', 'label', 'classes', 'class', 'class_name', 'categories', 'category',
    'finding_labels',
)  # fmt: skip
"""Names of columns with tags, in lower case. If a table has several, the first counts."""

_IMAGE_COLUMNS = (*IMAGE_COLUMNS, 'image_index')
_FLAGS = {'0': False, '0.0': False, 'false': False, '1': True, '1.0': True, 'true': True}
_NUMBER = re.compile(r'[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?', re.IGNORECASE)


def read_tags(
    path: Path, classes: Sequence[str] | None = None, separator: str | None = None
) -> tuple[dict[str, list[str]], tuple[str, ...] | None]:
    """Read the tags of images from one of these files.

    - ``.json``: ``{"a.jpg": ["cat", "dog"], ...}``, or a list of ``{"file_name": "a.jpg", "tags":
      ["cat", "dog"]}``. Tags in one text are read like those in a cell.
    - ``.csv``: ``a.jpg,cat,dog``.
    - Any other suffix: ``a.jpg cat dog``, separated by spaces or tabs. In a line with tabs, spaces
      are part of the names.

    The first line may be a header with one of the usual names of a column of images, such as
    ``file_name``; its cells are then separated by commas, semicolons, tabs or bars, whatever the
    suffix. With or without it, tags may be listed in several ways:

    - One tag per cell, or several in one cell (``dog;cat``, ``dog|cat`` or, in quotes,
      ``dog,cat``), unless the cell is a class as a whole.
    - One row per tag: an image may be in several rows if no row has more than one tag.
    - A column per tag that holds 0 or 1. Its name is in the header. Without a header, there is a
      column for each class of the config.
    - A column called ``tags``, ``label``, ``class``, ... among others, which are not read.

    Args:
        path: The file.
        classes: The classes of the config, if it sets them.
        separator: What separates tags in one cell; None means semicolons, bars and commas.

    Returns:
        The tags of each image, and the names of the columns if the file has one per tag.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file has none of these formats, or an image is listed twice.
    """
    table = _Table(str(path), classes, separator)
    if path.suffix.lower() == '.json':
        table.add_json(read_json(path))
    else:
        table.add_rows(*_read_rows(path))
    return table.merged(), table.columns


def _read_rows(path: Path) -> tuple[list[str] | None, list[Row]]:
    """Return the cells of the header, if any, and the rows."""
    lines = read_lines(path)
    first = next((line for line in lines if line.strip()), '')
    separator = find_separator(first, _IMAGE_COLUMNS)
    if separator and not _is_header(first.split(separator)):
        separator = None
    if separator or path.suffix.lower() == '.csv':
        rows = read_rows(path, separator or ',')
    else:
        cells = (line.split('\t') if '\t' in line else line.split() for line in lines)
        rows = [Row(f'{path}:{i}', each) for i, each in enumerate(cells, 1) if any(each)]
    if rows and _is_header(rows[0].cells):
        return [cell.strip() for cell in rows[0].cells], rows[1:]
    return None, rows


def _is_header(cells: Sequence[str]) -> bool:
    """Return whether cells name columns; a tag of an image may be called like one of images."""
    cells = [cell.strip(' "') for cell in cells]
    is_column = find_column(cells[:1], (*_IMAGE_COLUMNS, *TAG_COLUMNS)) == 0
    return is_column and find_column(cells, _IMAGE_COLUMNS) is not None


class _Table:
    """Collect the tags in the rows of a file."""

    def __init__(self, path: str, classes: Sequence[str] | None, separator: str | None) -> None:
        self.path = path
        self.classes = None if classes is None else [name.strip() for name in classes]
        self.separators = ';|,' if separator is None else separator
        self.columns: tuple[str, ...] | None = None
        self.rows: list[tuple[str, str, list[str]]] = []

    def merged(self) -> dict[str, list[str]]:
        """Return the tags of each image.

        Raises:
            ValueError: An image is in several rows, of which one has several tags.
        """
        is_long = all(len(tags) <= 1 for _, _, tags in self.rows)
        merged: dict[str, list[str]] = {}
        for where, name, tags in self.rows:
            if not Path(name.strip()).name:
                raise InputError(f'{where}: image {shown(name)}, expected the name of a file')
            if name in merged and not (is_long and tags):
                raise InputError(f'{where}: image {shown(name)} comes twice')
            merged.setdefault(name, []).extend(tags)
        return merged

    def add_json(self, content: Any) -> None:
        """Add the entries of a JSON file."""
        if isinstance(content, list) and all(isinstance(row, dict) for row in content):
            rows = [(row.get('file_name'), row.get('tags')) for row in content]
        elif isinstance(content, dict):
            rows = list(content.items())
        else:
            kind = type(content).__name__
            raise InputError(f'{self.path}: holds a {kind}, expected a dict or dicts')
        for name, tags in rows:
            if not isinstance(name, str) or not isinstance(tags, (str, list)):
                raise InputError(
                    f'{self.path}: {shown(name)}: {shown(tags)}, expected a file name and a list'
                )
            if not all(isinstance(tag, str) and tag.strip() for tag in tags or ()):
                raise InputError(
                    f'{self.path}: tags of {shown(name)} are {shown(tags)}, expected strings'
                )
            found = self._split(tags) if isinstance(tags, str) else tags
            self.rows.append((self.path, name, found))

    def add_rows(self, header: list[str] | None, rows: list[Row]) -> None:
        """Add the rows of a table."""
        image = 0
        if header and find_column(header[:1], _IMAGE_COLUMNS) is None:
            image = find_column(header, _IMAGE_COLUMNS) or 0
        names = None if header is None else header[:image] + header[image + 1 :]
        others = [
            (where, cells[image] if len(cells) > image else '', cells[:image] + cells[image + 1 :])
            for where, cells in rows
        ]
        if self._are_flags(others):
            self._add_flags(names, others)
            return
        column = None if names is None else find_column(names, TAG_COLUMNS)
        for where, name, cells in others:
            if column is not None and names is not None:
                # Further tags may follow the last column.
                is_last = column == len(names) - 1
                cells = cells[column:] if is_last else cells[column : column + 1]
            elif names and len(names) > 1:
                self._check_no_numbers(where, cells)
            self.rows.append((where, name, [tag for cell in cells for tag in self._split(cell)]))

    def _split(self, cell: str) -> list[str]:
        if self.classes is not None and cell.strip() in self.classes:
            return [cell.strip()]
        parts = re.split(f'[{re.escape(self.separators)}]', cell)
        return [part.strip() for part in parts if part.strip()]

    def _are_flags(self, rows: Iterable[tuple[str, str, list[str]]]) -> bool:
        """Return whether all cells are 0 and 1, and these are not classes of the config."""
        cells = {cell.strip().lower() for _, _, cells in rows for cell in cells}
        are_classes = self.classes is not None and not cells.isdisjoint(self.classes)
        return bool(cells) and cells <= _FLAGS.keys() and not are_classes

    def _add_flags(
        self, names: Sequence[str] | None, rows: Sequence[tuple[str, str, list[str]]]
    ) -> None:
        """Add rows with a cell of 0 or 1 per tag."""
        is_list = names is not None and len(names) == 1 and find_column(names, TAG_COLUMNS) == 0
        columns = self.classes if names is None else names
        if not columns or is_list:
            raise InputError(
                f'{self.path}: the tags are 0 and 1, expected names of classes; if they are flags, '
                'a header has to name their columns, such as "file_name,cat,dog", or the config '
                'the classes'
            )
        for where, name, cells in rows:
            if len(cells) != len(columns):
                raise InputError(
                    f'{where}: {len(cells)} cells of 0 and 1, expected {len(columns)}: '
                    f'{shown(list(columns))}'
                )
            flags = [_FLAGS[cell.strip().lower()] for cell in cells]
            self.rows.append((where, name, [tag for tag, flag in zip(columns, flags) if flag]))
        self.columns = tuple(columns)

    def _check_no_numbers(self, where: str, cells: Collection[str]) -> None:
        known = self.classes or ()
        for cell in cells:
            if _NUMBER.fullmatch(cell.strip()) and cell.strip() not in known:
                raise InputError(
                    f'{where}: found the number {cell.strip()}, expected a tag, or only 0 and 1 in '
                    f'all columns; a column called {TAG_COLUMNS[0]!r} would be the only one read'
                )
