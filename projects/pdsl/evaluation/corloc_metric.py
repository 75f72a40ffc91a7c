"""CorLoc: how often a detector localises the objects in its training images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmdet.evaluation.functional import bbox_overlaps
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from projects.common.errors import InputError

__all__ = ['CorLocMetric']


@METRICS.register_module()
class CorLocMetric(BaseMetric):
    """Compute correct localisation (Deselaers et al. 2012; paper, section 4.2), in percent.

    For each class, consider the images that contain at least one non-difficult object of the class.
    The score is the share of these images in which the best detection of the class overlaps an
    object of the class, including difficult ones, by more than ``iou_thr``. ``corloc`` is the mean
    over classes; with ``classwise``, the scores of all classes are added as ``corloc/<class>``.
    Classes without an image are left out.

    The metric is evaluated on the training images. The ground truth is the metainfo ``instances``
    of the data samples, as provided by mmdet's datasets: ``bbox`` XYXY in pixels of the original
    image, ``bbox_label`` and ``ignore_flag``.

    Args:
        iou_thr: IoU that a correct box must exceed.
        classwise: Whether to report every class as well.
        collect_device: 'cpu' or 'gpu'.
        prefix: Prefix of the keys.

    Raises:
        ValueError: A data sample has no ``instances``, or no sample has an object.

    Example:
        >>> import torch
        >>> metric = CorLocMetric()
        >>> metric.dataset_meta = dict(classes=('cat', 'dog'))
        >>> box = torch.tensor([[0., 0., 4., 4.]])
        >>> pred = dict(bboxes=box, scores=torch.ones(1), labels=torch.tensor([1]))
        >>> gt = [dict(bbox=[0, 0, 4, 3], bbox_label=1, ignore_flag=0)]
        >>> metric.process({}, [dict(pred_instances=pred, instances=gt)])
        >>> metric.evaluate(size=1)
        {'weak/corloc': 100.0}
    """

    default_prefix = 'weak'

    def __init__(
        self,
        iou_thr: float = 0.5,
        classwise: bool = False,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.iou_thr = iou_thr
        self.classwise = classwise

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Record, for each class in an image, whether its best box overlaps an object.

        Raises:
            ValueError: A sample has no ``instances``.
        """
        for sample in data_samples:
            if 'instances' not in sample:
                raise InputError(
                    f"CorLocMetric: {sample.get('img_path', 'a data sample')} has no 'instances'; "
                    "add it to PackDetInputs' meta_keys, with a data set that knows boxes"
                )
            pred = sample['pred_instances']
            boxes, scores, labels = (
                np.asarray(pred[key].cpu()) for key in ('bboxes', 'scores', 'labels')
            )
            found = {}
            there = {ann['bbox_label'] for ann in sample['instances'] if not ann['ignore_flag']}
            for label in sorted(there):
                rows = np.flatnonzero(labels == label)
                objects = np.array(
                    [ann['bbox'] for ann in sample['instances'] if ann['bbox_label'] == label],
                    dtype=np.float32,
                )
                best = boxes[rows[scores[rows].argmax()]][None] if len(rows) else None
                found[label] = best is not None and bool(
                    bbox_overlaps(best, objects).max() > self.iou_thr
                )
            self.results.append(found)

    def compute_metrics(self, results: list[dict[int, bool]]) -> dict[str, float]:
        """Return ``corloc``, the mean over classes in percent, and each class's if ``classwise``.

        Raises:
            ValueError: No image has an object.
        """
        metrics = {}
        for label, name in enumerate(self.dataset_meta['classes']):
            hits = [found[label] for found in results if label in found]
            if hits:
                metrics[f'corloc/{name}'] = 100 * float(np.mean(hits))
        if not metrics:
            raise InputError('CorLocMetric: no image has an object of the classes')
        mean = float(np.mean(list(metrics.values())))
        return dict(corloc=mean, **(metrics if self.classwise else {}))
