"""Text and JSON from outside: whatever is wrong with it becomes one line that names the file."""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO
from xml.etree import ElementTree

import numpy as np

from ..errors import InputError

__all__ = [
    'IDENTIFIER',
    'NUMBER',
    'by_id',
    'check_fields',
    'iter_json_list',
    'parse_json',
    'read_json',
    'read_lines',
    'read_text',
    'read_xml',
    'shown',
]

IDENTIFIER = (int, str, np.integer)
"""Types of ids: numbers and strings are both in use."""
NUMBER = (int, float, np.integer, np.floating)

_NAMES = {dict: 'a dict', list: 'a list', str: 'a text', type(None): 'nothing'}


def shown(value: Any, length: int = 60) -> str:
    """A value of a message: on one line, and not longer than ``length``."""
    text = repr(value).replace('\n', ' ')  # arrays have several lines
    return text if len(text) <= length else text[: length - 3] + '...'


def _open(path: str | os.PathLike) -> BinaryIO:
    try:
        return open(path, 'rb')
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError):
        raise
    except (OSError, ValueError) as error:  # names that are too long, or have a zero byte
        raise InputError(f'{shown(os.fspath(path), 200)}: {error.args[-1]}') from None


def _read(path: str | os.PathLike) -> bytes:
    with _open(path) as file:
        try:
            return file.read()
        except OSError as error:
            raise InputError(f'{shown(os.fspath(path), 200)}: {error.args[-1]}') from None


def read_text(path: str | os.PathLike, encoding: str = 'utf-8') -> str:
    """Content of a UTF-8 text file, its line ends as they are.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is not UTF-8, or the system cannot open it.
    """
    try:
        return _read(path).decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(f'{path}: not UTF-8 text ({error.reason} at byte {error.start})') from None


def read_lines(path: str | os.PathLike) -> list[str]:
    """Lines of a UTF-8 text file. Other line separators than LF and CRLF are part of a line.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is not UTF-8.
    """
    lines = read_text(path).split('\n')
    if lines[-1] == '':
        lines.pop()
    return [line.removesuffix('\r') for line in lines]


def parse_json(text: str, where: str | os.PathLike, expected: str = 'a JSON file') -> Any:
    """The value of JSON.

    Args:
        text: The JSON.
        where: What messages begin with.
        expected: What messages say that it is not.

    Raises:
        ValueError: It is no JSON, is nested too deeply, or has a number of thousands of digits.
    """
    try:
        return json.loads(text)
    except RecursionError:
        reason = 'nested too deeply'
    except ValueError as error:
        reason = str(error)
    raise InputError(f'{where}: not {expected} ({reason})')


def read_json(path: str | os.PathLike) -> Any:
    """The value in a JSON file.

    Raises:
        FileNotFoundError: No such file.
        ValueError: As :func:`read_text` and :func:`parse_json`.
    """
    return parse_json(read_text(path), path)


_BLANK = ' \t\n\r'
# json reports a value that the text cuts off at most this far before the end, or as a string
# without an end.
_CUT = 16


