import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.registry import HOOKS
from mmengine.structures import InstanceData

import projects.plvl.engine  # noqa: F401  registers
from projects.plvl.visualization import (
    PRED_COLOR,
    TRUTH_COLOR,
    _font,
    _wrap,
    draw_data_sample,
    draw_grounding,
)


def _scene(height=128, width=128):
    image = np.full((height, width, 3), 128, dtype=np.uint8)
    truth, pred = np.zeros((2, height, width), dtype=np.uint8)
    truth[20:60, 30:70] = 1
    pred[20:60, 40:80] = 1
    score_map = np.zeros((8, 8), dtype=np.float32)
    score_map[2, 3] = 0.9
    return dict(
        image=image, gt_mask=truth, pred_mask=pred, score_map=score_map,
        gt_box=[30, 20, 70, 60], pred_box=[40, 20, 80, 60],
    )  # fmt: skip


def _has_color(picture, color, tolerance=12):
    return (np.abs(picture.astype(int) - color).max(axis=2) < tolerance).any()


def _panels(picture, count):
    """Equal vertical strips of the picture, one for each panel."""
    return np.array_split(picture, count, axis=1)


@pytest.mark.parametrize(
    'size, panel',
    [
        ((128, 128), (256, 256)),
        ((480, 640), (480, 640)),
        ((1000, 2000), (320, 640)),
        ((100, 50), (512, 256)),
    ],
)
def test_size_of_panels(size, panel):
    picture = draw_grounding(np.zeros((*size, 3), np.uint8), 'a cup', gt_box=[1, 1, 9, 9])
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    assert picture.shape[1] == 2 * panel[1] + 3 * 10
    assert panel[0] + 30 < picture.shape[0] < panel[0] + 130
    # The black input is found whole at the lower left.
    left = picture[-10 - panel[0] : -10, 10 : 10 + panel[1]]
    assert not left.any()


def test_panels_show_what_is_given():
    scene = _scene()
    picture = draw_grounding(sentence='the cup', **scene)
    first, truth, pred, scores = _panels(picture, 4)
    assert _has_color(truth, TRUTH_COLOR) and not _has_color(truth, PRED_COLOR)
    assert _has_color(pred, PRED_COLOR) and not _has_color(pred, TRUTH_COLOR)
    assert not _has_color(first, TRUTH_COLOR) and not _has_color(first, PRED_COLOR)
    # The score map is hot (red over blue) around its peak.
    body = scores[-266:-10]
    row, column = 2 * 256 // 8, 3 * 256 // 8  # where centres that round to this cell lie
    assert (body[row, column] == 255).all()  # the middle of the cross
    near = body[row - 13 : row - 9, column + 10 : column + 14].reshape(-1, 3).mean(axis=0)
    far = body[-40:, -60:-20].reshape(-1, 3).mean(axis=0)
    assert near[0] - near[2] > far[0] - far[2] + 40
    alone = draw_grounding(scene['image'], 'the cup')
    assert alone.shape[1] == 256 + 20


def test_the_mask_is_where_it_was():
    scene = _scene()
    picture = draw_grounding(scene['image'], 'x', gt_mask=scene['gt_mask'])
    panel = picture[-266:-10, -266:-10].astype(int)
    green = panel[..., 1] - panel[..., 0] > 30
    expected = cv2.resize(scene['gt_mask'], (256, 256), interpolation=cv2.INTER_NEAREST) > 0
    assert (green & expected).sum() / (green | expected).sum() > 0.93


def test_input_is_not_changed():
    scene = _scene(480, 640)
    before = {key: np.array(value).copy() for key, value in scene.items()}
    draw_grounding(sentence='x', **scene)
    for key, value in before.items():
        np.testing.assert_array_equal(scene[key], value)


def test_sentence_is_wrapped_within_the_picture():
    font = _font(20)
    text = 'a ' + 'very long sentence ' * 20 + 'W' * 100
    lines = _wrap(text, font, 300)
    assert all(font.getlength(line) <= 300 for line in lines)
    assert ''.join(lines).replace(' ', '') == text.replace(' ', '')
    assert _wrap('', font, 300) == ['']
    image = np.zeros((128, 128, 3), np.uint8)
    short, long = draw_grounding(image, 'cup'), draw_grounding(image, text)
    assert long.shape[1] == short.shape[1] and long.shape[0] > short.shape[0] + 100
    # Nothing is drawn in the margins.
    assert (long[:, :8] == 255).all() and (long[:, -8:] == 255).all()


def test_edge_cases_draw():
    image = np.zeros((64, 64, 3), np.uint8)
    picture = draw_grounding(image, 'x', gt_box=[0, 0, 64, 64], pred_box=[-30, -30, 200, 200])
    _, truth, pred = _panels(picture, 3)
    assert _has_color(truth, TRUTH_COLOR) and _has_color(pred, PRED_COLOR)
    picture = draw_grounding(image, 'x', gt_box=[5, 5, 5.2, 5.2], gt_mask=np.zeros((64, 64)))
    assert _has_color(_panels(picture, 2)[1], TRUTH_COLOR)
    flat = draw_grounding(image, '猫 <b>%s</b> \n', score_map=np.zeros((28, 28)), score=0.5)
    assert flat.shape[1] == 2 * 256 + 30
    thin = np.zeros((3, 2000, 3), np.uint8)
    picture = draw_grounding(thin, 'a thin picture', pred_box=[1, 1, 9, 2])
    assert picture.shape[1] == 2 * 640 + 30


