"""Read untrusted text and JSON files, and report every problem in one line that names the file."""

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
    'FLAG',
    'IDENTIFIER',
    'NUMBER',
    'by_id',
    'check_fields',
    'check_text',
    'has_kind',
    'is_utf8',
    'iter_json_list',
    'json_bytes',
    'parse_json',
    'printable',
    'read_json',
    'read_lines',
    'read_text',
    'read_xml',
    'shown',
]

IDENTIFIER = (int, str, np.integer)
"""Types of ids: both numbers and strings are in use."""
NUMBER = (int, float, np.integer, np.floating)
FLAG = (bool, *NUMBER)
"""Types of flags such as ``iscrowd``, which exporters write as numbers or as true and false."""

_BOMS = (
    (codecs.BOM_UTF8, 'utf-8'),
    (codecs.BOM_UTF16_LE, 'utf-16-le'),
    (codecs.BOM_UTF16_BE, 'utf-16-be'),
)
_NAMES = {
    bool: 'true or false',
    dict: 'a dict',
    list: 'a list',
    str: 'a text',
    type(None): 'nothing',
}


def shown(value: Any, length: int = 60) -> str:
    """Format a value for a message, on one line and with at most ``length`` characters."""
    text = repr(value).replace('\n', ' ')  # arrays span several lines
    return text if len(text) <= length else text[: length - 3] + '...'


def _open(path: str | os.PathLike) -> BinaryIO:
    try:
        return open(path, 'rb')
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError):
        raise
    except (OSError, ValueError) as error:  # names that are too long or contain a null byte
        raise InputError(f'{shown(os.fspath(path), 200)}: {error.args[-1]}') from None


def _read(path: str | os.PathLike) -> bytes:
    with _open(path) as file:
        try:
            return file.read()
        except OSError as error:
            raise InputError(f'{shown(os.fspath(path), 200)}: {error.args[-1]}') from None


def _encoding(start: bytes) -> tuple[str, int]:
    """Return the encoding of a text file, and the length of its byte order mark."""
    return next(((name, len(mark)) for mark, name in _BOMS if start.startswith(mark)), ('utf-8', 0))


def read_text(path: str | os.PathLike) -> str:
    """Read a UTF-8 text file and keep its line endings.

    A byte order mark, which some editors write, is dropped. With the mark of UTF-16, the file is
    read as such.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not UTF-8, or the system cannot open it.
    """
    content = _read(path)
    encoding, skip = _encoding(content)
    try:
        return content[skip:].decode(encoding)
    except UnicodeDecodeError as error:
        raise _not_text(path, encoding, error.reason, skip + error.start) from None


def _not_text(path: str | os.PathLike, encoding: str, reason: str, at: int) -> InputError:
    name = encoding[:6].rstrip('-').upper()  # UTF-8 or UTF-16
    return InputError(f'{path}: not {name} text ({reason} at byte {at})')


def read_lines(path: str | os.PathLike) -> list[str]:
    """Read the lines of a UTF-8 text file, separated by LF or CRLF only.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not UTF-8.
    """
    lines = read_text(path).split('\n')
    if lines[-1] == '':
        lines.pop()
    return [line.removesuffix('\r') for line in lines]


def is_utf8(text: str) -> bool:
    """Return whether a text can be encoded.

    A file name in another encoding has surrogates in place of the bytes that are not UTF-8, and so
    have parts of emoji.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_text(text: str, where: str) -> None:
    """Refuse text with half a character, which can be in memory but not in a file.

    JSON can hold one half of a pair of surrogates, such as a part of an emoji that was cut off.
    Python reads it without an error, and fails once the text is written, for example in a
    checkpoint.

    Args:
        text: The text.
        where: The start of error messages: file, place and field.

    Raises:
        ValueError: The text cannot be encoded in UTF-8.
    """
    if not is_utf8(text):
        raise InputError(
            f'{where}: found half a character (a lone surrogate) in {shown(text, 200)}, expected '
            'text that UTF-8 can encode'
        )


def printable(name: str) -> str:
    """Return a name with escapes in place of what is not UTF-8."""
    return name.encode(errors='backslashreplace').decode()


def json_bytes(value: Any, **kwargs: Any) -> bytes:
    """Return a value as JSON in UTF-8, whose surrogates are escaped and read back unchanged.

    Args:
        value: The value.
        kwargs: Additional arguments of :func:`json.dumps`.
    """
    return json.dumps(value, ensure_ascii=False, **kwargs).encode(errors='backslashreplace')


def parse_json(text: str, where: str | os.PathLike, expected: str = 'a JSON file') -> Any:
    """Parse JSON text.

    Args:
        text: The JSON text.
        where: The start of error messages.
        expected: A description of the expected content for error messages.

    Raises:
        ValueError: The text is not JSON, is nested too deeply, or has a number with thousands of
            digits.
    """
    try:
        return json.loads(text)
    except RecursionError:
        reason = 'nested too deeply'
    except ValueError as error:
        reason = str(error)
    raise InputError(f'{where}: not {expected} ({reason})')


def read_json(path: str | os.PathLike) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: See :func:`read_text` and :func:`parse_json`.
    """
    return parse_json(read_text(path), path)


