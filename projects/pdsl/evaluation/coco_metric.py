"""COCO AP at the overlaps that weakly supervised segmentation reports (paper, section 4.2)."""

from __future__ import annotations

import io
import logging
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import redirect_stdout

import numpy as np
from mmdet.evaluation import CocoMetric
from mmengine.fileio import dump, load
from mmengine.logging import print_log
from mmengine.registry import METRICS
from pycocotools import mask as coco_mask

__all__ = ['InstanceCocoMetric']


@METRICS.register_module()
class InstanceCocoMetric(CocoMetric):
    """mmdet's COCO metric with AP at further overlaps.

    Arguments that are not named here are mmdet's, and so are the keys: ``segm_mAP``, the mean
    over overlaps of 0.5 to 0.95, ``segm_mAP_50``, ``segm_mAP_75``, ... To them come
    ``segm_mAP_25`` and ``segm_mAP_70`` (fractions, as mmdet gives them all).

    Without ``ann_file`` the ground truth is that of the data samples (metainfo ``instances``), and
    objects that are ignored there, VOC's difficult ones, are ignored here as COCO's crowds are.
    Small, medium and large (``segm_mAP_s``, ...) are then objects by the pixels of their mask, of
    boxes and masks alike, as in COCO's own files and in the released code; mmdet takes their box.

    Args:
        extra_iou_thrs: The further overlaps.
        use_ignored: Count ignored objects of the data samples like any other: mask AP on VOC
            knows no difficult objects.

    Example config::

        val_evaluator = dict(type='InstanceCocoMetric', metric=['bbox', 'segm'])
    """

    iou_thrs: np.ndarray
    metric_items: list[str] | None

    def __init__(
        self,
        *args,
        extra_iou_thrs: Sequence[float] = (0.25, 0.7),
        use_ignored: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.extra_iou_thrs = tuple(extra_iou_thrs)
        self.use_ignored = use_ignored

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """mmdet's; objects are no longer ignored where ``use_ignored`` says so."""
        first = len(self.results)
        super().process(data_batch, data_samples)
        if self.use_ignored:
            for gt, _ in self.results[first:]:
                if 'anns' in gt:
                    gt['anns'] = [dict(ann, ignore_flag=0) for ann in gt['anns']]

    def compute_metrics(self, results: list) -> dict[str, float]:
        """mmdet's values, and AP at the further overlaps."""
        found = OrderedDict(self._compute(results))
        standard = self.iou_thrs, self.metric_items
        self.metric_items = ['mAP']
        for threshold in self.extra_iou_thrs if found else ():
            self.iou_thrs = np.array([threshold])
            for key, value in self._compute(results, logging.DEBUG).items():
                found[f'{key}_{round(100 * threshold)}'] = value
        self.iou_thrs, self.metric_items = standard
        return found

    def gt_to_coco_json(self, gt_dicts: Sequence[dict], outfile_prefix: str) -> str:
        """Write mmdet's file with the areas (pixels) of masks in place of those of boxes.

        Args:
            gt_dicts: Of each image ``width``, ``height``, ``img_id`` and ``anns``, whose ``mask``,
                where there is one, is a run-length encoding or polygons.
            outfile_prefix: What the file's name begins with.

        Returns:
            The file's name.
        """
        path = super().gt_to_coco_json(gt_dicts, outfile_prefix)
        content = load(path)
        sizes = {each['id']: (each['height'], each['width']) for each in content['images']}
        for ann in content.get('annotations', ()):
            if 'segmentation' in ann:
                ann['area'] = _mask_area(ann['segmentation'], *sizes[ann['image_id']])
        dump(content, path)
        return path

    def _compute(self, results: list, level: int = logging.INFO) -> dict[str, float]:
        """mmdet's metrics; what pycocotools prints goes to the log."""
        with redirect_stdout(io.StringIO()) as printed:
            found = super().compute_metrics(results)
        print_log(printed.getvalue(), 'current', level)
        return found


def _mask_area(mask: dict | list, height: int, width: int) -> float:
    """Pixels of a mask that is a run-length encoding, compressed or not, or polygons."""
    if isinstance(mask, list):
        mask = coco_mask.merge(coco_mask.frPyObjects(mask, height, width))
    elif isinstance(mask['counts'], list):
        mask = coco_mask.frPyObjects(mask, height, width)
    return float(coco_mask.area(mask))
