"""AP as a statistic of images against mmdet's metric, and matches against brute force."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from projects.common.prediction_dump import encode_mask
from projects.pdsl.evaluation import InstanceCocoMetric
from projects.pdsl.evaluation.image_statistics import instance_statistics
from projects.pdsl.evaluation.instance_matches import instance_outcomes, match_instances

SIZE, CLASSES = 24, ('cat', 'dog', 'cow')


def box_mask(box) -> np.ndarray:
    mask = np.zeros((SIZE, SIZE), bool)
    x1, y1, x2, y2 = map(int, box)
    mask[y1:y2, x1:x2] = True
    return mask


def random_box(rng) -> list[float]:
    x1, y1 = rng.integers(0, 14, 2)
    width, height = rng.integers(3, 10, 2)
    return [float(x1), float(y1), float(x1 + width), float(y1 + height)]


@pytest.fixture(scope='module')
def case() -> tuple[list[dict], list[dict]]:
    """Ten images with objects, some ignored and one image empty, and predictions near them."""
    rng = np.random.default_rng(0)
    samples, predictions = [], []
    for number in range(10):
        instances, boxes, labels = [], [], []
        for _ in range(0 if number == 3 else rng.integers(1, 5)):
            box, label = random_box(rng), int(rng.integers(3))
            instances.append(
                dict(bbox=box, bbox_label=label, ignore_flag=int(rng.random() < 0.2),
                     mask=encode_mask(box_mask(box)))
            )  # fmt: skip
            for _ in range(rng.integers(0, 3)):
                moved = np.array(box) + rng.integers(-1, 2, 4)
                boxes.append(moved.clip(0, SIZE).tolist())
                labels.append(label)
        boxes += [random_box(rng) for _ in range(2)]
        labels += rng.integers(0, 3, 2).tolist()
        order = rng.permutation(len(boxes))
        scores = np.sort(rng.random(len(boxes)))[::-1]
        sample = dict(img_path=f'{number}.jpg', img_id=number, height=SIZE, width=SIZE)
        samples.append(dict(sample, instances=instances))
        found = dict(
            bboxes=[boxes[i] for i in order],
            labels=[labels[i] for i in order],
            scores=scores.tolist(),
            masks=[encode_mask(box_mask(boxes[i])) for i in order],
        )
        predictions.append(dict(sample, pred_instances=found))
    return samples, predictions


def dataset(samples: list[dict]) -> SimpleNamespace:
    class Data(SimpleNamespace):
        def __len__(self) -> int:
            return len(samples)

    return Data(metainfo=dict(classes=CLASSES), get_data_info=lambda i: samples[i])


def mmdet_metrics(samples, predictions, times, use_ignored=False) -> dict[str, float]:
    """The metric of images that occur several times, as images of their own."""
    metric = InstanceCocoMetric(metric=['bbox', 'segm'], use_ignored=use_ignored, format_only=False)
    metric.dataset_meta = dict(classes=CLASSES)
    number = 0
    for sample, prediction, count in zip(samples, predictions, times):
        for _ in range(int(count)):
            found = prediction['pred_instances']
            tensors = {k: torch.tensor(v) for k, v in found.items() if k != 'masks'}
            tensors['bboxes'] = tensors['bboxes'].reshape(-1, 4)
            tensors['masks'] = found['masks']
            meta = dict(img_id=number, ori_shape=(SIZE, SIZE), img_path=f'{number}.jpg')
            metric.process({}, [dict(meta, instances=sample['instances'], pred_instances=tensors)])
            number += 1
    return metric.evaluate(number)


def statistics(samples, predictions, use_ignored=False):
    data = dataset(samples)
    return instance_statistics(
        {each: match_instances(data, predictions, 'dump', each, use_ignored)
         for each in ('bbox', 'segm')}
    )  # fmt: skip


@pytest.mark.parametrize('use_ignored', [False, True])
def test_values_are_those_of_the_metric(case, use_ignored):
    samples, predictions = case
    weights = np.stack([np.ones(10), np.arange(10) % 3])
    found = {k: v(weights) for k, v in statistics(*case, use_ignored).items()}
    assert set(found) == {'bbox_AP50', 'bbox_AP75', 'segm_AP25', 'segm_AP50', 'segm_AP70',
                          'segm_AP75'}  # fmt: skip
    for row, times in enumerate(weights):
        expected = mmdet_metrics(samples, predictions, times, use_ignored)
        for name, values in found.items():
            kind, threshold = name.split('_AP')
            # mmdet rounds to three digits
            assert values[row] == pytest.approx(
                100 * expected[f'coco/{kind}_mAP_{threshold}'], abs=0.051
            ), name
    assert 10 < found['segm_AP50'][0] < 99


def greedy(samples, predictions) -> list[tuple[float, bool]]:
    """Scores, and whether each box matches an object that no better box of its class matches."""
    rows = []
    for sample, prediction in zip(samples, predictions):
        found, taken = prediction['pred_instances'], set()
        for i in np.argsort([-score for score in found['scores']]):
            best, chosen = 0.5, None
            for j, instance in enumerate(sample['instances']):
                if instance['bbox_label'] != found['labels'][i] or j in taken:
                    continue
                a, b = box_mask(found['bboxes'][i]), box_mask(instance['bbox'])
                overlap = (a & b).sum() / (a | b).sum()
                if overlap >= best:
                    best, chosen = overlap, j
            rows.append((found['scores'][i], chosen is not None))
            taken |= {chosen} - {None}
    return sorted(rows)


def test_outcomes_by_brute_force(case):
    samples, predictions = case
    for iou_type, part in (('bbox', 'box'), ('segm', 'mask')):
        matches = match_instances(dataset(samples), predictions, 'dump', iou_type, True)
        outcomes = instance_outcomes(matches[0.5], iou_type)
        assert outcomes.event == f'a match at {part} IoU 0.5'
        found = sorted(zip(outcomes.scores.tolist(), outcomes.correct.tolist()))
        assert found == greedy(samples, predictions)


def test_ignored_objects_are_neither_right_nor_wrong(case):
    samples, predictions = case
    used, ignored = (
        instance_outcomes(
            match_instances(dataset(samples), predictions, 'dump', 'bbox', flag)[0.5], 'bbox'
        )
        for flag in (True, False)
    )
    left = set(used.scores) - set(ignored.scores)
    assert left and not set(ignored.scores) - set(used.scores)


def test_predictions_of_something_else(case):
    samples, predictions = case
    data = dataset(samples)
    with pytest.raises(ValueError, match='dump: no prediction for 0.jpg'):
        match_instances(data, predictions[1:], 'dump', 'bbox')
    other = dict(predictions[0], img_path='x.jpg')
    with pytest.raises(ValueError, match='dump: 1 predictions are of no image .* first: x.jpg'):
        match_instances(data, [*predictions, other], 'dump', 'bbox')
    with pytest.raises(ValueError, match='expected a list of predictions with pred_instances'):
        match_instances(data, [dict(rank=1)], 'dump', 'bbox')
    bare = {k: v for k, v in predictions[0]['pred_instances'].items() if k != 'masks'}
    with pytest.raises(ValueError, match='labels, but not as many scores and masks'):
        match_instances(data, [dict(predictions[0], pred_instances=bare), *predictions[1:]],
                        'dump', 'segm')  # fmt: skip
