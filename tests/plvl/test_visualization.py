"""GroundingVisualizer: a panel for whatever a sample has, below its sentence."""

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.registry import VISUALIZERS
from mmengine.structures import InstanceData

import projects.plvl.visualization  # noqa: F401  registers
from projects.common.visualization import PRED_COLOR, TRUTH_COLOR

SIDE = 400  # at least the visualizer's min_side, so that nothing is resized


@pytest.fixture(scope='module')
def visualizer():
    return VISUALIZERS.get('GroundingVisualizer')()


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(60, 200, (SIDE, SIDE, 3), dtype=np.uint8)


def masks() -> tuple[np.ndarray, np.ndarray]:
    truth, pred = np.zeros((2, SIDE, SIDE), np.uint8)
    truth[100:200, 120:280] = 1
    pred[100:200, 160:320] = 1
    return truth, pred


def sample(text: str = 'the cup', **metainfo) -> DetDataSample:
    truth, pred = masks()
    sample = DetDataSample(metainfo=dict(text=text, **metainfo))
    sample.gt_instances = InstanceData(
        bboxes=HorizontalBoxes([[120.0, 100, 280, 200]]),
        masks=BitmapMasks(truth[None], SIDE, SIDE),
    )
    sample.pred_instances = InstanceData(
        bboxes=torch.tensor([[160.0, 100, 320, 200]]),
        scores=torch.tensor([0.7]),
        masks=torch.from_numpy(pred[None]).bool(),
    )
    scores = torch.zeros(8, 8)
    scores[2, 3] = 0.9
    sample.set_field(scores, 'pred_score_map')
    return sample


def panels(drawn: np.ndarray) -> list[np.ndarray]:
    """The panels of a drawing, without their titles."""
    count = (drawn.shape[1] - 10) // (SIDE + 10)
    assert drawn.shape[1] == 10 + count * (SIDE + 10)
    lefts = range(10, drawn.shape[1] - 10, SIDE + 10)
    return [drawn[-10 - SIDE : -10, left : left + SIDE] for left in lefts]


def shows(panel: np.ndarray, color: tuple[int, int, int]) -> bool:
    return (np.abs(panel.astype(int) - color).max(axis=2) < 12).sum() > 50


def test_panels_show_what_the_sample_has(visualizer, image):
    before = image.copy()
    plain, truth, pred, scores = panels(visualizer.draw(image, sample()))
    np.testing.assert_array_equal(plain, image)
    np.testing.assert_array_equal(image, before)
    assert shows(truth, TRUTH_COLOR) and not shows(truth, PRED_COLOR)
    assert shows(pred, PRED_COLOR) and not shows(pred, TRUTH_COLOR)
    for panel, mask in zip((truth, pred), masks()):
        inside = mask.astype(bool)
        np.testing.assert_array_equal(panel[inside], image[inside])
        assert panel[300:].mean() < 0.7 * image[300:].mean()
    # The score map is hot (red over blue) around its peak.
    row, column = 2 * SIDE // 8, 3 * SIDE // 8  # where centers that round to this cell lie
    assert (scores[row, column] == 255).all()  # the middle of the cross
    near = scores[row - 20 : row - 14, column + 14 : column + 20].reshape(-1, 3).mean(axis=0)
    far = scores[-60:, -60:].reshape(-1, 3).mean(axis=0)
    assert near[0] - near[2] > far[0] - far[2] + 40


@pytest.mark.parametrize(
    ('options', 'count'),
    [(dict(), 4), (dict(draw_gt=False), 3), (dict(draw_pred=False), 2), (dict(score_thr=1), 4)],
)
def test_parts_can_be_left_out(visualizer, image, options, count):
    assert len(panels(visualizer.draw(image, sample(), **options))) == count


def test_samples_without_parts(visualizer, image):
    bare = DetDataSample(metainfo=dict(text='only a sentence'))
    (panel,) = panels(visualizer.draw(image, bare))
    np.testing.assert_array_equal(panel, image)
    boxes = sample(with_mask=False)  # the mask of the ground truth is a placeholder
    boxes.gt_instances.masks = BitmapMasks(np.zeros((1, SIDE, SIDE), np.uint8), SIDE, SIDE)
    del boxes.pred_instances.masks
    _, truth, pred, _ = panels(visualizer.draw(image, boxes))
    np.testing.assert_array_equal(truth[110:190, 130:270], image[110:190, 130:270])
    np.testing.assert_array_equal(pred[110:190, 170:310], image[110:190, 170:310])


def test_any_size_and_any_sentence(visualizer):
    text = '猫の左 <b>%s</b> $x$ \n' + 'W' * 200 + ' ünïcødé “quoted” ❤' * 30
    for height, width in ((8, 8), (3, 2000), (2000, 3), (1200, 1600)):
        bare = DetDataSample(metainfo=dict(text=text))
        bare.pred_instances = InstanceData(
            bboxes=torch.tensor([[-5.0, -5, 2 * width, 2]]), scores=torch.ones(1)
        )
        drawn = visualizer.draw(np.zeros((height, width, 3), np.uint8), bare)
        assert drawn.dtype == np.uint8 and (drawn[:, :8] == 255).all()
        assert (drawn[:, -8:] == 255).all() and drawn.shape[1] <= 2 * 640 + 30


def test_wrong_input(visualizer, image):
    for wrong, words in (
        (np.zeros((4, 4), np.uint8), r'image of shape \(4, 4\)'),
        (np.zeros((4, 4, 3)), 'float64'),
        (None, 'image None'),
        (image[:100], r'mask of shape \(400, 400\) on an image of \(100, 400\)'),
    ):
        with pytest.raises(ValueError, match=words):
            visualizer.draw(wrong, sample())
