"""What supervises the heads: mining of pseudo ground truth, its assignment to proposals, seeds.

A miner turns the predictions of one head into pseudo ground truth, and an assigner gives each
proposal a class by it. Both are callables in the registry TASK_UTILS; docs/extending.md shows how
to write another one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmengine.registry import TASK_UTILS
from torch import Tensor
from torchvision.ops import nms

from projects.common.errors import InputError

from ..geometry import box_overlaps


@dataclass
class ImagePredictions:
    """Hold the predictions of one head for the n proposals of an image, without gradient.

    Attributes:
        proposals: (n, 4), XYXY in pixels of the input.
        tags: (k,), classes that are in the image.
        image_scores: (n_c,), y of Eq. 2.
        scores: (n, n_c) of the two streams, or (n, n_c + 1) of a refinement head, whose last class
            is the background.
        boxes: (n, n_c, 4), XYXY in pixels, or (n, 4) where all classes share them.
    """

    proposals: Tensor
    tags: Tensor
    image_scores: Tensor
    scores: Tensor
    boxes: Tensor


@dataclass
class PseudoGroundTruth:
    """Hold the k boxes that stand in for the annotated boxes of an image.

    Attributes:
        boxes: (k, 4), XYXY in pixels; not clipped.
        labels: (k,), classes.
        scores: (k,), scores of the proposals that the boxes come from.
        weights: (k,), image-level scores y of the classes.
        source: (k,), indices of the proposals that the boxes come from.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    weights: Tensor
    source: Tensor


class Assignment:
    """Hold the pseudo ground truth that each of the n proposals of an image learns from.

    Args:
        labels: (n,), class, or the number of classes for background.
        weights: (n,), y of the nearest pseudo ground truth, for background as well; 0 if there is
            none.
        matched: (n,), index of the nearest pseudo ground truth; 0 if there is none.
        ious: (k, n), overlaps.
        foreground: (m,), indices of the proposals that are not background. Without it, they are
            found when they are first asked for, or by :func:`find_foreground`.
        background: The label of background, which is not read if ``foreground`` is given.
    """

    def __init__(
        self,
        labels: Tensor,
        weights: Tensor,
        matched: Tensor,
        ious: Tensor,
        foreground: Tensor | None = None,
        background: int = -1,
    ) -> None:
        self.labels = labels
        self.weights = weights
        self.matched = matched
        self.ious = ious
        self.background = background
        self._foreground = foreground

    @property
    def foreground(self) -> Tensor:
        """Return the indices (m,) of the proposals that are not background."""
        if self._foreground is None:
            self._foreground = torch.ne(self.labels, self.background).nonzero()[:, 0]
        return self._foreground


@torch.compiler.disable
def find_foreground(assignments: Sequence[Assignment], *facts: Tensor) -> list[int]:
    """Find the foreground of many assignments at once, so that the host waits for a GPU only once.

    Args:
        assignments: Assignments on one device.
        facts: Numbers or truth values on the same device.

    Returns:
        The facts as numbers.
    """
    unknown = [each for each in assignments if each._foreground is None]
    masks = [torch.ne(each.labels, each.background) for each in unknown]
    numbers = [*(mask.sum() for mask in masks), *facts]
    if not numbers:
        return []
    counts = torch.stack([each.long() for each in numbers]).tolist()
    for each, mask, count in zip(unknown, masks, counts):
        # a stable sort puts the foreground first and keeps its order; nonzero would wait again
        each._foreground = mask.byte().argsort(descending=True, stable=True)[:count]
    return counts[len(unknown) :]