def test_wrong_input():
    with pytest.raises(ValueError, match=r'image of shape \(4, 4\)'):
        draw_grounding(np.zeros((4, 4), np.uint8), 'x')
    with pytest.raises(ValueError, match='float64'):
        draw_grounding(np.zeros((4, 4, 3)), 'x')
    with pytest.raises(ValueError, match=r'pred_mask of shape \(3, 4\)'):
        draw_grounding(np.zeros((4, 4, 3), np.uint8), 'x', pred_mask=np.zeros((3, 4)))


def _data_sample(path, index=0, with_mask=True):
    scene = _scene()
    sample = DetDataSample(
        metainfo=dict(img_path=str(path), text=f'thing {index}', with_mask=with_mask)
    )
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([scene['gt_box']], dtype=torch.float32),
        masks=BitmapMasks(scene['gt_mask'][None], 128, 128),
    )
    sample.pred_instances = InstanceData(
        bboxes=torch.tensor([scene['pred_box']], dtype=torch.float32),
        scores=torch.tensor([0.7]),
        masks=torch.from_numpy(scene['pred_mask'][None]).bool(),
    )
    sample.set_field(torch.from_numpy(scene['score_map']), 'pred_score_map')
    return sample


def test_draw_data_sample_equals_draw_grounding():
    scene = _scene()
    sample = _data_sample('x.jpg')
    np.testing.assert_array_equal(
        draw_data_sample(scene['image'], sample),
        draw_grounding(sentence='thing 0', score=0.7, **scene),
    )
    sample = _data_sample('x.jpg', with_mask=False)
    scene['gt_mask'] = None
    np.testing.assert_array_equal(
        draw_data_sample(scene['image'], sample),
        draw_grounding(sentence='thing 0', score=0.7, **scene),
    )
    bare = DetDataSample(metainfo=dict(text='only a sentence'))
    assert draw_data_sample(scene['image'], bare).shape[1] == 276


class _Loader:
    def __init__(self, size):
        self.dataset = range(size)


class _Runner:
    def __init__(self, work_dir, size):
        self.work_dir, self.timestamp, self.epoch = str(work_dir), '20260101_000000', 0
        self.iter = 0
        self.val_dataloader = self.test_dataloader = _Loader(size)


def _run(hook, runner, samples, stage, batch=3):
    getattr(hook, f'before_{stage}_epoch')(runner)
    for index, start in enumerate(range(0, len(samples), batch)):
        step = getattr(hook, f'after_{stage}_iter')
        step(runner, index, None, samples[start : start + batch])


@pytest.fixture
def samples(tmp_path):
    path = tmp_path / 'pic ture.png'
    cv2.imwrite(str(path), np.full((128, 128, 3), 128, np.uint8))
    return [_data_sample(path, i) for i in range(10)]


def test_hook_draws_evenly_spread_samples(tmp_path, samples):
    hook = HOOKS.build(dict(type='RefVisualizationHook', num_samples=4))
    runner = _Runner(tmp_path, 10)
    _run(hook, runner, samples, 'test')
    folder = tmp_path / '20260101_000000' / 'vis_data' / 'grounding' / 'test'
    assert sorted(p.name for p in folder.iterdir()) == [
        f'{i:05d}_pic_ture.jpg' for i in (0, 3, 6, 9)
    ]
    picture = cv2.imread(str(folder / '00003_pic_ture.jpg'))
    assert picture.shape[1] == 4 * 256 + 50
    expected = draw_data_sample(np.full((128, 128, 3), 128, np.uint8), samples[3])[..., ::-1]
    assert np.abs(picture.astype(int) - expected).mean() < 3  # JPEG, in the right channel order


def test_hook_interval_folder_and_switch(tmp_path, samples):
    out = tmp_path / 'out'
    hook = HOOKS.build(
        dict(type='RefVisualizationHook', num_samples=-1, interval=2, out_dir=str(out))
    )
    runner = _Runner(tmp_path, 10)
    for epoch in range(1, 5):
        runner.epoch, runner.iter = epoch, 50 * epoch
        _run(hook, runner, samples, 'val')
    assert sorted(p.name for p in out.iterdir()) == [
        'val_epoch_1_iter_50',
        'val_epoch_3_iter_150',
    ]
    assert all(len(list(p.iterdir())) == 10 for p in out.iterdir())
    quiet = HOOKS.build(dict(type='RefVisualizationHook', draw=False, out_dir=str(tmp_path / 'no')))
    _run(quiet, runner, samples, 'test')
    assert not (tmp_path / 'no').exists()
    with pytest.raises(ValueError, match='interval=0'):
        HOOKS.build(dict(type='RefVisualizationHook', interval=0))
