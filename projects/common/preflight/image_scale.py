"""Reduce the image sizes of a config for machines that are too slow for full-size images."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

__all__ = ['scale_images']

_KEYS = ('scale', 'scales', 'crop_size')


def scale_images(node: Any, factor: float) -> int:
    """Scale the pixel sizes of all resizing and cropping transforms below a node, in place.

    Relative sizes, such as ``crop_size=(0.9, 0.9)``, do not change.

    Args:
        node: A data loader config, or a part of one.
        factor: The factor for the sizes.

    Returns:
        The number of changed transforms.
    """
    changed = 0
    if isinstance(node, MutableMapping):
        kind = str(node.get('type', ''))
        if 'Resize' in kind or 'Crop' in kind:
            before = {key: node[key] for key in _KEYS if key in node}
            after = {key: _scaled(value, factor) for key, value in before.items()}
            node.update(after)
            changed += before != after
        changed += sum(scale_images(child, factor) for child in list(node.values()))
    elif isinstance(node, (list, tuple)):
        changed += sum(scale_images(child, factor) for child in node)
    return changed


def _scaled(value: Any, factor: float) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_scaled(each, factor) for each in value)
    if isinstance(value, int) and not isinstance(value, bool) and value > 1:
        return max(1, round(value * factor))
    return value
