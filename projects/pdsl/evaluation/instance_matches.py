"""Which predicted instances match an object, per image, in the way of COCO's evaluation."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from projects.common.calibration import Outcomes
from projects.common.errors import InputError

from ..datasets.coco_files import mask_rle

__all__ = ['ClassMatches', 'has_masks', 'instance_outcomes', 'match_instances']

THRESHOLDS = {'bbox': (0.5, 0.75), 'segm': (0.25, 0.5, 0.7, 0.75)}
_MOST = 1000  # instances of a class in an image that count, as in mmdet
_PARTS = {'bbox': 'bboxes', 'segm': 'masks'}


@dataclass(frozen=True)
class ClassMatches:
    """Hold the predictions of a class in all images, highest score first, at one IoU threshold.

    Predictions that match an ignored object are left out.

    Attributes:
        scores: (N,) float64.
        correct: (N,) bool, whether each matches an object that no better one matches.
        images: (N,) int64, the image of each.
        objects: (I,) int64, the number of objects in each image that are not ignored.
    """

    scores: np.ndarray
    correct: np.ndarray
    images: np.ndarray
    objects: np.ndarray


def match_instances(
    dataset, predictions: Sequence[dict], what: str, iou_type: str, use_ignored: bool = False
) -> dict[float, list[ClassMatches]]:
    """Match predictions to the objects of a data set with pycocotools.

    Args:
        dataset: The data set that was tested, whose samples have ``instances``.
        predictions: The predictions written by ``tools/test.py --out``.
        what: Name of the predictions in error messages.
        iou_type: 'bbox' or 'segm'.
        use_ignored: See :class:`InstanceCocoMetric`.

    Returns:
        The matches of every class by IoU threshold.

    Raises:
        ValueError: The predictions are not of this data set or have no boxes or masks, or an object
            has no mask.
    """
    by_image = _by_image(predictions, what)
    samples = [dataset.get_data_info(i) for i in range(len(dataset))]
    classes = list(range(len(dataset.metainfo['classes'])))
    images, truths, results = [], [], []
    for number, sample in enumerate(samples):
        prediction = by_image.pop(_identity(sample), None)
        if prediction is None:
            raise InputError(
                f'{what}: no prediction for {sample["img_path"]}: it is not of this data set '
                f'({len(samples)} images)'
            )
        height, width = sample['height'], sample['width']
        images.append(dict(id=number, height=height, width=width))
        for instance in sample['instances']:
            where = f'an object of {sample["img_path"]}'
            truths.append(_truth(instance, (height, width), number, iou_type, where, use_ignored))
        results += _results(prediction['pred_instances'], number, iou_type, what)
    if by_image:
        first = next(iter(by_image.values()))
        raise InputError(
            f'{what}: {len(by_image)} predictions are of no image of this data set '
            f'({len(samples)} images); first: {first.get("img_path")}'
        )
    for number, entry in enumerate(truths, 1):
        entry['id'] = number
    evaluator = _evaluate(images, truths, results, classes, iou_type)
    return {
        threshold: [_collect(evaluator, i, t, len(classes), len(images)) for i in classes]
        for t, threshold in enumerate(THRESHOLDS[iou_type])
    }


def has_masks(dataset, predictions: Sequence[dict]) -> bool:
    """Return whether there are masks to compare: in the data set and among the predictions."""
    truths = (dataset.get_data_info(i)['instances'] for i in range(len(dataset)))
    true = any(instance.get('mask') for instances in truths for instance in instances)
    found = isinstance(predictions, list) and any(
        isinstance(p, dict) and (p.get('pred_instances') or {}).get('masks') for p in predictions
    )
    return true and found


def _by_image(predictions: Any, what: str) -> dict[tuple, dict]:
    valid = isinstance(predictions, list) and all(
        isinstance(p, dict) and 'labels' in (p.get('pred_instances') or {}) for p in predictions
    )
    if not valid:
        raise InputError(
            f'{what}: expected a list of predictions with pred_instances.labels, as tools/test.py '
            '--out writes of a model of instances'
        )
    return {_identity(prediction): prediction for prediction in predictions}


def _identity(sample: Mapping) -> tuple:
    return os.path.basename(sample.get('img_path') or ''), sample.get('img_id')


def _truth(
    instance: Mapping, shape: tuple[int, int], number: int, iou_type: str, where: str, used: bool
) -> dict:
    """Return an object as an annotation of COCO, whose crowds are ignored."""
    x1, y1, x2, y2 = instance['bbox']
    crowd = 0 if used else int(bool(instance.get('ignore_flag')))
    entry = dict(image_id=number, category_id=instance['bbox_label'], iscrowd=crowd)
    entry.update(bbox=[x1, y1, x2 - x1, y2 - y1], area=(x2 - x1) * (y2 - y1))
    if iou_type == 'segm':
        entry['segmentation'] = mask_rle(instance.get('mask'), *shape, where)
        entry['area'] = float(coco_mask.area(entry['segmentation']))
    return entry


def _results(found: Mapping[str, Any], number: int, iou_type: str, what: str) -> list[dict]:
    """Return the predictions of an image as COCO's results."""
    labels, scores = found['labels'], found.get('scores') or []
    parts = found.get(_PARTS[iou_type]) or []
    if not len(labels) == len(scores) == len(parts):
        raise InputError(
            f'{what}: pred_instances has {len(labels)} labels, but not as many scores and '
            f'{_PARTS[iou_type]}'
        )
    results = []
    for label, score, part in zip(labels, scores, parts):
        entry = dict(image_id=number, category_id=label, score=score)
        if iou_type == 'segm':
            entry['segmentation'] = part
        else:
            entry['bbox'] = [part[0], part[1], part[2] - part[0], part[3] - part[1]]
        results.append(entry)
    return results