@dataclass
class PseudoLabels:
    """Hold the labels that one head gives to an image, and that the next one learns from.

    Attributes:
        predictions: The predictions of the head that gives the labels.
        truth: The pseudo ground truth mined from them.
        assignment: The assignment of this pseudo ground truth to the proposals.
    """

    predictions: ImagePredictions
    truth: PseudoGroundTruth
    assignment: Assignment

    @property
    def foreground(self) -> Tensor:
        """Return the indices (m,) of the foreground proposals."""
        return self.assignment.foreground

    @property
    def foreground_proposals(self) -> Tensor:
        """Return the foreground proposals (m, 4)."""
        return self.predictions.proposals[self.foreground]

    @property
    def foreground_labels(self) -> Tensor:
        """Return the classes (m,) of the foreground proposals."""
        return self.assignment.labels[self.foreground]

    @property
    def foreground_weights(self) -> Tensor:
        """Return the weights (m,) of the foreground proposals."""
        return self.assignment.weights[self.foreground]

    @property
    def foreground_scores(self) -> Tensor:
        """Return the score (m,) of each foreground proposal for its class."""
        return self.predictions.scores[self.foreground, self.foreground_labels]

    @property
    def matched_boxes(self) -> Tensor:
        """Return the pseudo ground truth box (m, 4) of each foreground proposal."""
        return self.truth.boxes[self.assignment.matched[self.foreground]]

    @property
    def matched_scores(self) -> Tensor:
        """Return the score (m,) of the pseudo ground truth of each foreground proposal."""
        return self.truth.scores[self.assignment.matched[self.foreground]]


# --------------------------------------------------------------------------------------- mining


def mine_top_boxes(image: ImagePredictions) -> PseudoGroundTruth:
    """Return the box with the highest score for each class that is in the image (section 3.2)."""
    scores = image.scores.detach()[:, image.tags]
    if len(scores):
        best, source = scores.max(0)
    else:  # without proposals there is no pseudo ground truth
        best, source = scores.new_zeros(0), image.tags[:0]
    return select_pseudo_ground_truth(image, image.tags[: len(source)], best, source)


def mine_self_training_boxes(
    image: ImagePredictions, top_ratio: float = 0.15, nms_iou: float = 0.2
) -> PseudoGroundTruth:
    """Return several boxes for each class that is in the image (MIST, Algorithm 1).

    For each class, take the ``top_ratio`` of the proposals with the highest scores, rounded up.
    Then keep, in order of their scores, those that overlap every box kept so far by at most
    ``nms_iou``.

    Args:
        image: The predictions of one head.
        top_ratio: Share of the proposals that are candidates, p in the paper.
        nms_iou: Highest IoU of two boxes of a class, tau in the paper.

    Returns:
        The boxes of the first tag in decreasing order of their scores, then those of the second.
    """
    scores, boxes = image.scores.detach().float(), image.boxes.detach().float()
    count = math.ceil(top_ratio * len(scores))
    labels, best, source = [image.tags[:0]], [scores.new_zeros(0)], [image.tags[:0]]
    for tag in image.tags:
        top, rows = scores[:, tag].sort(descending=True, stable=True)
        top, rows = top[:count], rows[:count]
        candidates = boxes[rows] if boxes.dim() == 2 else boxes[rows, tag]
        kept = nms(candidates, top, nms_iou)
        labels.append(tag.expand(len(kept)))
        best.append(top[kept])
        source.append(rows[kept])
    return select_pseudo_ground_truth(image, torch.cat(labels), torch.cat(best), torch.cat(source))


def select_pseudo_ground_truth(
    image: ImagePredictions, labels: Tensor, scores: Tensor, source: Tensor
) -> PseudoGroundTruth:
    """Make the boxes of some proposals pseudo ground truth.

    Args:
        image: The predictions of one head.
        labels: (k,), classes.
        scores: (k,), scores.
        source: (k,), indices of the proposals.
    """
    boxes = image.boxes.detach()
    picked = boxes[source] if boxes.dim() == 2 else boxes[source, labels]
    return PseudoGroundTruth(picked, labels, scores, image.image_scores.detach()[labels], source)


@TASK_UTILS.register_module()
class TopBoxMiner:
    """Mine the box with the highest score of each class, as OICR and the paper do.

    See :func:`mine_top_boxes`.
    """

    def __call__(self, image: ImagePredictions) -> PseudoGroundTruth:
        """Return the pseudo ground truth of an image, at most one box for each of its tags."""
        return mine_top_boxes(image)


