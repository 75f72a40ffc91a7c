"""Read tables of text: CSV files, with any of the usual separators and with or without a header."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import InputError
from .annotation_files import read_text

__all__ = ['IMAGE_COLUMNS', 'Row', 'find_column', 'find_separator', 'read_rows']

IMAGE_COLUMNS = (
    'filepath', 'file_path', 'image_path', 'img_path', 'path', 'file_name', 'filename', 'file',
    'image_name', 'img_name', 'image', 'img', 'image_id', 'name', 'id',
)  # fmt: skip
"""Names of columns with image files, in lower case. If a table has several, the first counts."""

_SEPARATORS = ('\t', '|', ',', ';')


class Row(NamedTuple):
    """Hold a line of a table.

    Attributes:
        where: The place in the file, for messages: file:line.
        cells: The cells, with blanks around them.
    """

    where: str
    cells: list[str]


def find_column(header: Sequence[str], columns: Sequence[str]) -> int | None:
    """Return the index of the first of ``columns`` that a header has, or None.

    Args:
        header: The cells. Case does not matter, and blanks may stand for underscores.
        columns: Names in lower case.
    """
    names = [cell.strip().lower().replace(' ', '_') for cell in header]
    return next((names.index(column) for column in columns if column in names), None)


def find_separator(header: str, columns: Sequence[str]) -> str | None:
    """Return what separates the cells of the first line of a file, or None if it is no header.

    Args:
        header: The line.
        columns: Names in lower case; a header has one of them and at least one other column.
    """
    for separator in _SEPARATORS:
        cells = [cell.strip(' "\r\n') for cell in header.split(separator)]
        if len(cells) > 1 and find_column(cells, columns) is not None:
            return separator
    return None


def read_rows(path: str | os.PathLike, separator: str) -> list[Row]:
    """Return the rows of a CSV file that are not blank, with quotes as spreadsheets write them.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not text, or a quote is not closed or in the middle of a cell.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=''), delimiter=separator, strict=True)
    rows = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append(Row(f'{path}:{reader.line_num}', cells))
    except csv.Error as error:
        raise InputError(f'{path}:{reader.line_num}: not a CSV file ({error})') from None
    return rows
