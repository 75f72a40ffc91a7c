"""Embed items in batches, except those whose embeddings are cached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from projects.common.errors import InputError
from projects.common.hooks.progress import progress_bar
from projects.common.speed.products import fast_products

from .embedding_cache import EmbeddingCache

__all__ = ['embed']

_Item = TypeVar('_Item')


@torch.no_grad()
def embed(
    items: Sequence[_Item],
    encode: Callable[[list[_Item]], Tensor],
    content: Callable[[_Item], bytes | None],
    what: str,
    batch_size: int,
    cache: EmbeddingCache | None = None,
    show_progress: bool = False,
) -> np.ndarray:
    """Embed what is not cached, in batches, and cache each batch right away.

    Args:
        items: N items.
        encode: Computes the embeddings (n, C) of a batch.
        content: Returns the bytes that identify an item in the cache, or None if it is not to be
            cached.
        what: Plural name of the items in messages; also part of the cache's keys.
        batch_size: Number of items per batch.
        cache: The cache, if there is one.
        show_progress: Whether to show a progress bar over several batches.

    Returns:
        Embeddings (N, C) float32.

    Raises:
        ValueError: There are no items, or ``batch_size`` is below 1.
    """
    if batch_size < 1:
        raise InputError(f'batch_size={batch_size}: expected at least 1')
    if not items:
        raise InputError(f'no {what} are given')
    rows: dict[int, np.ndarray] = {}
    keys: dict[int, bytes] = {}
    if cache is not None:
        for i, item in enumerate(items):
            data = content(item)
            if data is not None:
                keys[i] = cache.key(what.encode() + b'\0' + data)
                found = cache.get(keys[i])
                if found is not None:
                    rows[i] = found
    todo = [i for i in range(len(items)) if i not in rows]
    batches = [todo[s : s + batch_size] for s in range(0, len(todo), batch_size)]
    quiet: dict[str, Any] = (
        {} if show_progress and len(batches) > 1 else dict(style='lines', interval=float('inf'))
    )
    with progress_bar(len(batches), what, 'batch', **quiet) as bar:
        for part in batches:
            with fast_products():
                made = encode([items[i] for i in part]).float().cpu().numpy()
            if cache is not None:
                kept = [j for j, i in enumerate(part) if i in keys]
                cache.put([keys[part[j]] for j in kept], made[kept])
            rows.update(zip(part, made))
            bar.update()
    return np.stack([rows[i] for i in range(len(items))])