@TASK_UTILS.register_module()
class SelfTrainingMiner:
    """Mine several boxes of each class, for images with several objects of a class.

    This is the Multiple Instance Self-Training of Ren et al., "Instance-aware, Context-focused, and
    Memory-efficient Weakly Supervised Object Detection" (CVPR 2020). It is not part of PDSL. See
    :func:`mine_self_training_boxes`.

    Args:
        top_ratio: Share of the proposals that are candidates, in (0, 1].
        nms_iou: Highest IoU of two boxes of a class, in [0, 1].

    Raises:
        ValueError: ``top_ratio`` or ``nms_iou`` is out of its range.
    """

    def __init__(self, top_ratio: float = 0.15, nms_iou: float = 0.2) -> None:
        if not 0 < top_ratio <= 1 or not 0 <= nms_iou <= 1:
            raise InputError(
                f'SelfTrainingMiner: top_ratio={top_ratio}, nms_iou={nms_iou}, expected a ratio '
                'above 0 and up to 1 and an IoU of 0 to 1'
            )
        self.top_ratio = top_ratio
        self.nms_iou = nms_iou

    def __call__(self, image: ImagePredictions) -> PseudoGroundTruth:
        """Return the pseudo ground truth of an image."""
        return mine_self_training_boxes(image, self.top_ratio, self.nms_iou)


# ----------------------------------------------------------------------------------- assignment


def assign(
    proposals: Tensor, truth: PseudoGroundTruth, num_classes: int, iou_thr: float = 0.5
) -> Assignment:
    """Give each proposal the class of the nearest pseudo ground truth, or make it background.

    Args:
        proposals: (n, 4), XYXY in pixels.
        truth: The pseudo ground truth.
        num_classes: n_c, the label of background.
        iou_thr: Least overlap of a foreground proposal.
    """
    ious = box_overlaps(truth.boxes, proposals)
    labels = torch.full((len(proposals),), num_classes, device=proposals.device)
    matched = torch.zeros_like(labels)
    weights = proposals.new_zeros(len(proposals))
    if ious.numel():
        nearest, matched = ious.max(0)
        labels = torch.where(nearest >= iou_thr, truth.labels[matched], labels)
        weights = truth.weights[matched]
    return Assignment(labels, weights, matched, ious, background=num_classes)


@TASK_UTILS.register_module()
class OverlapAssigner:
    """Assign to each proposal the pseudo ground truth that it overlaps most.

    See :func:`assign`.

    Args:
        iou_thr: Least IoU of a foreground proposal with its pseudo ground truth.
    """

    def __init__(self, iou_thr: float = 0.5) -> None:
        self.iou_thr = iou_thr

    def __call__(self, proposals: Tensor, truth: PseudoGroundTruth, num_classes: int) -> Assignment:
        """Return the assignment of proposals (n, 4), XYXY in pixels."""
        return assign(proposals, truth, num_classes, self.iou_thr)


def sample_seeds(assignment: Assignment, num_seeds: int) -> Tensor:
    """Sample the foreground proposals nearest to each pseudo ground truth (section 3.3).

    Args:
        assignment: The assignment to the pseudo ground truth that the last head gives.
        num_seeds: n_seed, seeds of each pseudo ground truth.

    Returns:
        Indices of proposals (s,). A proposal that several pseudo ground truths choose is repeated.
        The class of a seed is its own, ``assignment.labels``: a class with fewer than ``num_seeds``
        foreground proposals also chooses those of other classes.
    """
    overlaps = assignment.ious[:, assignment.foreground]
    return assignment.foreground[nearest_columns(overlaps, num_seeds)]


def nearest_columns(overlaps: Tensor, num_seeds: int) -> Tensor:
    """Return the columns (s,) with the largest overlaps of each row of (k, m), one row after it."""
    return overlaps.argsort(dim=1, descending=True, stable=True)[:, :num_seeds].flatten()
