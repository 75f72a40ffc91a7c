"""Similarities of a batch that is split over several processes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn import functional as collectives

Features = dict[str, Tensor]


class JointScores(NamedTuple):
    """Hold the similarities of this process's b pairs and all B pairs of the joint batch.

    The fields are the arguments of :meth:`projects.rvse.losses.MatchingLoss.forward`.

    Attributes:
        S: (b, B), images of this process and all captions.
        positives: (b, B) bool, further pairs that match, or None.
        captions: (b, B), captions of this process and all images. None with a single process.
        offset: Column of the first pair of this process.
    """

    S: Tensor
    positives: Tensor | None = None
    captions: Tensor | None = None
    offset: int = 0

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments for a loss; without those that a single process lacks."""
        if self.captions is None:
            return {}
        return dict(captions=self.captions, offset=self.offset)


def num_processes() -> int:
    """Return the number of processes; 1 without distributed training."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size()
    return 1


def joint_scores(
    similarity: nn.Module,
    features: Features,
    owner: Tensor,
    image_ids: Sequence[Any] | None = None,
) -> JointScores:
    """Score the images and captions of all processes, each pair in one process only.

    Every process receives all images, scores them with its own captions, and sends the rows of
    other processes' images to them. Computation and memory of a process grow with the number of
    processes, not with its square. Gradients pass through both exchanges. All processes must call
    this function.

    Args:
        similarity: Computes scores (I, T) of I images and T captions.
        features: ``image_feat`` (i, ...), ``image_lengths`` (i,), ``text_feat`` (b, ...) and
            ``text_lengths`` (b,) of this process.
        owner: (b,) int64, index of the image of each caption; an image stands for as many pairs.
        image_ids: Identities of the i images. Pairs with equal ids match one another. None if all
            images differ.
    """
    images, lengths = features['image_feat'], features['image_lengths']
    sizes = _sizes(images, owner)
    image_counts, pair_counts, regions = sizes.T.tolist()
    if images.dim() > 2:
        images = _padded(images, 1, max(regions))
    images = _gathered(images, image_counts)
    lengths = _gathered(lengths, image_counts)
    columns = similarity(images, lengths, features['text_feat'], features['text_lengths'])

    positives = None
    repeated = image_counts != pair_counts
    if repeated or image_ids is not None:
        starts = torch.tensor(image_counts).cumsum(0) - torch.tensor(image_counts)
        owners = _gathered(owner.to(images.device), pair_counts)
        owners = owners + starts.repeat_interleave(torch.tensor(pair_counts)).to(owners.device)
        if repeated:
            columns = columns[owners]
        same = torch.arange(len(images), device=images.device)
        if image_ids is not None:
            same = _gathered(_digests(image_ids).to(images.device), image_counts)
        of_pair = same[owners]
    rank = distributed.get_rank()
    offset = sum(pair_counts[:rank])
    rows = slice(offset, offset + pair_counts[rank])
    if repeated or image_ids is not None:
        positives = of_pair[rows, None] == of_pair
    return JointScores(_exchanged(columns, pair_counts), positives, columns.T, offset)


def joint_loss(criterion: Any, joint: JointScores, *further: Any) -> dict[str, Tensor]:
    """Compute ``loss`` and the statistics of the loss module, which are means over processes.

    Args:
        criterion: A :class:`projects.rvse.losses.MatchingLoss`.
        joint: Scores of :func:`joint_scores`, or of a single process.
        further: Further arguments of the loss.
    """
    loss = criterion(joint.S, joint.positives, *further, **joint.arguments())
    if joint.captions is None:
        return {'loss': loss, **criterion.statistics}
    processes = num_processes()
    share = processes * joint.S.shape[0] / joint.S.shape[1]
    statistics = {key: share * value for key, value in criterion.statistics.items()}
    loss = loss * criterion.joint_factor(joint.S, processes)
    return mean_over_processes({'loss': loss, **statistics})


def differentiable_mean(tensors: list[Tensor]) -> list[Tensor]:
    """Average tensors over all processes in one exchange that passes gradients."""
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    mean = collectives.all_reduce(flat) / distributed.get_world_size()
    parts = mean.split([tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


def mean_over_processes(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Replace values by their mean over all processes; their gradients stay as they are."""
    dtype = max((value.dtype for value in losses.values()), key=lambda d: d.itemsize)
    values = torch.stack([value.detach().to(dtype) for value in losses.values()])
    distributed.all_reduce(values)
    means = (values / distributed.get_world_size()).unbind()
    return {
        key: value + (mean.to(value.dtype) - value.detach()) if value.requires_grad else mean
        for (key, value), mean in zip(losses.items(), means, strict=True)
    }


def gathered_rows(values: Tensor) -> Tensor:
    """Concatenate rows (b, ...) of all processes, which may have different numbers of them."""
    counts = torch.zeros(distributed.get_world_size(), dtype=torch.int64, device=values.device)
    counts[distributed.get_rank()] = len(values)
    distributed.all_reduce(counts)
    return _gathered(values, counts.tolist())


def _sizes(images: Tensor, owner: Tensor) -> Tensor:
    """Return the numbers of images, of pairs and of regions (world, 3) of all processes."""
    sizes = torch.zeros(distributed.get_world_size(), 3, dtype=torch.int64, device=images.device)
    own = (len(images), len(owner), images.shape[1])
    sizes[distributed.get_rank()] = torch.tensor(own, device=images.device)
    distributed.all_reduce(sizes)
    return sizes


def _padded(values: Tensor, dim: int, size: int) -> Tensor:
    shape = list(values.shape)
    shape[dim] = size - shape[dim]
    return torch.cat([values, values.new_zeros(shape)], dim) if shape[dim] else values


def _gathered(values: Tensor, counts: list[int]) -> Tensor:
    """Concatenate the rows of all processes; gradients of floating-point values pass."""
    values = _padded(values, 0, max(counts)).contiguous()
    if values.requires_grad:
        parts = collectives.all_gather(values)
    else:
        parts = [torch.empty_like(values) for _ in counts]
        distributed.all_gather(parts, values)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def _exchanged(columns: Tensor, counts: list[int]) -> Tensor:
    """Return the rows (b, B) of a matrix of which every process holds columns (B, b)."""
    own = columns.shape[1]
    sizes = [count * own for count in counts]
    sent = columns.contiguous().view(-1)
    received = collectives.all_to_all_single(torch.empty_like(sent), sent, sizes, sizes)
    # a block of another process holds the rows of this one's images
    blocks = received.split(sizes)
    return torch.cat([block.view(own, count) for block, count in zip(blocks, counts)], dim=1)


def _digests(ids: Sequence[Any]) -> Tensor:
    """Return a number (i,) int64 for each identity, the same in all processes."""
    digests = [hashlib.blake2b(repr(one).encode(), digest_size=8).digest() for one in ids]
    return torch.tensor([int.from_bytes(one, 'big', signed=True) for one in digests])
