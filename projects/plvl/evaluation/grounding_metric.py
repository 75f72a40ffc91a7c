"""Box accuracy (REC) and mask IoU (RES) for one object per sentence."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmdet.structures.bbox import bbox_overlaps
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmengine.registry import METRICS
from terminaltables import AsciiTable

from projects.common.errors import InputError

__all__ = ['GroundingMetric', 'box_iou', 'mask_areas']

_IDENTITY_KEYS = ('img_path', 'img_id', 'ref_id', 'sent_id', 'ann_id', 'text', 'subset')


def box_iou(box_a: Sequence[float], box_b: Sequence[float]) -> float:
    """Compute the IoU of two boxes [x1, y1, x2, y2]; it is 0 if neither has an area."""
    pair = (torch.as_tensor(np.asarray(box, np.float64))[None] for box in (box_a, box_b))
    return bbox_overlaps(*pair).item()


def mask_areas(mask_a: np.ndarray, mask_b: np.ndarray) -> tuple[int, int]:
    """Count the pixels in the intersection and in the union of two masks of shape (H, W)."""
    mask_a, mask_b = mask_a.astype(bool, copy=False), mask_b.astype(bool, copy=False)
    inter = int(np.count_nonzero(mask_a & mask_b))
    return inter, int(np.count_nonzero(mask_a)) + int(np.count_nonzero(mask_b)) - inter


def to_array(value: Any) -> np.ndarray:
    """Convert a tensor, ``HorizontalBoxes``, ``BitmapMasks`` or array to an array."""
    value = getattr(value, 'masks', value)  # BitmapMasks
    value = getattr(value, 'tensor', value)  # HorizontalBoxes
    return value.detach().cpu().numpy() if hasattr(value, 'detach') else np.asarray(value)


@METRICS.register_module()
class GroundingMetric(BaseMetric):
    """Compute REC accuracy and RES overlap, all in percent.

    - ``rec_acc50`` ... ``rec_acc90``: fraction of samples whose box has an IoU of at least 0.5 to
      0.9 with the ground truth; ``rec_miou``: mean box IoU.
    - ``res_miou``: mean over samples of the mask IoU; ``res_oiou``: sum of all intersections
      over sum of all unions; ``res_p50`` ... ``res_p90``: fraction of samples with a mask IoU of
      at least 0.5 to 0.9.

    If the ground truth and the prediction are both empty, the prediction is correct and the mask
    IoU is 1. Samples whose data has no mask (``with_mask`` is False) are excluded from RES, and
    their number is logged. Models without boxes (or without masks) only get the other half of the
    keys; that masks are not predicted is logged. Of several predicted boxes, the one with the
    highest score counts.

    If samples carry the metainfo ``subset`` (see :class:`GroundingDataset`), for example when
    several splits are tested in one run, all keys are also reported per subset, such as
    ``<subset>/rec_acc50``, and a table with the number of sentences is logged. The keys without a
    subset cover all sentences, and each sentence counts once for each of its subsets.

    Samples that a distributed sampler repeats to fill the last batch count once. They are
    recognized by their ids and sentence.

    Args:
        protocol: 'original' compares predicted boxes and masks with the ground truth at the
            original resolution of the image. 'released' follows the released PLVL code: boxes are
            clamped to the image, and masks are compared in the square frame of the network, with
            the probabilities (``pred_mask_probs``) thresholded at 0.5 and the ground truth
            resized to that frame (nearest).
        group_by: Metainfo key (such as 'kind'). The results are also reported for each of its
            values, as ``rec_acc50/<value>`` and ``res_miou/<value>``.
        collect_device: 'cpu' or 'gpu'.
        prefix: Prefix of the keys.
        collect_dir: Directory shared by all processes, used to exchange results.

    Raises:
        ValueError: If a sample lacks predictions, ground truth or a field that ``protocol`` or
            ``group_by`` needs.

    Example config::

        val_evaluator = dict(type='GroundingMetric', group_by='kind')

    Two splits in one run, and the resulting keys::

        val_dataloader = dict(dataset=dict(type='MixedGroundingDataset', datasets=[
            dict(split='val', subset='refcoco_val', ...),
            dict(split='testA', subset='refcoco_testA', ...)]), ...)
        # grounding/rec_acc50, ..., grounding/refcoco_val/rec_acc50, ...

    Example:
        >>> import torch
        >>> from mmdet.structures import DetDataSample
        >>> from mmengine.structures import InstanceData
        >>> sample = DetDataSample(metainfo=dict(img_id=0, text='left cat', ori_shape=(4, 4)))
        >>> box = torch.tensor([[0., 0., 4., 2.]])
        >>> sample.gt_instances = InstanceData(bboxes=box)
        >>> sample.pred_instances = InstanceData(bboxes=box / 2, scores=torch.ones(1))
        >>> metric = GroundingMetric()
        >>> metric.process({}, [sample.to_dict()])
        >>> metric.evaluate(size=1)['grounding/rec_miou']
        25.0
    """

    default_prefix = 'grounding'
    THRESHOLDS = (50, 60, 70, 80, 90)
    GROUP_KEYS: tuple[str, ...] = ('rec_acc50', 'res_miou')
    """Metrics that are reported for each value of ``group_by``."""
    TABLE_KEYS: tuple[str, ...] = ('rec_acc50', 'rec_miou', 'res_miou', 'res_oiou')
    """Metrics in the table of the subsets."""

    def __init__(
        self,
        protocol: str = 'original',
        group_by: str | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        if protocol not in ('original', 'released'):
            raise InputError(
                f"GroundingMetric: protocol={protocol!r}: expected 'original' or 'released'"
            )
        super().__init__(collect_device=collect_device, prefix=prefix, collect_dir=collect_dir)
        self.protocol = protocol
        self.group_by = group_by

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Store the overlaps of one batch.

        Args:
            data_batch: Not used.
            data_samples: ``DetDataSample.to_dict()`` of each sample, with ``gt_instances`` and
                ``pred_instances``.
        """
        for sample in data_samples:
            self.results.append(self._measure(sample))

    def _measure(self, sample: dict) -> dict:
        result, where = self._identify(sample)
        pred = sample['pred_instances']
        if 'bboxes' not in pred and 'masks' not in pred and 'pred_mask_probs' not in sample:
            raise InputError(f'{where}: pred_instances has neither bboxes nor masks')
        result.update(box_iou=None, mask_areas=None)
        best = 0
        if len(pred.get('scores', ())) > 1:
            best = int(to_array(pred['scores']).argmax())
        if 'bboxes' in pred:
            result['box_iou'] = self._box_iou(sample, best, where)
        if result['with_mask'] and ('masks' in pred or 'pred_mask_probs' in sample):
            result['mask_areas'] = self._mask_areas(sample, best, where)
        return result

    def _identify(self, sample: dict) -> tuple[dict, str]:
        """Return the ids and groups of a checked sample, and its name for error messages."""
        where = f'{type(self).__name__}: {sample.get("img_path")}, {sample.get("text")!r}'
        for field in ('pred_instances', 'gt_instances'):
            if sample.get(field) is None:
                raise InputError(f'{where}: no {field} in the data sample')
        if self.group_by is not None and self.group_by not in sample:
            raise InputError(
                f'{where}: group_by={self.group_by!r} is no metainfo key; add it to meta_keys of '
                'PackDetInputs'
            )
        result = dict(
            identity=tuple(sample.get(key) for key in _IDENTITY_KEYS),
            group=sample.get(self.group_by) if self.group_by else None,
            subset=sample.get('subset'),
            with_mask=bool(sample.get('with_mask', 'masks' in sample['gt_instances'])),
        )
        return result, where

    def _box_iou(self, sample: dict, best: int, where: str) -> float:
        truth = to_array(sample['gt_instances']['bboxes'])
        pred = to_array(sample['pred_instances']['bboxes'])
        if len(truth) != 1:
            raise InputError(f'{where}: {len(truth)} ground-truth boxes, expected one')
        if len(pred) == 0:
            return 0.0
        box = pred[best].astype(np.float64)
        if self.protocol == 'released':
            height, width = sample['ori_shape'][:2]
            box = np.clip(box, 0, [width, height, width, height])
        return box_iou(box, truth[0])

    def _mask_areas(self, sample: dict, best: int, where: str) -> tuple[int, int]:
        truth = to_array(sample['gt_instances']['masks'])
        if len(truth) != 1:
            raise InputError(f'{where}: {len(truth)} ground-truth masks, expected one')
        truth = truth[0]
        if self.protocol == 'released':
            if 'pred_mask_probs' not in sample:
                raise InputError(f"{where}: protocol='released' needs pred_mask_probs")
            pred = to_array(sample['pred_mask_probs']) >= 0.5
            size = (pred.shape[1], pred.shape[0])
            truth = cv2.resize(truth.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        else:
            masks = to_array(sample['pred_instances'].get('masks', ()))
            if 'masks' not in sample['pred_instances']:
                raise InputError(f"{where}: protocol='original' needs pred_instances.masks")
            pred = masks[best] if len(masks) else np.zeros_like(truth)
        if pred.shape != truth.shape:
            raise InputError(
                f'{where}: predicted mask of shape {pred.shape}, ground truth {truth.shape} '
                '(both are expected in pixels of the original image)'
            )
        return mask_areas(pred, truth)

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Compute the metrics over all samples.

        Args:
            results: The results stored by :meth:`process` in all processes.
        """
        # Drop repeated samples. Samples without ids cannot be told apart, so all of them count.
        unique: dict[Any, dict] = {}
        for index, result in enumerate(results):
            has_ids = any(value is not None for value in result['identity'][2:5])
            unique.setdefault(result['identity'] if has_ids else index, result)
        results = list(unique.values())

        no_mask = sum(not result['with_mask'] for result in results)
        has_masks = any(result['mask_areas'] is not None for result in results)
        if no_mask and has_masks:
            print_log(
                f'{type(self).__name__}: {no_mask} of {len(results)} samples have no mask in the '
                'data and are left out of the metrics of masks',
                'current',
                logging.WARNING,
            )
        elif results and no_mask < len(results):
            print_log('GroundingMetric: the model predicts no masks: res_* is left out', 'current')
        metrics = self._metrics(results)
        subsets: dict[str, list[dict]] = {}  # in dataset order
        for result in results:
            if result['subset'] is not None:
                subsets.setdefault(result['subset'], []).append(result)
        if subsets:
            parts = {name: self._metrics(part) for name, part in subsets.items()}
            counts = {name: len(part) for name, part in subsets.items()}
            print_log(_table(type(self).__name__, self.TABLE_KEYS, parts, counts), 'current')
            for name, part in parts.items():
                metrics.update({f'{name}/{key}': value for key, value in part.items()})
        return metrics

    def _metrics(self, results: list[dict]) -> dict[str, float]:
        """Compute the metrics of the given samples and of their groups."""
        metrics = self._summarise(results)
        if self.group_by is not None:
            groups = sorted({r['group'] for r in results if r['group'] is not None}, key=str)
            for group in groups:
                part = self._summarise([r for r in results if r['group'] == group])
                for key in self.GROUP_KEYS:
                    if key in part:
                        metrics[f'{key}/{group}'] = part[key]
        return metrics

    def _summarise(self, results: list[dict]) -> dict[str, float]:
        def mean(values: Sequence[float]) -> float:
            # fsum is exact, so the result does not depend on the order of the processes.
            return 100 * math.fsum(values) / len(values)

        metrics: dict[str, float] = {}
        ious = [r['box_iou'] for r in results if r['box_iou'] is not None]
        if ious:
            for threshold in self.THRESHOLDS:
                metrics[f'rec_acc{threshold}'] = mean([iou >= threshold / 100 for iou in ious])
            metrics['rec_miou'] = mean(ious)
        areas = [r['mask_areas'] for r in results if r['mask_areas'] is not None]
        if areas:
            ious = [inter / union if union else 1.0 for inter, union in areas]
            metrics['res_miou'] = mean(ious)
            total = sum(union for _, union in areas)
            metrics['res_oiou'] = 100 * sum(i for i, _ in areas) / total if total else 100.0
            for threshold in self.THRESHOLDS:
                metrics[f'res_p{threshold}'] = mean([iou >= threshold / 100 for iou in ious])
        return metrics


def _table(
    title: str,
    shown: Sequence[str],
    parts: dict[str, dict[str, float]],
    counts: dict[str, int],
) -> str:
    """Format the main metrics and the number of sentences of each subset as a table."""
    keys = [key for key in shown if any(key in part for part in parts.values())]
    rows = [['subset', 'sentences', *keys]]
    for name, part in parts.items():
        values = [f'{part[key]:.2f}' if key in part else '-' for key in keys]
        rows.append([name, f'{counts[name]:,}', *values])
    table = AsciiTable(rows)
    table.justify_columns = dict.fromkeys(range(1, len(rows[0])), 'right')
    return f'{title}: {len(parts)} subsets\n{table.table}'
