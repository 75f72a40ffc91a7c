"""Parse the values of ``--cfg-options``."""

from __future__ import annotations

import re
from typing import Any

from ..config_text import parse_literal

__all__ = ['CommaText', 'parse_value', 'settle']

_CLOSING = {'(': ')', '[': ']', '{': '}'}
# Keys whose values are names of files and folders.
_PATHS = re.compile(r'(root|dir|folder|file|path|prefix|from|checkpoint|pretrained)$')


class CommaText(str):
    """Text with commas outside brackets and quotes: a list of words, or a string with commas.

    What it is depends on the setting that it is for; see :func:`settle`. Its blanks are kept.
    """


def parse_value(text: str) -> Any:
    """Parse the text of an override.

    Numbers, True, False and None are read as such. ``1,2``, ``[1,2]`` and ``[(1,2),(3,4)]`` are
    lists, ``(1,2)`` and ``(1)`` are tuples, as for MMEngine's ``DictAction``. Words within brackets
    need no quotes: ``[a,b]``. In contrast to ``DictAction``, blanks are kept, quoted text is a
    string whatever it contains, and ``dict(key=value)`` and ``{'key': value}`` are dicts of Python
    literals. Everything else is a string as it was typed.

    Returns:
        The value, which is a :class:`CommaText` if it may be a list as well as a string.

    Raises:
        ValueError: A list, tuple, dict or quoted text has no end, or a dict is not a literal.
    """
    parts = _split(text)
    if parts is None:  # a bracket or quote that has no partner, as in "women's" or "a) b"
        is_list = text.lstrip()[:1] in ('[', '(') and ',' in text
        if is_list or re.match(r'[\s[(]*dict\(', text):
            raise ValueError('brackets or quotes are not closed')
        return text
    if len(parts) == 1:
        return _parse(parts[0], text)
    values = _parse_all(parts)
    words = [isinstance(v, str) and not _is_quoted(part) for part, v in zip(parts, values)]
    return CommaText(text) if any(words) else values


def settle(value: Any, key: str, present: Any) -> Any:
    """Return the list or the string that a :class:`CommaText` is for a setting.

    It is a list if the setting has a list now. It is a string if it looks like a path (it has a
    slash, the string in its place has one, or the key is that of a path, such as ``data_root``), or
    if it has blanks within words where the setting has a string now. All else is a list, such as
    ``metric=bbox,segm``. Values of other types are returned unchanged.

    Args:
        value: A result of :func:`parse_value`.
        key: The dotted key of the override.
        present: The value of the setting in the config, or None.
    """
    if not isinstance(value, CommaText):
        return value
    parts = _split(value) or []
    if isinstance(present, (list, tuple)):
        return _parse_all(parts)
    is_path = '/' in value or bool(_PATHS.search(key))
    if isinstance(present, str):
        is_path = is_path or '/' in present or any(len(part.split()) > 1 for part in parts)
    return str(value) if is_path else _parse_all(parts)


def _split(text: str) -> list[str] | None:
    """Split at commas outside brackets and quotes; None if these are not closed.

    A quotation mark opens only where an element begins, so that "it's" has none.
    """
    parts, start, expected, quote, before = [], 0, [], '', ','
    for i, character in enumerate(text):
        if quote:
            if character == quote and text[i - 1] != '\\':
                quote = ''
        elif character in '"\'' and before in ',([{=:':
            quote = character
        elif character in _CLOSING:
            expected.append(_CLOSING[character])
        elif character in ')]}':
            if not expected or expected.pop() != character:
                return None
        elif character == ',' and not expected:
            parts.append(text[start:i].strip())
            start = i + 1
        if not character.isspace():
            before = character
    if quote or expected:
        return None
    return [*parts, text[start:].strip()]


def _parse_all(parts: list[str]) -> list:
    if parts[-1] == '':  # a comma at the end
        parts = parts[:-1]
    return [_parse(part, part) for part in parts]


def _parse(part: str, typed: str) -> Any:
    """Parse one element.

    Args:
        part: Its text without blanks around.
        typed: The text to return if it is a string without quotes.
    """
    from mmengine.config import DictAction

    if part.startswith('dict(') or re.match(r'\{\s*(["\']|\}$)', part):
        return _parse_dict(part)
    if part[:1] in ('[', '(') and _encloses(part):
        values = _parse_all(_split(part[1:-1]) or [])
        return tuple(values) if part[0] == '(' else values
    if _is_quoted(part):
        return part[1:-1].replace(f'\\{part[0]}', part[0])
    value = DictAction._parse_int_float_bool(part)
    return typed if isinstance(value, str) else value


def _parse_dict(text: str) -> dict:
    try:
        found = parse_literal(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(
            f"{text} is not a dict of Python literals such as dict(type='Adam', lr=0.1), in which "
            'strings have quotes'
        )
    return found


def _encloses(text: str) -> bool:
    """Return whether the first bracket of a balanced text is closed by its last character."""
    return _split(text[1:-1]) is not None and text[-1] == _CLOSING[text[0]]


def _is_quoted(part: str) -> bool:
    return len(part) > 1 and part[0] == part[-1] and part[0] in '"\''