def iter_json_list(
    path: str | os.PathLike, expected: str = 'a list of dicts', chunk_size: int = 1 << 20
) -> Iterator[dict]:
    """Yield the dicts of a JSON file that is one list, of which a part at a time is in memory.

    Args:
        path: The file.
        expected: What messages say was expected in place of something else.
        chunk_size: How much is read at once, in bytes. An entry of the list may be larger.

    Raises:
        FileNotFoundError: No such file.
        ValueError: As :func:`read_json`, or the file is no list of dicts. Entries before the place
            that is wrong have been yielded by then.
    """
    text, position, offset = '', 0, 0  # `offset` characters came before `text`

    def fail(reason: str) -> ValueError:
        return ValueError(f'{path}: not a JSON file ({reason})')

    def misplaced(what: str) -> ValueError:
        return fail(f'{what}: char {offset + position}')

    with _open(path) as file:
        decode = codecs.getincrementaldecoder('utf-8')().decode

        def read() -> bool:
            """Put at least as much again behind what is left of the text; False at the end."""
            nonlocal text, position, offset
            size = max(chunk_size, len(text) - position)
            start = file.tell()
            data = file.read(size)
            try:
                more = decode(data, final=not data)
            except UnicodeDecodeError as error:
                at = max(start - len(error.object) + len(data), 0) + error.start
                raise InputError(f'{path}: not UTF-8 text ({error.reason} at byte {at})') from None
            offset += position
            text, position = text[position:] + more, 0
            return bool(data)

        def following() -> str:
            """Move to the next character that is not blank, and return it; '' at the end."""
            nonlocal position
            while True:
                while position < len(text) and text[position] in _BLANK:
                    position += 1
                if position < len(text):
                    return text[position]
                if not read():
                    return ''

        first = following()
        if first != '[':
            found = 'nothing' if not first else f'a file that begins with {shown(text[:20])}'
            raise InputError(f'{path}: expected {expected}, found {found}')
        position += 1
        decoder = json.JSONDecoder()
        has_more = following() != ']'
        while has_more:
            mark = following()
            if mark != '{':
                if mark and mark not in ',]}':
                    entry = shown(text[position : position + 60])
                    raise InputError(f'{path}: expected {expected}, found {entry} in the list')
                raise misplaced('Expecting value')
            while True:
                try:
                    entry, end = decoder.raw_decode(text, position)
                except json.JSONDecodeError as error:
                    is_cut = error.msg.startswith('Unterminated string')
                    if (is_cut or error.pos >= len(text) - _CUT) and read():
                        continue
                    raise fail(f'{error.msg}: char {offset + error.pos}') from None
                except RecursionError:
                    raise fail('nested too deeply') from None
                except ValueError as error:  # a number of thousands of digits
                    raise fail(str(error)) from None
                break
            position = end
            yield entry
            mark = following()
            if mark not in (',', ']'):
                raise misplaced("Expecting ',' delimiter")
            has_more = mark == ','
            position += has_more
        position += 1  # the closing bracket
        if following():
            raise misplaced('Extra data')


def read_xml(path: str | os.PathLike) -> ElementTree.Element:
    """The root of an XML file.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is no XML.
    """
    content = _read(path)
    try:
        return ElementTree.fromstring(content)
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # unknown encodings
        raise InputError(f'{path}: not readable XML ({error})') from None


def check_fields(entry: Any, where: str, /, **kinds: type | tuple[type, ...]) -> None:
    """Checks fields of a record.

    Args:
        entry: What should be a dict with such fields.
        where: What messages begin with: file and place.
        kinds: The types that each field may have; where ``None``'s type is among them it may be
            absent.

    Raises:
        ValueError: It is no dict, or a field is absent or of another type.
    """
    if not isinstance(entry, Mapping):
        raise InputError(f'{where}: expected a dict with {", ".join(kinds)}, found {shown(entry)}')
    for field, kind in kinds.items():
        value = entry.get(field)
        if isinstance(value, kind) and not isinstance(value, bool):
            continue
        if field not in entry:
            raise InputError(f'{where}: no field {field!r}')
        names = kind if isinstance(kind, tuple) else (kind,)
        expected = ' or '.join(dict.fromkeys(_NAMES.get(name, 'a number') for name in names))
        raise InputError(f'{where}: {field}: expected {expected}, found {shown(value)}')


def by_id(content: Mapping, field: str, where: str, **kinds: Any) -> dict[Any, dict]:
    """The records of a COCO file's list by their ``id``.

    A record may stand in the list twice, as long as both say the same.

    Args:
        content: The file's content.
        field: The list: ``'images'``, ``'annotations'`` or ``'categories'``.
        where: The file.
        kinds: Types of the records' other fields; see :func:`check_fields`.

    Raises:
        ValueError: There is no such list, or a record is not so, or two with one id differ.
    """
    check_fields(content, where, **{field: list})
    found: dict[Any, dict] = {}
    for i, entry in enumerate(content[field]):
        check_fields(entry, f'{where}: {field}[{i}]', id=IDENTIFIER, **kinds)
        if found.setdefault(entry['id'], entry) != entry:
            raise InputError(
                f"{where}: {field}[{i}]: the id {shown(entry['id'])} is an earlier entry's"
            )
    return found
