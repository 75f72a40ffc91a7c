"""VSE-infinity's size augmentation: drop regions of images and words of captions in training."""

from __future__ import annotations

import torch
from torch import Tensor

from .sequences import length_mask


def _compact(values: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """Move the kept elements of every row to its front, in order, followed by zeros."""
    order = keep.int().argsort(dim=1, descending=True, stable=True)
    lengths = keep.sum(dim=1)
    # A CPU computes less without the padding; a GPU would have to wait for the lengths.
    shorten = values.device.type == 'cpu' and not torch.compiler.is_compiling()
    size = int(lengths.max()) if shorten else values.shape[1]
    order = order[:, :size]
    pads = ~length_mask(lengths, size)
    if values.dim() == 3:
        moved = values.gather(1, order[..., None].expand(-1, -1, values.shape[2]))
        return moved.masked_fill(pads[..., None], 0), lengths
    return values.gather(1, order).masked_fill(pads, 0), lengths


def drop_regions(features: Tensor, lengths: Tensor, rate: float = 0.2) -> tuple[Tensor, Tensor]:
    """Drop each region with probability ``rate``; every image keeps at least one.

    Args:
        features: (B, N, C).
        lengths: (B,), number of regions of each image.
        rate: Probability of dropping a region.

    Returns:
        (B, N', C), zero-padded at the end, and the new lengths (B,).
    """
    valid = length_mask(lengths, features.shape[1])
    draw = torch.rand(valid.shape, device=features.device).masked_fill(~valid, -1)
    keep = draw > rate
    keep |= valid & (draw == draw.max(dim=1, keepdim=True).values)
    return _compact(features, keep)


def augment_words(
    ids: Tensor,
    lengths: Tensor,
    mask_id: int,
    replacements: Tensor,
    rate: float = 0.2,
    words: Tensor | None = None,
    exempt: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Change each word with probability ``rate``: mask half, replace a tenth, delete the rest.

    Args:
        ids: (B, L) int64 tokens; 0 is padding.
        lengths: (B,).
        mask_id: Id of the mask token.
        replacements: (W,) int64, ids of real words to draw replacements from. If empty, nothing is
            replaced.
        rate: Probability of changing a word.
        words: (B, L), index of the word each token belongs to. All tokens of a word are changed in
            the same way. None if each token is a word.
        exempt: (B, L) bool, True for tokens that are never changed, such as BERT's [CLS] and [SEP].

    Returns:
        Ids (B, L') and lengths (B,). If nothing of a caption would remain, its first token is kept.
    """
    valid = length_mask(lengths, ids.shape[1])
    draw = torch.rand(ids.shape, device=ids.device)
    if words is not None:
        draw = draw.gather(1, words)
    if exempt is not None:
        draw = draw.masked_fill(exempt, 1)
    random_ids = ids
    if len(replacements):
        drawn = torch.randint(len(replacements), ids.shape, device=ids.device)
        random_ids = replacements.to(ids.device)[drawn]
    changed = torch.where(draw < 0.5 * rate, mask_id, ids)
    changed = torch.where((draw >= 0.5 * rate) & (draw < 0.6 * rate), random_ids, changed)
    keep = valid & ~((draw >= 0.6 * rate) & (draw < rate))
    keep[:, 0] |= ~keep.any(dim=1)
    return _compact(changed, keep)
