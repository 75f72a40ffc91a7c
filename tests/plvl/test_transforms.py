from pathlib import Path

import cv2
import mmcv
import numpy as np
import pycocotools.mask as mask_utils
import pytest
import torch
from mmcv.transforms import Compose
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import DATASETS, TRANSFORMS
from PIL import Image

import projects.plvl.datasets  # noqa: F401  registers
from projects.plvl.datasets import Invalid
from projects.plvl.datasets.transforms import RandomSafeCrop, swap_left_right

CONFIGS = Path(__file__).parents[2] / 'configs'
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
META_KEYS = ('img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'text', 'with_mask')


def _results(box=(20.25, 30.5, 60.75, 50.0), height=120, width=160, text='the cup', mask=True):
    """A loaded image in which exactly the box's pixels are bright."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    inside = (columns > box[0]) & (columns < box[2]) & (rows > box[1]) & (rows < box[3])
    img = np.where(inside[..., None], 255, 0).astype(np.uint8).repeat(3, axis=2)
    results = dict(
        img=img,
        img_path='x.jpg',
        ori_shape=(height, width),
        img_shape=(height, width),
        height=height,
        width=width,
        text=text,
        instances=[dict(bbox=list(box), bbox_label=0, ignore_flag=0)],
    )
    if mask:
        rle = mask_utils.encode(np.asfortranarray(inside.astype(np.uint8)))
        results['instances'][0]['mask'] = dict(size=rle['size'], counts=rle['counts'].decode())
    return results


def _load(**kwargs):
    results = _results(**kwargs)
    return TRANSFORMS.build(dict(type='LoadGroundingAnnotations'))(results)


def _agree(results, tolerance=1.5):
    """Image, mask and box show the same object, up to the rounding of a resize."""
    height, width = results['img_shape']
    assert results['img'].shape[:2] == (height, width)
    mask = results['gt_masks'].masks[0]
    assert mask.shape == (height, width)
    assert (results['gt_masks'].height, results['gt_masks'].width) == (height, width)
    assert results['gt_bboxes'].tensor.dtype == torch.float32
    box = results['gt_bboxes'].tensor[0].numpy()
    assert box[0] >= 0 and box[1] >= 0 and box[2] <= width and box[3] <= height
    for shown in (mask > 0, results['img'][..., 0] > 127):
        rows, columns = np.nonzero(shown)
        extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(extent, box, atol=tolerance)


# ---- loading


def test_load_grounding_annotations():
    results = _load()
    assert isinstance(results['gt_bboxes'], HorizontalBoxes)
    assert results['gt_bboxes'].tensor.tolist() == [[20.25, 30.5, 60.75, 50.0]]
    assert results['gt_bboxes_labels'].tolist() == [0]
    assert results['with_mask'] is True
    _agree(results)


def test_without_mask_it_is_all_zero_and_flagged():
    results = _load(mask=False)
    assert results['with_mask'] is False
    assert isinstance(results['gt_masks'], BitmapMasks)
    assert results['gt_masks'].masks.shape == (1, 120, 160) and not results['gt_masks'].masks.any()


@pytest.mark.parametrize(
    'change, message',
    [
        (
            dict(height=160, width=120),
            'wrong image size: .* of 120x160 pixels, .* one of 160x120',
        ),
        (dict(bbox=[0, 0, 500, 10]), 'degenerate box'),
        (dict(mask=[[1, 2, 3, 4]]), 'invalid mask'),
        (dict(mask=[[500, 500, 520, 500, 520, 520]]), 'invalid mask'),
        (
            dict(mask=dict(size=[5, 5], counts=[0, 25])),
            'of 160x120 pixels, .*, found one of 5x5',
        ),
        (dict(mask='none.png'), 'none.png does not exist'),
    ],
)
def test_annotations_that_do_not_fit_raise(change, message):
    results = _results()
    for key, value in change.items():
        (results if key in results else results['instances'][0])[key] = value
    with pytest.raises(Invalid, match=message):
        TRANSFORMS.build(dict(type='LoadGroundingAnnotations'))(results)


# ---- words


@pytest.mark.parametrize(
    'text, mirrored',
    [
        ('left cat', 'right cat'),
        ('the cat to the right of the left dog', 'the cat to the left of the right dog'),
        ('Left', 'Right'),
        ('FAR RIGHT!', 'FAR LEFT!'),
        ('leftmost and Rightmost', 'rightmost and Leftmost'),
        ('left-most, right-hand side', 'right-most, left-hand side'),
        ("the left's lefthand lefty", "the right's righthand righty"),
        ('leftside (right)', 'rightside (left)'),
        ('topleft bottom-right upperright', 'topright bottom-left upperleft'),
        ('leftwards rightward', 'rightwards leftward'),
        ('left2', 'right2'),
        ('bright light over the leftover', 'bright light over the leftover'),
        ('cleft upright fright aright', 'cleft upright fright aright'),
        ('copyright rightful outright', 'copyright rightful outright'),
        ('', ''),
    ],
)
def test_swap_left_right(text, mirrored):
    assert swap_left_right(text) == mirrored
    assert swap_left_right(mirrored) == text


@pytest.mark.parametrize('text', ['bright left', 'leftover rights', 'leftright', 'Right LEFT', ''])
def test_released_swap_is_anywhere(text):
    lower = text.lower()
    released = lower.replace('right', '?').replace('left', 'right').replace('?', 'left')
    assert swap_left_right(text, whole_words=False).lower() == released
    flip = TRANSFORMS.build(dict(type='RandomFlipWithWords', prob=1.0, whole_words=False))
    assert flip(_load(text=lower))['text'] == released


def test_flip_mirrors_everything():
    before = _load(text='Left bright cup')
    img, mask = before['img'].copy(), before['gt_masks'].masks.copy()
    after = TRANSFORMS.build(dict(type='RandomFlipWithWords', prob=1.0))(before)
    assert after['flip'] is True and after['text'] == 'Right bright cup'
    np.testing.assert_array_equal(after['img'], img[:, ::-1])
    np.testing.assert_array_equal(after['gt_masks'].masks, mask[:, :, ::-1])
    np.testing.assert_allclose(after['gt_bboxes'].tensor, [[160 - 60.75, 30.5, 160 - 20.25, 50.0]])
    _agree(after)


def test_no_flip_changes_nothing():
    after = TRANSFORMS.build(dict(type='RandomFlipWithWords', prob=0.0))(_load(text='left cup'))
    assert after['flip'] is False and after['text'] == 'left cup'
    np.testing.assert_array_equal(after['img'], _results()['img'])


def test_flip_rate():
    flip = TRANSFORMS.build(dict(type='RandomFlipWithWords', prob=0.5))
    np.random.seed(0)
    flips = [flip(_load(text='left'))['text'] == 'right' for _ in range(400)]
    assert 150 < sum(flips) < 250


# ---- crop


def _random_box(rng, height, width):
    x = np.sort(rng.uniform(0, width, 2))
    y = np.sort(rng.uniform(0, height, 2))
    box = [x[0], y[0], max(x[1], x[0] + 3), max(y[1], y[0] + 3)]
    return [float(v) for v in np.clip(box, 0, [width, height, width, height])]


@pytest.mark.parametrize('short_sides', [None, (80, 100, 150)])
def test_crop_keeps_the_whole_object(short_sides):
    crop = RandomSafeCrop(prob=1.0, short_sides=short_sides, crop_range=(60, 90))
    rng = np.random.default_rng(0)
    np.random.seed(0)
    shapes = set()
    for _ in range(300):
        height, width = int(rng.integers(70, 140)), int(rng.integers(70, 140))
        box = _random_box(rng, height, width)
        if box[2] - box[0] < 3 or box[3] - box[1] < 3:
            continue
        results = _load(box=box, height=height, width=width)
        sizes = results['gt_bboxes'].tensor.clone()
        pixels = int(results['gt_masks'].masks.sum())
        results = crop(results)
        _agree(results, tolerance=1.01 if short_sides is None else 2.5)
        shapes.add(results['img_shape'])
        if short_sides is None:
            # Without a resize the box keeps its exact size and the mask all its pixels.
            new = results['gt_bboxes'].tensor
            torch.testing.assert_close(new[:, 2:] - new[:, :2], sizes[:, 2:] - sizes[:, :2])
            assert int(results['gt_masks'].masks.sum()) == pixels
            object_size = np.ceil(sizes[0, 2:].numpy()) - np.floor(sizes[0, :2].numpy())
            for side, limit, needed in zip(
                results['img_shape'][::-1], (width, height), object_size
            ):
                assert min(60, limit) <= side <= max(min(90, limit), needed)
    assert len(shapes) > 100


def test_crop_of_an_object_larger_than_the_crop():
    results = RandomSafeCrop(prob=1.0, short_sides=None, crop_range=(30, 40))(
        _load(box=(10.5, 5.25, 150.5, 110.75))
    )
    assert results['img_shape'] == (106, 141)
    np.testing.assert_allclose(results['gt_bboxes'].tensor, [[0.5, 0.25, 140.5, 105.75]])
    whole = RandomSafeCrop(prob=1.0, short_sides=None, crop_range=(30, 40))(
        _load(box=(0.0, 0.0, 160.0, 120.0))
    )
    assert whole['img_shape'] == (120, 160)


def test_crop_keeps_a_mask_that_reaches_beyond_its_box():
    crop = RandomSafeCrop(prob=1.0, short_sides=None, crop_range=(30, 40))
    np.random.seed(0)
    for _ in range(50):
        results = _results(box=(60.0, 50.0, 80.0, 60.0))
        wide = [[50, 45, 88, 45, 88, 66, 50, 66]]
        results['instances'][0]['mask'] = wide
        results = TRANSFORMS.build(dict(type='LoadGroundingAnnotations'))(results)
        pixels = results['gt_masks'].masks.sum()
        assert crop(results)['gt_masks'].masks.sum() == pixels


def test_crop_without_mask():
    results = RandomSafeCrop(prob=1.0, short_sides=None, crop_range=(60, 70))(_load(mask=False))
    assert results['gt_masks'].masks.shape[1:] == results['img_shape']


def test_crop_sides_are_the_papers():
    crop = RandomSafeCrop(prob=1.0)
    np.random.seed(0)
    sides = set()
    for _ in range(60):
        results = crop(_load(height=240, width=320))
        assert all(384 <= side <= 600 for side in results['img_shape'])
        sides.add(results['img_shape'])
        _agree(results, tolerance=4)
    assert len(sides) > 30


@pytest.mark.parametrize(
    'text',
    [
        'left cup', 'cup on the RIGHT', 'top shelf', 'bottom', 'the middle one', 'centre',
        'leftmost', 'lefthand', 'upper cup', 'second cup from the window', '3rd', 'lower-corner',
        'topleft',
    ],
)  # fmt: skip
def test_direction_words_forbid_the_crop(text):
    results = RandomSafeCrop(prob=1.0, crop_range=(30, 40))(_load(text=text))
    assert results['img_shape'] == (120, 160)


@pytest.mark.parametrize('text', ['bright cup', 'the leftover food', 'stopped car', 'the cup'])
def test_other_words_do_not(text):
    results = RandomSafeCrop(prob=1.0, short_sides=None, crop_range=(50, 60))(_load(text=text))
    assert results['img_shape'] != (120, 160)


def test_words_are_an_argument():
    crop = RandomSafeCrop(prob=1.0, short_sides=None, crop_range=(50, 60), words=('cup',))
    assert crop(_load(text='red Cup'))['img_shape'] == (120, 160)
    assert crop(_load(text='left mug'))['img_shape'] != (120, 160)


@pytest.mark.parametrize(
    'text, crops',
    [
        ('the bright cup', False),  # b-right
        ('a laptop', False),  # lap-top
        ('TOP shelf', False),
        ('the second cup', True),  # not one of the five
        ('centre', True),
        ('the cup', True),
    ],
)
def test_released_words_are_five_anywhere(text, crops):
    words = ('left', 'right', 'top', 'bottom', 'middle')
    crop = RandomSafeCrop(
        prob=1.0, short_sides=None, crop_range=(50, 60), words=words, whole_words=False
    )
    assert (crop(_load(text=text))['img_shape'] != (120, 160)) is crops


def test_crop_resizes_with_pil():
    crop = RandomSafeCrop(prob=1.0, short_sides=(60,), crop_range=(999, 999), backend='pillow')
    results = crop(_load())
    expected = Image.fromarray(_results()['img']).resize((80, 60), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(results['img'], np.asarray(expected))
    with_cv2 = RandomSafeCrop(prob=1.0, short_sides=(60,), crop_range=(999, 999))(_load())
    assert not np.array_equal(with_cv2['img'], results['img'])


def test_crop_probability_and_arguments():
    crop = RandomSafeCrop(prob=0.5, short_sides=None, crop_range=(60, 70))
    np.random.seed(0)
    cropped = sum(crop(_load())['img_shape'] != (120, 160) for _ in range(300))
    assert 110 < cropped < 190
    for wrong in (dict(prob=1.5), dict(crop_range=(50, 40)), dict(crop_range=(0, 40))):
        with pytest.raises(ValueError, match='RandomSafeCrop'):
            RandomSafeCrop(**wrong)


# ---- the released resize


def _released_resize(image, size=448):
    """Longer side to ``size`` by PIL, then torch: normalised, (H, W, 3)."""
    ratio = size / max(image.size)
    width, height = (round(side * ratio) for side in image.size)
    pixels = np.array(image.resize((width, height), Image.Resampling.BILINEAR))
    x = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    x = torch.nn.functional.interpolate(
        ((x - mean) / std)[None], size=(size, size), mode='bilinear', align_corners=True
    )
    return x[0].permute(1, 2, 0).numpy()


def _normalised(pixels):
    return (pixels / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)


def test_released_resize_is_pil_then_align_corners(shared_data):
    steps = Config.fromfile(CONFIGS / '_base_/datasets/refcoco_448.py')
    names = ('test_pipeline', 'released_test_pipeline')
    ours, released = (
        Compose([TRANSFORMS.build(step) for step in steps[name] if 'Resize' in step.type])
        for name in names
    )
    paths = sorted((shared_data / 'refcoco_sample/images/train2014').glob('*.jpg'))
    differences = []
    for path in paths:
        image = Image.open(path).convert('RGB')
        expected = _released_resize(image)
        found = released(dict(img=np.asarray(image)))
        assert found['img'].dtype == np.float32 and found['img_shape'] == (448, 448)
        np.testing.assert_allclose(_normalised(found['img']), expected, atol=2e-6)
        one_step = _normalised(ours(dict(img=np.asarray(image)))['img'])
        differences.append(np.abs(one_step - expected).mean())
    assert 0.045 < np.mean(differences) < 0.065  # what a checkpoint sees otherwise: 0.051


def test_align_corners_keeps_box_and_mask_together():
    stretch = TRANSFORMS.build(
        dict(type='GroundingResize', scale=(96, 240), keep_ratio=False, align_corners=True)
    )
    results = stretch(_load())
    assert results['scale_factor'] == (96 / 160, 240 / 120)
    assert results['img'].dtype == np.float32 and results['img'].flags.c_contiguous
    _agree(results, tolerance=2)
    corners = _load()
    corners['img'][-1, -1] = 200
    assert (stretch(corners)['img'][-1, -1] == 200).all()  # not averaged with its neighbours


@pytest.mark.parametrize(
    'wrong', [dict(keep_ratio=True), dict(backend='pillow'), dict(interpolation='nearest')]
)
def test_align_corners_refuses_what_it_would_ignore(wrong):
    with pytest.raises(ValueError, match='GroundingResize: align_corners=True'):
        TRANSFORMS.build(dict(type='GroundingResize', scale=(9, 9), align_corners=True, **wrong))


def test_released_train_pipeline_runs_on_real_images(shared_data):
    import mmpretrain.datasets.transforms  # noqa: F401  registers

    cfg = Config.fromfile(CONFIGS / '_base_/datasets/refcoco_448.py')
    dataset = DATASETS.build(
        {
            **cfg.train_dataloader.dataset,
            'data_root': str(shared_data / 'refcoco_sample'),
            'pipeline': cfg.released_train_pipeline,
        }
    )
    np.random.seed(0)
    for index in range(0, len(dataset), 5):
        packed = dataset[index]
        assert packed['inputs'].shape == (3, 448, 448)
        assert packed['inputs'].dtype == torch.float32
        truth = packed['data_samples'].gt_instances
        assert truth.masks.masks.shape == (1, 448, 448) and truth.masks.masks.any()
        x1, y1, x2, y2 = truth.bboxes.tensor[0].tolist()
        rows, columns = np.nonzero(truth.masks.masks[0])
        assert abs(columns.mean() - (x1 + x2) / 2) < max(20, (x2 - x1) / 2)
        assert abs(rows.mean() - (y1 + y2) / 2) < max(20, (y2 - y1) / 2)


# ---- the whole pipeline


def _train_pipeline(size=(112, 112), resize='GroundingResize'):
    return Compose(
        [
            TRANSFORMS.build(cfg)
            for cfg in (
                dict(type='LoadGroundingAnnotations'),
                dict(
                    type='RandomSafeCrop', prob=0.5, short_sides=(100, 125, 150),
                    crop_range=(96, 150),
                ),
                dict(type='RandomFlipWithWords', prob=0.5),
                dict(
                    type='RandomChoiceResize',
                    scales=[(112 - 8 * i, 112 - 8 * i) for i in range(7)],
                    resize_type=resize,
                    keep_ratio=True,
                ),
                dict(type=resize, scale=size, keep_ratio=False),
                dict(
                    type='RandomApply',
                    prob=0.8,
                    transforms=[
                        dict(
                            type='mmpretrain.ColorJitter', brightness=0.4, contrast=0.4,
                            saturation=0.4, backend='cv2',
                        )
                    ],
                ),
            )
        ]
    )  # fmt: skip


def test_training_pipeline_keeps_image_box_and_mask_together():
    import mmpretrain.datasets.transforms  # noqa: F401  registers

    pipeline = _train_pipeline()
    rng = np.random.default_rng(1)
    np.random.seed(1)
    for _ in range(150):
        height, width = int(rng.integers(100, 200)), int(rng.integers(100, 200))
        x, y = rng.uniform(0, width - 30), rng.uniform(0, height - 30)
        results = pipeline(_results((x, y, x + 30, y + 30), height, width))
        assert results['img_shape'] == (112, 112) and results['img'].dtype == np.uint8
        box = results['gt_bboxes'].tensor[0].numpy()
        assert results['gt_masks'].masks.shape == (1, 112, 112)
        rows, columns = np.nonzero(results['gt_masks'].masks[0])
        extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(extent, box, atol=3)
        rows, columns = np.nonzero(results['img'][..., 0] > 70)
        extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(extent, box, atol=4)


def test_masks_do_not_drift_in_repeated_resizes():
    rng = np.random.default_rng(2)
    drift = {'GroundingResize': [], 'mmdet.Resize': []}
    for name, offsets in drift.items():
        steps = [
            TRANSFORMS.build(dict(type=name, scale=scale, keep_ratio=keep_ratio))
            for scale, keep_ratio in (((150, 150), True), ((80, 80), True), ((112, 112), False))
        ]
        for _ in range(200):
            x, y = rng.uniform(0, 120), rng.uniform(0, 80)
            results = _load(box=(x, y, x + 40, y + 40))
            for step in steps:
                results = step(results)
            rows, columns = np.nonzero(results['gt_masks'].masks[0])
            x1, y1, x2, y2 = results['gt_bboxes'].tensor[0].tolist()
            offsets.append(
                (columns.mean() + 0.5 - (x1 + x2) / 2, rows.mean() + 0.5 - (y1 + y2) / 2)
            )
    assert np.abs(np.mean(drift['GroundingResize'], axis=0)).max() < 0.1
    assert np.mean(drift['mmdet.Resize'], axis=0).min() > 0.5  # what it is there for


def test_training_pipeline_is_reproducible():
    pipeline = _train_pipeline()

    def run(seed):
        np.random.seed(seed)
        return pipeline(_results(text='left cup', box=(30, 30, 60, 60)))

    first, second, other = run(3), run(3), run(4)
    np.testing.assert_array_equal(first['img'], second['img'])
    assert first['text'] == second['text']
    assert not np.array_equal(first['img'], other['img'])


def test_color_jitter_reads_bgr():
    # Saturation 0 gives each pixel the grey of its red, green and blue weights.
    jitter = TRANSFORMS.build(
        dict(type='mmpretrain.ColorJitter', saturation=(0.0, 0.0), backend='cv2')
    )
    blue, green, red = 10, 200, 90
    image = np.full((4, 4, 3), (blue, green, red), dtype=np.uint8)
    grey = jitter(dict(img=image))['img']
    assert abs(int(grey[0, 0, 0]) - (0.114 * blue + 0.587 * green + 0.299 * red)) <= 1


@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_color_jitter_by_tables_is_mmpretrains(dtype):
    """To the bit, whatever the order and the factors."""
    rng = np.random.default_rng(0)
    factors = dict(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.2)
    ours = TRANSFORMS.build(dict(type='LookupColorJitter', **factors))
    theirs = TRANSFORMS.build(dict(type='mmpretrain.ColorJitter', backend='cv2', **factors))
    for seed in range(100):
        size = rng.integers(1, 90, 2)
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        image = (image // rng.integers(1, 9)).astype(dtype)
        results = []
        for jitter in (ours, theirs):
            np.random.seed(seed)
            results.append(jitter(dict(img=image.copy()))['img'])
        assert results[0].dtype == results[1].dtype == dtype
        assert np.array_equal(*results)


def test_training_converts_no_image_to_float(repo_root, monkeypatch):
    """The color jitter of the recipe took half of the time of a sample for that."""
    cfg = Config.fromfile(repo_root / 'configs/_base_/datasets/refcoco_448.py')
    (jitter,) = (step for step in cfg.train_pipeline if step.type == 'RandomApply')
    sizes = []
    real = cv2.addWeighted

    def add_weighted(one, *args):
        sizes.append(one.size if one.dtype != np.uint8 else 0)
        return real(one, *args)

    monkeypatch.setattr(cv2, 'addWeighted', add_weighted)
    np.random.seed(0)
    for _ in range(5):
        TRANSFORMS.build(jitter)(dict(img=np.zeros((40, 50, 3), np.uint8)))
    assert sizes and max(sizes) <= 256


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_views_are_resized_as_copies(backend, monkeypatch):
    """Reversed channels (of Pillow's decoder), reversed columns (of a flip), and both."""
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    seen = []
    real = mmcv.imresize
    monkeypatch.setattr(
        mmcv, 'imresize', lambda im, *a, **k: (seen.append(im), real(im, *a, **k))[1]
    )
    resize = TRANSFORMS.build(
        dict(type='GroundingResize', scale=(20, 20), keep_ratio=False, backend=backend)
    )
    for view in (image, image[..., ::-1], image[:, ::-1], image[:, ::-1, ::-1]):
        found = resize(dict(img=view))['img']
        assert np.array_equal(found, resize(dict(img=view.copy()))['img'])
    assert all(each.flags.c_contiguous for each in seen) and len(seen) == 8


def test_reprs():
    for cfg in ('RandomSafeCrop', 'RandomFlipWithWords', 'LoadGroundingAnnotations'):
        assert repr(TRANSFORMS.build(dict(type=cfg))).startswith(cfg)