_BLANK = ' \t\n\r'
# For text that is cut off inside a value, json reports an error at most this many characters before
# the end, or an unterminated string.
_CUT = 16


def iter_json_list(
    path: str | os.PathLike, expected: str = 'a list of dicts', chunk_size: int = 1 << 20
) -> Iterator[dict]:
    """Yield the dicts of a JSON file that is one list, holding only part of it in memory.

    Args:
        path: The file.
        expected: A description of the expected content for error messages.
        chunk_size: Number of bytes read at a time. An entry of the list may be larger.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: See :func:`read_json`; or the file is not a list of dicts. All entries before
            the error have been yielded by then.
    """
    text, position, offset = '', 0, 0  # `offset` characters precede `text`

    def fail(reason: str) -> ValueError:
        return InputError(f'{path}: not a JSON file ({reason})')

    def misplaced(what: str) -> ValueError:
        return fail(f'{what}: char {offset + position}')

    with _open(path) as file:
        encoding, skip = _encoding(file.read(len(codecs.BOM_UTF8)))
        file.seek(skip)
        decode = codecs.getincrementaldecoder(encoding)().decode

        def read() -> bool:
            """Append at least as much text as is left; return False at the end of the file."""
            nonlocal text, position, offset
            size = max(chunk_size, len(text) - position)
            start = file.tell()
            data = file.read(size)
            try:
                more = decode(data, final=not data)
            except UnicodeDecodeError as error:
                at = max(start - len(error.object) + len(data), 0) + error.start
                raise _not_text(path, encoding, error.reason, at) from None
            offset += position
            text, position = text[position:] + more, 0
            return bool(data)

        def following() -> str:
            """Move to the next non-blank character and return it, or '' at the end."""
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
                except ValueError as error:  # a number with thousands of digits
                    raise fail(str(error)) from None
                break
            position = end
            yield entry
            mark = following()
            if mark not in (',', ']'):
                raise misplaced("Expecting ',' delimiter")
            has_more = mark == ','
            position += has_more
        position += 1  # skip the closing bracket
        if following():
            raise misplaced('Extra data')


def read_xml(path: str | os.PathLike) -> ElementTree.Element:
    """Read an XML file and return its root.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not XML.
    """
    content = _read(path)
    try:
        return ElementTree.fromstring(content)
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # LookupError: bad encoding
        raise InputError(f'{path}: not readable XML ({error})') from None


def has_kind(entry: dict[str, Any], field: str, kind: type | tuple[type, ...]) -> bool:
    """Return whether a field of a record has a type.

    A float without a fraction (3.0), as which some exporters write integers, is replaced by the
    integer if the field is one. Booleans are accepted only where ``bool`` is named.

    Args:
        entry: The record.
        field: Name of the field. A missing one counts as None.
        kind: The type, or several of them.
    """
    value = entry.get(field)
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if isinstance(value, (float, np.floating)) and int in kinds and not isinstance(value, kinds):
        if not value.is_integer():
            return False
        value = entry[field] = int(value)
    return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


def check_fields(entry: Any, where: str, /, **kinds: type | tuple[type, ...]) -> None:
    """Check the types of a record's fields, as :func:`has_kind` does.

    Args:
        entry: The record. It should be a dict with these fields.
        where: The start of error messages: file and place.
        kinds: The types that each field may have. A field may be missing if the type of ``None`` is
            among them.

    Raises:
        ValueError: The entry is not a dict, or a field is missing or has another type.
    """
    if not isinstance(entry, dict):
        raise InputError(f'{where}: expected a dict with {", ".join(kinds)}, found {shown(entry)}')
    for field, kind in kinds.items():
        if has_kind(entry, field, kind):
            continue
        if field not in entry:
            raise InputError(f'{where}: no field {field!r}')
        names = kind if isinstance(kind, tuple) else (kind,)
        number = 'a number' if float in names else 'an integer'
        expected = ' or '.join(dict.fromkeys(_NAMES.get(name, number) for name in names))
        raise InputError(f'{where}: {field}: expected {expected}, found {shown(entry[field])}')


def by_id(content: Mapping, field: str, where: str, **kinds: Any) -> dict[Any, dict]:
    """Index the records of a list in a COCO file by their ``id``.

    A record may occur twice in the list if both copies are identical.

    Args:
        content: The content of the file.
        field: Name of the list: ``'images'``, ``'annotations'`` or ``'categories'``.
        where: The name of the file.
        kinds: Types of the records' other fields; see :func:`check_fields`.

    Raises:
        ValueError: The list is missing, a record has wrong fields, or two records with the same id
            differ.
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
