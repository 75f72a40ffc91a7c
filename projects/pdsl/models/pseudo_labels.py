"""What supervises the heads: pseudo ground truth, its assignment to proposals, seeds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from mmdet.structures.bbox import bbox_overlaps
from torch import Tensor


@dataclass
class PseudoGroundTruth:
    """One box for each class that an image's tags name.

    Attributes:
        boxes: (k, 4), XYXY in pixels; not clipped.
        labels: (k,), classes.
        scores: (k,), of the proposals that they come from.
        weights: (k,), image-level scores y of the classes.
        source: (k,), the proposals that they come from.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    weights: Tensor
    source: Tensor


@dataclass
class Assignment:
    """What the pseudo ground truth makes of n proposals.

    Attributes:
        labels: (n,), class, or the number of classes for background.
        weights: (n,), y of the nearest pseudo ground truth, of background as well; 0 without any.
        matched: (n,), index of the nearest pseudo ground truth; 0 without any.
        ious: (k, n), overlaps.
        foreground: (m,), indices of the proposals that are not background.
    """

    labels: Tensor
    weights: Tensor
    matched: Tensor
    ious: Tensor
    foreground: Tensor


def mine_pseudo_ground_truth(
    scores: Tensor, boxes: Tensor, tags: Tensor, image_scores: Tensor
) -> PseudoGroundTruth:
    """The best box of each class that is there (section 3.2).

    Args:
        scores: (n, n_c) or, with a background, (n, n_c + 1); of the previous head.
        boxes: (n, n_c, 4), of the previous head, or (n, 4) where all classes share them.
        tags: (k,), classes that are there.
        image_scores: (n_c,), y of Eq. 2.
    """
    scores = scores.detach()[:, tags]
    best, source = scores.max(0) if len(scores) else (scores.new_zeros(0), tags[:0])
    tags = tags[: len(source)]  # no proposals, no pseudo ground truth
    boxes = boxes.detach()
    picked = boxes[source] if boxes.dim() == 2 else boxes[source, tags]
    return PseudoGroundTruth(picked, tags, best, image_scores.detach()[tags], source)


def assign(
    proposals: Tensor, truth: PseudoGroundTruth, num_classes: int, iou_thr: float = 0.5
) -> Assignment:
    """Each proposal takes the class of the nearest pseudo ground truth or becomes background.

    Args:
        proposals: (n, 4), XYXY in pixels.
        truth: The pseudo ground truth.
        num_classes: n_c, the label of background.
        iou_thr: Least overlap of a foreground proposal.
    """
    ious = bbox_overlaps(truth.boxes, proposals)
    labels = torch.full((len(proposals),), num_classes, device=proposals.device)
    matched = torch.zeros_like(labels)
    weights = proposals.new_zeros(len(proposals))
    if ious.numel():
        nearest, matched = ious.max(0)
        labels = torch.where(nearest >= iou_thr, truth.labels[matched], labels)
        weights = truth.weights[matched]
    foreground = (labels < num_classes).nonzero()[:, 0]
    return Assignment(labels, weights, matched, ious, foreground)


def sample_seeds(assignment: Assignment, num_seeds: int) -> Tensor:
    """Sample of each pseudo ground truth the foreground proposals nearest to it (section 3.3).

    Args:
        assignment: Of the proposals to the pseudo ground truth that the last head gives.
        num_seeds: n_seed, seeds of each pseudo ground truth.

    Returns:
        Indices of proposals (s,); one that several pseudo ground truths chose comes several
        times. A seed's class is its own, ``assignment.labels``: where a class has fewer than
        ``num_seeds`` foreground proposals, it also chooses those of other classes.
    """
    overlaps = assignment.ious[:, assignment.foreground]
    order = overlaps.argsort(dim=1, descending=True, stable=True)[:, :num_seeds]
    return assignment.foreground[order.flatten()]
