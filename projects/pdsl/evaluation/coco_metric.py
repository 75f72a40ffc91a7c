"""COCO AP at the IoU thresholds used in weakly supervised segmentation (paper, section 4.2)."""

from __future__ import annotations

import io
import logging
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import redirect_stdout

import numpy as np
from mmdet.evaluation import CocoMetric
from mmengine.fileio import dump, get_local_path, load
from mmengine.logging import print_log
from mmengine.registry import METRICS
from pycocotools import mask as coco_mask

from projects.common.errors import InputError

from ..datasets.coco_files import COCOFile, check_mask

__all__ = ['InstanceCocoMetric']


@METRICS.register_module()
class InstanceCocoMetric(CocoMetric):
    """Compute mmdet's COCO metric, with AP at further IoU thresholds.

    All other arguments and keys are mmdet's: ``segm_mAP``, the mean over thresholds of 0.5 to 0.95,
    ``segm_mAP_50``, ``segm_mAP_75``, ... This metric adds ``segm_mAP_25`` and ``segm_mAP_70``
    (fractions, like all of mmdet's values).

    Without ``ann_file``, the ground truth is taken from the data samples (metainfo ``instances``).
    Objects that are ignored there, i.e. VOC's difficult ones, are then treated like COCO's crowds.
    Small, medium and large objects (``segm_mAP_s``, ...) are distinguished by the number of mask
    pixels, for boxes and masks alike, as in COCO's own files and in the released code; mmdet uses
    the area of the box.

    Args:
        ann_file: COCO file with the ground truth, read by
            :class:`~projects.pdsl.datasets.coco_files.COCOFile`.
        args: Further arguments of mmdet's metric.
        extra_iou_thrs: The further IoU thresholds.
        use_ignored: Whether to count the data samples' ignored objects like any other: mask AP on
            VOC makes no exception for difficult objects.
        kwargs: Further arguments of mmdet's metric.

    Raises:
        ValueError: An object has no mask, and ``metric`` has 'segm'.

    Example config::

        val_evaluator = dict(type='InstanceCocoMetric', metric=['bbox', 'segm'])
    """

    iou_thrs: np.ndarray
    metric_items: list[str] | None

    def __init__(
        self,
        ann_file: str | None = None,
        *args,
        extra_iou_thrs: Sequence[float] = (0.25, 0.7),
        use_ignored: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(None, *args, **kwargs)
        if ann_file is not None:
            with get_local_path(ann_file, backend_args=self.backend_args) as path:
                self._coco_api = COCOFile(path)
            if 'segm' in self.metrics:
                self._coco_api.check_masks()
        self.extra_iou_thrs = tuple(extra_iou_thrs)
        self.use_ignored = use_ignored

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Process a batch like mmdet, without ignoring any object if ``use_ignored`` is set.

        Raises:
            ValueError: An object has no mask, and mask AP is computed.
        """
        first = len(self.results)
        super().process(data_batch, data_samples)
        for (gt, _), sample in zip(self.results[first:], data_samples, strict=True):
            gt['img_path'] = sample.get('img_path')
            for ann in gt.get('anns', ()) if 'segm' in self.metrics else ():
                check_mask(ann.get('mask'), f'an object of {gt["img_path"] or gt["img_id"]}')
        if self.use_ignored:
            for gt, _ in self.results[first:]:
                if 'anns' in gt:
                    gt['anns'] = [dict(ann, ignore_flag=0) for ann in gt['anns']]

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute mmdet's metrics, and AP at the further IoU thresholds.

        Raises:
            ValueError: Two images have one id, so that their objects would be mixed up.
        """
        paths: dict = {}
        for gt, _ in results:
            path = gt.get('img_path')
            if paths.setdefault(gt['img_id'], path) != path:
                raise InputError(
                    f'InstanceCocoMetric: {paths[gt["img_id"]]} and {path} have one img_id, '
                    f'{gt["img_id"]!r}; test the data sets one after the other'
                )
        found = OrderedDict(self._compute(results))
        standard = self.iou_thrs, self.metric_items, self.classwise  # type: ignore[has-type]
        self.metric_items, self.classwise = ['mAP'], False  # mmdet's table needs its thresholds
        for threshold in self.extra_iou_thrs if found else ():
            self.iou_thrs = np.array([threshold])
            for key, value in self._compute(results, logging.DEBUG).items():
                found[f'{key}_{round(100 * threshold)}'] = value
        self.iou_thrs, self.metric_items, self.classwise = standard
        return found

    def gt_to_coco_json(self, gt_dicts: Sequence[dict], outfile_prefix: str) -> str:
        """Write mmdet's file with the areas (pixels) of masks instead of those of boxes.

        Args:
            gt_dicts: ``width``, ``height``, ``img_id`` and ``anns`` of each image. An annotation's
                ``mask``, if present, is a run-length encoding or polygons.
            outfile_prefix: Prefix of the file name.

        Returns:
            The file name.
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
        """Compute mmdet's metrics; pycocotools' output goes to the log."""
        with redirect_stdout(io.StringIO()) as printed:
            found = super().compute_metrics(results)
        print_log(printed.getvalue(), 'current', level)
        return found


def _mask_area(mask: dict | list, height: int, width: int) -> float:
    """Count the pixels of a mask, which is polygons or a run-length encoding of either kind."""
    if isinstance(mask, list):
        mask = coco_mask.merge(coco_mask.frPyObjects(mask, height, width))
    elif isinstance(mask['counts'], list):
        mask = coco_mask.frPyObjects(mask, height, width)
    return float(coco_mask.area(mask))
