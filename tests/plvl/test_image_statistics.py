"""Statistics of images against GroundingMetric, also on images that are drawn several times."""

from __future__ import annotations

import numpy as np
import pytest

from projects.plvl.evaluation import GroundingMetric
from projects.plvl.evaluation.grounding_analysis import Record
from projects.plvl.evaluation.image_statistics import grounding_outcomes, grounding_statistics

IMAGES = {f'{i}.jpg': i for i in range(12)}


def made(masks: bool = True, boxes: bool = True) -> list[Record]:
    """Forty sentences about twelve images; some have no mask."""
    rng = np.random.default_rng(0)
    records = []
    for i in range(40):
        union = int(rng.integers(100, 900))
        areas = (int(rng.integers(0, union)), union) if masks and i % 5 else None
        score = float(rng.random())
        records.append(
            Record(
                sample=dict(img_path=f'{rng.integers(12)}.jpg', text='a'),
                prediction=dict(pred_instances=dict(scores=[score])),
                box_iou=float(rng.random()) if boxes else None,
                mask_iou=areas[0] / areas[1] if areas else None,
                size=1.0,
                mask_areas=areas,
            )
        )
    return [record for record in records if record.is_comparable]


def metric(records: list[Record], times: np.ndarray) -> dict[str, float]:
    """What GroundingMetric says of the sentences of images that occur several times."""
    results = [
        dict(identity=(None,) * 7, group=None, subset=None, box_iou=record.box_iou,
             mask_areas=record.mask_areas, with_mask=record.mask_areas is not None)
        for record in records
        for _ in range(int(times[IMAGES[record.sample['img_path']]]))
    ]  # fmt: skip
    return GroundingMetric().compute_metrics(results)


@pytest.mark.parametrize('parts', [{}, dict(masks=False), dict(boxes=False)])
def test_values_are_those_of_the_metric(parts):
    records = made(**parts)
    statistics = grounding_statistics(records, IMAGES)
    weights = np.stack([np.ones(12), np.arange(12) % 4, np.arange(12)[::-1] // 2])
    found = {name: each(weights) for name, each in statistics.items()}
    for row, times in enumerate(weights):
        expected = metric(records, times)
        assert {name: values[row] for name, values in found.items()} == pytest.approx(expected)


def test_outcomes():
    records = made()
    outcomes = grounding_outcomes(records, IMAGES)
    assert outcomes.event == 'box IoU >= 0.5' and outcomes.kind == 'grounding'
    assert outcomes.correct.tolist() == [record.box_iou >= 0.5 for record in records]
    assert outcomes.scores.tolist() == [record.score for record in records]
    assert outcomes.images.tolist() == [IMAGES[record.sample['img_path']] for record in records]
    masks = grounding_outcomes(made(boxes=False), IMAGES)
    assert masks.event == 'mask IoU >= 0.5' and 0 < masks.correct.mean() < 1
    records[0].prediction['pred_instances']['scores'] = [1.5]
    with pytest.raises(ValueError, match='scores of the predictions: found .* to 1.5, expected 0'):
        grounding_outcomes(records, IMAGES)
