"""M-hat^0, what M^0 learns: seeds among the proposals, and their masks cropped to all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from mmdet.structures.bbox import bbox_overlaps
from torch import Tensor

from ..cues.roi_targets import crop_masks
from .pseudo_labels import PseudoLabels, nearest_columns

#: Masks (s, H, W) for the s seeds of an image, given its index in the batch, the seeds' boxes
#: (s, 4) and their classes (s,). With a method ``crops(index, seeds, size)`` it makes targets
#: (m, size, size) itself, in another thread.
PseudoMasks = Callable[[int, Tensor, Tensor], Tensor]


@dataclass
class Seeds:
    """Hold the seeds of an image and the proposals that take their masks, in the host's memory.

    Attributes:
        boxes: (s, 4), of the seeds, XYXY in pixels.
        labels: (s,), their classes.
        rois: (m, 4), the foreground proposals.
        nearest: (m,), index of the seed whose mask each of them takes.
    """

    boxes: Tensor
    labels: Tensor
    rois: Tensor
    nearest: Tensor


def select_seeds(labels: Sequence[PseudoLabels], num_seeds: int) -> list[Seeds]:
    """Sample the seeds of each image (see :func:`.sample_seeds`) in one copy from the device."""
    parts, shapes = [], []
    for each in labels:
        overlaps = each.assignment.ious[:, each.foreground]
        rois, classes = each.foreground_proposals, each.foreground_labels
        shapes.append((len(rois), len(overlaps)))
        parts += [rois.flatten(), classes.to(rois.dtype), overlaps.to(rois.dtype).flatten()]
    packed = torch.cat(parts).cpu()
    sizes = [size for m, k in shapes for size in (4 * m, m, k * m)]
    unpacked = iter(packed.split(sizes))
    found = []
    for m, k in shapes:
        rois, classes, overlaps = (next(unpacked) for _ in range(3))
        rois = rois.view(m, 4)
        # a proposal that two pseudo ground truths chose needs one mask
        rows = nearest_columns(overlaps.view(k, m), num_seeds).unique()
        nearest = rows.new_zeros(0)
        if len(rows):
            nearest = bbox_overlaps(rois[rows], rois).argmax(0)
        found.append(Seeds(rois[rows], classes[rows].long(), rois, nearest))
    return found


def start_targets(
    seeds: Sequence[Seeds], pseudo_masks: PseudoMasks, size: int
) -> Callable[[], list[Tensor]]:
    """Start to make the targets (m, size, size) of each image, and return how to wait for them."""
    crops = getattr(pseudo_masks, 'crops', None)
    if crops is not None:
        background = ThreadPoolExecutor(1)
        jobs = [background.submit(crops, i, each, size) for i, each in enumerate(seeds)]
        background.shutdown(wait=False)  # the thread ends after the last job
        return lambda: [job.result() for job in jobs]
    # masks from gradients are made by the model itself, in its own thread
    return lambda: [_cropped(i, each, pseudo_masks, size) for i, each in enumerate(seeds)]


def _cropped(index: int, seeds: Seeds, pseudo_masks: PseudoMasks, size: int) -> Tensor:
    if not len(seeds.rois):
        return seeds.rois.new_zeros(0, size, size)
    masks = pseudo_masks(index, seeds.boxes, seeds.labels)
    return crop_masks(masks, seeds.nearest, seeds.rois, size)
