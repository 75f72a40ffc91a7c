"""InstanceVisualizer: ground truth and predictions, in mmdet's structures."""

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.registry import VISUALIZERS
from mmengine.structures import InstanceData

import projects.pdsl.visualization  # noqa: F401  registers
from projects.common.visualization import color_of

SIDE = 500  # at least the visualizer's min_side, so that nothing is resized
BOXES = [[50.0, 60, 150, 160], [300, 200, 400, 350]]


@pytest.fixture
def visualizer():
    visualizer = VISUALIZERS.get('InstanceVisualizer')()
    visualizer.dataset_meta = dict(classes=('cat', 'dog'))
    return visualizer


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(60, 200, (SIDE, SIDE, 3), dtype=np.uint8)


def masks() -> np.ndarray:
    masks = np.zeros((2, SIDE, SIDE), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, np.array(BOXES).astype(int)):
        mask[y1:y2, x1:x2] = 1
    return masks


def found(**fields) -> InstanceData:
    fields = dict(masks=torch.from_numpy(masks()).bool(), **fields)
    return InstanceData(bboxes=torch.tensor(BOXES), labels=torch.tensor([0, 1]), **fields)


def shows(drawn: np.ndarray, color: tuple[int, int, int]) -> bool:
    return (np.abs(drawn.astype(int) - color).max(axis=2) < 12).sum() > 50


def test_every_instance_keeps_its_colors(visualizer, image):
    sample = DetDataSample(pred_instances=found(scores=torch.tensor([0.9, 0.8])))
    drawn = visualizer.draw(image, sample)
    assert drawn.shape == image.shape
    for i, mask in enumerate(masks().astype(bool)):
        np.testing.assert_array_equal(drawn[mask], image[mask])
        assert shows(drawn, color_of(i))
    assert drawn[400:].mean() < 0.7 * image[400:].mean()


def test_scores_below_the_threshold_are_not_drawn(visualizer, image):
    sample = DetDataSample(pred_instances=found(scores=torch.tensor([0.4, 0.6])))
    assert shows(visualizer.draw(image, sample), color_of(1))
    one = visualizer.draw(image, sample, pred_score_thr=0.5)
    assert shows(one, color_of(0)) and not shows(one, color_of(1))  # colors follow the scores
    np.testing.assert_array_equal(visualizer.draw(image, sample, pred_score_thr=0.7), image)
    visualizer.max_instances = 1
    np.testing.assert_array_equal(visualizer.draw(image, sample), one)


def test_ground_truth_as_mmdet_loads_it(visualizer, image):
    polygons = [[np.array([x1, y1, x2, y1, x2, y2, x1, y2])] for x1, y1, x2, y2 in BOXES]
    plain = visualizer.draw(image, DetDataSample(gt_instances=found()))
    for loaded in (BitmapMasks(masks(), SIDE, SIDE), PolygonMasks(polygons, SIDE, SIDE)):
        fields = dict(bboxes=HorizontalBoxes(BOXES), labels=np.array([0, 1]), masks=loaded)
        drawn = visualizer.draw(image, DetDataSample(gt_instances=InstanceData(**fields)))
        np.testing.assert_array_equal(drawn, plain)


def test_side_by_side(visualizer, image):
    sample = DetDataSample(
        gt_instances=found(), pred_instances=found(scores=torch.tensor([0.9, 0.1]))
    )
    both = visualizer.draw(image, sample)
    assert both.shape[1] == 2 * SIDE + 3 * 10
    for options, left in ((dict(draw_pred=False), 10), (dict(draw_gt=False), 20 + SIDE)):
        alone = visualizer.draw(image, sample, **options)
        np.testing.assert_array_equal(both[-10 - SIDE : -10, left : left + SIDE], alone)


def test_small_images_are_enlarged_and_names_may_be_missing(visualizer):
    visualizer.dataset_meta = None
    none = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())
    small = np.zeros((90, 110, 3), np.uint8)
    assert visualizer.draw(small, DetDataSample(gt_instances=none)).shape == (480, 587, 3)
    one = InstanceData(bboxes=torch.tensor([[5.0, 5, 50, 50]]), labels=torch.tensor([7]))
    assert shows(visualizer.draw(small, DetDataSample(gt_instances=one)), color_of(0))
    assert not visualizer.draw(small, DetDataSample()).any()
