"""RetrievalVisualizer: queries with their answers, of which the right ones are marked."""

import numpy as np
import pytest
from mmengine.registry import VISUALIZERS
from mmengine.structures import BaseDataElement
from PIL import Image

import projects.rvse.visualization  # noqa: F401  registers
from projects.common.visualization import TRUTH_COLOR


@pytest.fixture
def visualizer():
    return VISUALIZERS.get('RetrievalVisualizer')(top_k=3)


@pytest.fixture
def paths(tmp_path) -> list[str]:
    colors = ((200, 0, 0), (0, 0, 200), (200, 200, 0), (90, 0, 90))
    for i, color in enumerate(colors):
        Image.new('RGB', (40, 30), color).save(tmp_path / f'{i}.png')
    return [str(tmp_path / f'{i}.png') for i in range(len(colors))]


def has(drawn: np.ndarray, color: tuple[int, int, int]) -> bool:
    return (drawn == color).all(2).sum() > 1000


def caption(paths: list, **fields) -> BaseDataElement:
    answers = dict(pred_img_path=paths, pred_score=[0.9, 0.8, 0.7, 0.6], rank=2)
    correct = [False, True, False, False]
    return BaseDataElement(metainfo=dict(answers, text='a blue box', correct=correct, **fields))


def test_a_caption_with_its_images(visualizer, paths):
    own = np.full((30, 40, 3), (0, 200, 200), np.uint8)
    drawn = visualizer.draw(own, caption(paths))
    assert has(drawn, (0, 200, 200)) and has(drawn, (200, 0, 0)) and has(drawn, (200, 200, 0))
    assert not has(drawn, (90, 0, 90))  # the fourth, and top_k is 3
    blue = (drawn == (0, 0, 200)).all(2)
    frame = (drawn == TRUTH_COLOR).all(2)
    rows, columns = blue.nonzero()
    assert frame[rows.min() - 2, columns.min() : columns.max()].all()
    assert frame[rows.min() : rows.max(), columns.max() + 3].all()
    rows, columns = (drawn == (200, 0, 0)).all(2).nonzero()
    assert not frame[rows.min() - 2, columns.min() : columns.max()].any()
    assert not has(visualizer.draw(own, caption(paths), draw_gt=False), (0, 200, 200))
    only = visualizer.draw(own, caption(paths), draw_pred=False)
    assert has(only, (0, 200, 200)) and not has(only, (0, 0, 200))


def test_images_that_are_not_available(visualizer, paths):
    ids = [f'10000{i}' for i in range(4)]
    drawn = visualizer.draw(None, caption([None] * 4, pred_ori_id=ids, ori_id='7'))
    grey = (drawn == (235, 235, 238)).all(2)
    assert grey.sum() > 4 * 0.8 * 220 * 165
    with pytest.raises(FileNotFoundError, match='none.png'):
        visualizer.draw(None, caption(['none.png'] * 4))


def test_an_image_with_its_captions(visualizer):
    image = np.full((600, 300, 3), (0, 0, 200), np.uint8)
    answers = dict(pred_text=['x ' * 300, '猫 $x$', 'y', 'z'], pred_score=[0.9, 0.8, 0.7, 0.6])
    sample = BaseDataElement(
        metainfo=dict(answers, text=['one', 'two'], correct=[False, True, False, False], rank=2)
    )
    both = visualizer.draw(image, sample)
    answered = visualizer.draw(image, sample, draw_gt=False)
    own = visualizer.draw(image, sample, draw_pred=False)
    green = [(drawn == TRUTH_COLOR).all(2).sum() for drawn in (answered, own, both)]
    assert min(green) > 0 and green[2] == green[0] + green[1]
    assert all(has(drawn, (0, 0, 200)) for drawn in (both, answered, own))
    assert both.shape[1] == answered.shape[1] == own.shape[1] > 220 * 4
    assert both.shape[0] > answered.shape[0] >= own.shape[0]
    assert (both[:, -8:] == 255).all()  # long captions are wrapped
