"""Metrics of sentences that name no object, one or several (GRES and GREC)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from mmdet.structures.bbox import bbox_overlaps
from mmengine.registry import METRICS

from projects.common.errors import InputError

from .grounding_metric import GroundingMetric, mask_areas, to_array

__all__ = ['GeneralizedGroundingMetric', 'count_matches']


def count_matches(overlaps: np.ndarray, least: float = 0.5) -> int:
    """Count the pairs when each box is matched with at most one of the other side.

    As GREC defines it, the pair with the largest overlap is matched first, then the largest among
    the boxes that are left, down to ``least``.

    Args:
        overlaps: (n, m), overlap of each predicted box with each true one.
        least: Least overlap of a pair.
    """
    overlaps = np.array(overlaps, dtype=np.float64)
    matches = 0
    while overlaps.size and overlaps.max() >= least:
        i, j = np.unravel_index(overlaps.argmax(), overlaps.shape)
        overlaps = np.delete(np.delete(overlaps, i, axis=0), j, axis=1)
        matches += 1
    return matches


@METRICS.register_module()
class GeneralizedGroundingMetric(GroundingMetric):
    """Compute the metrics of GRES (masks) and GREC (boxes), all in percent.

    A *no-target* sentence is one to which nothing in the image fits.

    GRES (Liu et al., CVPR 2023, arXiv 2306.00968). The mask of a sentence is that of all its
    objects together, and a mask without pixels says that nothing fits:

    - ``gres_giou``: mean over the sentences of the mask IoU. For a no-target sentence, it is 1 if
      the predicted mask is empty and 0 otherwise.
    - ``gres_ciou``: sum of all intersections over sum of all unions. A no-target sentence adds
      nothing to the intersections, and the predicted pixels to the unions.
    - ``gres_n_acc``: share of the no-target sentences with an empty prediction, TP / (TP + FN).
    - ``gres_t_acc``: share of the other sentences with a prediction that is not empty,
      TN / (TN + FP).
    - ``gres_p70``, ``gres_p80``, ``gres_p90``: share of the sentences with a target whose mask IoU
      reaches 0.7 to 0.9.

    GREC (He et al., 2023, arXiv 2308.16182). Predicted and true boxes are matched one to one
    (:func:`count_matches`), and F1 = 2 TP / (2 TP + FP + FN):

    - ``grec_pr50``: Pr@(F1=1, IoU >= 0.5), share of the sentences with F1 = 1: every object is
      found and nothing else. A no-target sentence has F1 = 1 if no box is predicted, else 0.
    - ``grec_n_acc`` and ``grec_t_acc``: as above, where no box says that nothing fits.

    Keys without samples are left out: ``*_n_acc`` if every sentence has a target, for example.

    The released code of ReLA computes T-acc as TP / (TP + FP + 1) and N-acc with the same 1, and
    does not empty the mask of a sentence to which it says that nothing fits. That of GREC compares
    GIoU with the threshold (``overlap='giou'``).

    Masks are those in ``pred_union_mask`` (1, H, W), or else all of ``pred_instances.masks``
    together, so models with a mask for each object can be compared as well.

    Args:
        score_thr: Least score of the boxes and masks of ``pred_instances`` that count. Models of
            this project have a threshold of their own (:class:`GeneralizedHead`).
        overlap: 'iou' as published, or 'giou' as released, for matching boxes.
        min_pixels: Predicted masks with fewer pixels count as empty, for models that cannot say
            that nothing fits.
        kwargs: Arguments of :class:`GroundingMetric`, except ``protocol``.

    Raises:
        ValueError: If a sample lacks predictions or ground truth, or an argument is unknown.

    Example config::

        val_evaluator = dict(type='GeneralizedGroundingMetric', group_by='kind')

    Example:
        >>> import torch
        >>> from mmdet.structures import DetDataSample
        >>> from mmengine.structures import InstanceData
        >>> sample = DetDataSample(metainfo=dict(img_id=0, text='two cats', ori_shape=(4, 4)))
        >>> boxes = torch.tensor([[0., 0., 2., 4.], [2., 0., 4., 4.]])
        >>> sample.gt_instances = InstanceData(bboxes=boxes)
        >>> sample.pred_instances = InstanceData(bboxes=boxes.flip(0), scores=torch.ones(2))
        >>> metric = GeneralizedGroundingMetric()
        >>> metric.process({}, [sample.to_dict()])
        >>> metric.evaluate(size=1)
        {'grounding/grec_pr50': 100.0, 'grounding/grec_t_acc': 100.0}
    """

    MASK_THRESHOLDS = (70, 80, 90)
    GROUP_KEYS = ('grec_pr50', 'gres_giou')
    TABLE_KEYS = ('grec_pr50', 'grec_n_acc', 'gres_giou', 'gres_ciou', 'gres_n_acc')

    def __init__(
        self, score_thr: float = 0.0, overlap: str = 'iou', min_pixels: int = 1, **kwargs
    ) -> None:
        if overlap not in ('iou', 'giou'):
            raise InputError(
                f"{type(self).__name__}: overlap={overlap!r}: expected 'iou' or 'giou'"
            )
        if 'protocol' in kwargs:
            raise InputError(f'{type(self).__name__}: protocol is an argument of GroundingMetric')
        super().__init__(**kwargs)
        self.score_thr = score_thr
        self.overlap = overlap
        self.min_pixels = min_pixels

    def _measure(self, sample: dict) -> dict:
        result, where = self._identify(sample)
        pred, truth = sample['pred_instances'], sample['gt_instances']
        if 'bboxes' not in pred and 'masks' not in pred and 'pred_union_mask' not in sample:
            raise InputError(f'{where}: pred_instances has no bboxes, and there is no mask')
        kept: slice | np.ndarray = slice(None)
        if 'scores' in pred:
            kept = to_array(pred['scores']) >= self.score_thr
        true_boxes = to_array(truth['bboxes']).reshape(-1, 4)
        result.update(targets=len(true_boxes), boxes=None, masks=None)
        if 'bboxes' in pred:
            boxes = to_array(pred['bboxes']).reshape(-1, 4)[kept]
            pair = (torch.as_tensor(each.astype(np.float64)) for each in (boxes, true_boxes))
            overlaps = bbox_overlaps(*pair, mode=self.overlap).numpy()
            result['boxes'] = (count_matches(overlaps), len(boxes))
        if result['with_mask'] and ('masks' in pred or 'pred_union_mask' in sample):
            result['masks'] = self._areas(sample, kept, where)
        return result

    def _areas(self, sample: dict, kept: slice | np.ndarray, where: str) -> tuple[int, int, int]:
        """Return the pixels of the intersection, of the union and of the predicted mask."""
        true_masks = to_array(sample['gt_instances']['masks'])
        if 'pred_union_mask' in sample:
            masks = to_array(sample['pred_union_mask'])
        else:
            masks = to_array(sample['pred_instances']['masks'])[kept]
        if masks.shape[-2:] != true_masks.shape[-2:]:
            raise InputError(
                f'{where}: predicted mask of shape {masks.shape[-2:]}, ground truth '
                f'{true_masks.shape[-2:]} (both are expected in pixels of the original image)'
            )
        pred, truth = (np.asarray(each.astype(bool).any(axis=0)) for each in (masks, true_masks))
        if np.count_nonzero(pred) < self.min_pixels:
            pred = np.zeros_like(pred)
        return (*mask_areas(pred, truth), int(np.count_nonzero(pred)))

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Compute the metrics over all samples.

        Args:
            results: The results stored by :meth:`process` in all processes.
        """
        for result in results:  # by which the base class tells whether there are masks
            result['mask_areas'] = result['masks']
        return super().compute_metrics(results)

    def _summarise(self, results: list[dict]) -> dict[str, float]:
        metrics: dict[str, float] = {}
        boxes = [(r['targets'], *r['boxes']) for r in results if r['boxes'] is not None]
        if boxes:
            f1 = [_f1(*each) for each in boxes]
            metrics['grec_pr50'] = _percent([value == 1 for value in f1])
            metrics.update(
                _accuracies('grec', [(targets > 0, count > 0) for targets, _, count in boxes])
            )
        masks = [(r['targets'], *r['masks']) for r in results if r['masks'] is not None]
        if masks:
            ious = [_iou(*each) for each in masks]
            total = sum(union for _, _, union, _ in masks)
            inter = sum(inter for _, inter, _, _ in masks)
            metrics['gres_giou'] = _percent(ious)
            metrics['gres_ciou'] = 100 * inter / total if total else 100.0
            metrics.update(
                _accuracies('gres', [(targets > 0, pixels > 0) for targets, *_, pixels in masks])
            )
            found = [iou for iou, (targets, *_) in zip(ious, masks) if targets]
            for threshold in self.MASK_THRESHOLDS if found else ():
                metrics[f'gres_p{threshold}'] = _percent([v >= threshold / 100 for v in found])
        return metrics


def _f1(targets: int, matches: int, count: int) -> float:
    """Compute F1 of ``matches`` pairs of ``count`` predicted boxes and ``targets`` true ones."""
    if not targets:
        return float(count == 0)
    return 2 * matches / (count + targets)  # 2 TP + FP + FN = boxes of both sides


def _iou(targets: int, inter: int, union: int, pixels: int) -> float:
    if not targets:
        return float(pixels == 0)
    return inter / union if union else 0.0


def _accuracies(prefix: str, pairs: Sequence[tuple[bool, bool]]) -> dict[str, float]:
    """Compute N-acc and T-acc of pairs (has a target, something is predicted)."""
    metrics = {}
    for name, is_target in (('n_acc', False), ('t_acc', True)):
        right = [predicted == is_target for target, predicted in pairs if target == is_target]
        if right:
            metrics[f'{prefix}_{name}'] = _percent(right)
    return metrics


def _percent(values: Sequence[float]) -> float:
    # fsum is exact, so the result does not depend on the order of the processes.
    return 100 * math.fsum(values) / len(values)