def _evaluate(
    images: list, truths: list, results: list, classes: list[int], iou_type: str
) -> COCOeval:
    """Run the matching of pycocotools for objects of all sizes."""
    truth = COCO()
    categories = [dict(id=i, name=str(i)) for i in classes]
    truth.dataset = dict(images=images, annotations=truths, categories=categories, info={})
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        found = COCO()
        found.dataset = dict(truth.dataset, annotations=[])
        found.createIndex()
        if results:
            found = truth.loadRes(results)
        evaluator = COCOeval(truth, found, iou_type)
        evaluator.params.iouThrs = np.array(THRESHOLDS[iou_type])
        evaluator.params.areaRng = [[0, 1e10]]
        evaluator.params.areaRngLbl = ['all']
        evaluator.params.maxDets = [_MOST]
        evaluator.evaluate()
    return evaluator


def _collect(
    evaluator: COCOeval, label: int, threshold: int, classes: int, images: int
) -> ClassMatches:
    """Collect the matches of a class; pycocotools lists classes, then sizes, then images."""
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    objects = np.zeros(images, dtype=np.int64)
    for number in range(images):
        entry = evaluator.evalImgs[label * images + number]
        if entry is None:
            continue
        objects[number] = int(np.sum(np.asarray(entry['gtIgnore']) == 0))
        kept = ~entry['dtIgnore'][threshold].astype(bool)
        scores = np.asarray(entry['dtScores'], dtype=np.float64)[kept]
        correct = entry['dtMatches'][threshold][kept] > 0
        parts.append((scores, correct, np.full(len(scores), number)))
    if not parts:
        empty = np.zeros(0)
        return ClassMatches(empty, empty.astype(bool), empty.astype(np.int64), objects)
    scores, correct, where = (np.concatenate(column) for column in zip(*parts))
    order = np.argsort(-scores, kind='mergesort')
    return ClassMatches(scores[order], correct[order], where[order], objects)


def instance_outcomes(classes: Sequence[ClassMatches], iou_type: str) -> Outcomes:
    """Return the scores of all instances, and whether each matches an object at IoU 0.5.

    Args:
        classes: The matches of each class at this threshold.
        iou_type: 'bbox' or 'segm', for the name of the event.

    Raises:
        ValueError: The instances are all correct or all wrong.
    """
    part = 'mask' if iou_type == 'segm' else 'box'
    return Outcomes(
        kind='instances',
        scores=np.concatenate([each.scores for each in classes]),
        correct=np.concatenate([each.correct for each in classes]),
        images=np.concatenate([each.images for each in classes]),
        event=f'a match at {part} IoU 0.5',
    )
