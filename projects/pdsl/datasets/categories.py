"""Checks of the categories in COCO json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from projects.common.errors import InputError

__all__ = ['check_category_names']


def check_category_names(categories: Mapping[Any, Mapping], where: str) -> None:
    """Raise ``InputError`` if two categories have one name, apart from blanks around it.

    Args:
        categories: Categories of a COCO json, by id.
        where: The name of the file.
    """
    ids: dict[str, Any] = {}
    for key, category in categories.items():
        name = category['name'].strip()
        if ids.setdefault(name, key) != key:
            raise InputError(
                f'{where}: categories: the name {name!r} has the ids {ids[name]!r} and {key!r}; '
                'give them one id, or different names'
            )
