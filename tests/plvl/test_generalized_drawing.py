"""Drawings of none, one or several objects."""

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.registry import VISUALIZERS
from mmengine.structures import InstanceData

import projects.plvl.visualization  # noqa: F401  registers
from projects.common.visualization import PRED_COLOR, TRUTH_COLOR
from projects.plvl.generalized_drawing import generalized_panels, split_mask

SIDE = 400
BOXES = [[40.0, 40.0, 140.0, 120.0], [220.0, 200.0, 340.0, 300.0]]


def mask(boxes):
    found = np.zeros((SIDE, SIDE), bool)
    for x1, y1, x2, y2 in np.array(boxes, int).reshape(-1, 4):
        found[y1:y2, x1:x2] = True
    return found


def sample(true, predicted, presence):
    sample = DetDataSample(metainfo=dict(text='both cups', with_mask=True))
    masks = np.array([mask([box]) for box in true], np.uint8).reshape(-1, SIDE, SIDE)
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor(true).reshape(-1, 4), masks=BitmapMasks(masks, SIDE, SIDE)
    )
    boxes = torch.tensor(predicted).reshape(-1, 4)
    sample.pred_instances = InstanceData(bboxes=boxes, scores=torch.ones(len(boxes)))
    sample.set_field(torch.tensor([presence]), 'pred_presence')
    sample.set_field(torch.from_numpy(mask(predicted)[None]), 'pred_union_mask')
    return sample


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(60, 200, (SIDE, SIDE, 3), dtype=np.uint8)


def shows(panel, color, box):
    x1, y1, x2, y2 = (int(value) for value in box)
    part = panel[y1 - 12 : y2 + 12, x1 - 12 : x2 + 12].astype(int)
    return (np.abs(part - color).max(axis=2) < 12).sum() > 50


def test_every_object_is_drawn_and_counted(image):
    truth, pred = generalized_panels(image, image, sample(BOXES, BOXES[:1], 0.9), True, True)
    assert all(shows(truth.image, TRUTH_COLOR, box) for box in BOXES)
    assert shows(pred.image, PRED_COLOR, BOXES[0]) and not shows(pred.image, PRED_COLOR, BOXES[1])
    # 100 x 80 of 100 x 80 + 120 x 100 pixels are found.
    assert pred.note == '1 of 2 boxes, mask IoU 0.40' and truth.note == ''


def test_nothing_is_said_in_words(image):
    truth, pred = generalized_panels(image, image, sample([], [], 0.1), True, True)
    assert truth.note == 'nothing fits' and pred.note == 'nothing fits, score 0.10'
    np.testing.assert_array_equal(truth.image, image)
    np.testing.assert_array_equal(pred.image, image)
    _, wrong = generalized_panels(image, image, sample([], BOXES[:1], 0.8), True, True)
    assert wrong.note == '0 of 0 boxes, mask IoU 0.00'
    visualizer = VISUALIZERS.get('GroundingVisualizer')()
    drawn = [visualizer.draw(image, sample([], [], 0.1), draw_gt=gt) for gt in (False, True)]
    assert drawn[1].shape[1] - drawn[0].shape[1] == SIDE + 10  # the panel of the ground truth


def test_masks_are_split_among_boxes():
    union = mask([*BOXES, [0, 380, 20, 400]])
    first, second, rest = split_mask(union, BOXES)
    assert (first == mask(BOXES[:1])).all() and (second == mask(BOXES[1:])).all()
    assert (rest == mask([[0, 380, 20, 400]])).all()
    assert len(split_mask(mask(BOXES), BOXES)) == 2
    assert split_mask(None, BOXES) == [None, None] and split_mask(mask([]), []) == []


def test_masks_of_another_size_are_refused(image):
    wrong = sample(BOXES, BOXES, 0.9)
    wrong.set_field(torch.zeros(1, 5, 5, dtype=torch.bool), 'pred_union_mask')
    with pytest.raises(ValueError, match=r'mask of shape \(5, 5\) on an image of \(400, 400\)'):
        generalized_panels(image, image, wrong, True, True)
