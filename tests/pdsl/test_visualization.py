"""Drawing of what was found and of the truth."""

import numpy as np
import torch
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData

from projects.pdsl.visualization import draw_instances

BOX = [10.0, 20.0, 40.0, 60.0]


def parts() -> dict:
    mask = np.zeros((1, 100, 120), np.uint8)
    mask[0, 25:55, 15:35] = 1
    return dict(labels=torch.tensor([0]), masks=mask)


def drawn(instances: InstanceData, **kwargs) -> np.ndarray:
    """Where pixels changed, at the size of the input."""
    picture = draw_instances(np.zeros((100, 120, 3), np.uint8), instances, ['heart'], **kwargs)
    assert picture.shape == (400, 480, 3)
    return picture.any(axis=2)[2::4, 2::4]


def test_truth_as_mmdet_loads_it():
    truth = parts()
    masks = BitmapMasks(truth.pop('masks'), 100, 120)
    changed = drawn(InstanceData(bboxes=HorizontalBoxes([BOX]), masks=masks, **truth))
    assert changed[30:50, 20:30].all() and not changed[:, 60:].any() and not changed[70:].any()
    plain = drawn(InstanceData(bboxes=torch.tensor([BOX]), **parts()))
    assert np.array_equal(changed, plain)


def test_scores_below_the_threshold_are_not_drawn():
    found = InstanceData(bboxes=torch.tensor([BOX]), scores=torch.tensor([0.4]), **parts())
    assert drawn(found, score_thr=0.3)[30:50, 20:30].all()
    assert not drawn(found, score_thr=0.5).any()
