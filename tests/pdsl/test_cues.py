"""Bottom-up cues: GrabCut's exact mode, the cache, masks of other origin, targets in RoI space."""

import subprocess
import sys
import time
from functools import partial
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import MODELS

from projects.pdsl.cues import (
    BottomUpCue,
    CachedCue,
    GrabCutCue,
    MaskStore,
    SegmentFileCue,
    crop_masks,
    threshold_in_roi,
    windows,
)
from projects.pdsl.cues.base import crops_of
from projects.pdsl.cues.grabcut import grabcut_rectangle
from projects.pdsl.cues.roi_targets import crop_window
from projects.pdsl.geometry import pairwise_iou


def disc_picture(height=96, width=128, seed=0):
    """A red disc (centre 50, 40; radius 20) on noisy green, and its mask."""
    rng = np.random.default_rng(seed)
    image = rng.normal((60, 140, 60), 12, (height, width, 3))
    y, x = np.mgrid[:height, :width]
    disc = (x - 50) ** 2 + (y - 40) ** 2 <= 20**2
    image[disc] = rng.normal((50, 40, 200), 12, (disc.sum(), 3))
    return image.clip(0, 255).astype(np.uint8), disc


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def random_boxes(count, height, width, seed=0):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 0.6, (count, 2)) * (width, height)
    side = rng.uniform(0.2, 0.4, (count, 2)) * (width, height)
    return np.concatenate([corner, corner + side], axis=1)


# ------------------------------------------------------------------------------- exact GrabCut


def test_grabcut_finds_the_object():
    image, disc = disc_picture()
    masks = MODELS.build(dict(type='GrabCutCue'))(image, np.array([[26, 16, 76, 66]]))
    assert masks.shape == (1, 96, 128) and masks.dtype == bool
    assert iou(masks[0], disc) > 0.97


def test_published_path_for_one_box():
    """The same as OpenCV called by hand as the released code does, for the seed of the call."""
    image, _ = disc_picture(400, 300)
    rectangle = (20, 10, 61, 71)  # of the truncated box, last pixel included
    seen = []
    cue = GrabCutCue()
    real = cue._cut
    cue._cut = lambda image, rect, view: seen.append((rect, view)) or real(image, rect, view)
    found = cue(image, np.array([[20.9, 10.2, 80.7, 80.99]]))[0]
    assert seen[0][0] == rectangle
    mask = np.zeros((400, 300), np.uint8)
    # Where the colours separate the result depends on no random state.
    cv2.grabCut(image, mask, rectangle, np.zeros((1, 65)), np.zeros((1, 65)), 5, 0)
    assert iou(found, mask % 2 == 1) > 0.99


def test_any_number_of_threads_and_any_order():
    rng = np.random.default_rng(3)
    patches = rng.integers(0, 255, (7, 9, 3), dtype=np.uint8)
    image = cv2.resize(patches, (120, 90), interpolation=cv2.INTER_NEAREST)
    boxes = random_boxes(8, 90, 120)
    boxes = np.concatenate([boxes, boxes[:2]])
    one = GrabCutCue(num_threads=1)(image, boxes)
    cv2.setRNGSeed(99)  # whatever ran before does not count
    many = GrabCutCue(num_threads=5)(image, boxes)
    assert np.array_equal(one, many)
    order = rng.permutation(len(boxes))
    assert np.array_equal(GrabCutCue(num_threads=3)(image, boxes[order]), one[order])
    assert np.array_equal(GrabCutCue()(image, boxes[4:5]), one[4:5])
    # On such an image the random state matters: another seed gives other masks.
    assert not np.array_equal(GrabCutCue(seed=1)(image, boxes), one)


def test_identical_rectangles_are_computed_once(monkeypatch):
    image, _ = disc_picture()
    calls = []
    real = cv2.grabCut
    monkeypatch.setattr(cv2, 'grabCut', lambda *a: calls.append(a[2]) or real(*a))
    boxes = np.array([[26.1, 16, 76, 66], [26.9, 16.5, 76.4, 66.2], [20, 16, 76, 66]])
    masks = GrabCutCue(num_threads=2)(image, boxes)
    assert sorted(calls) == [(20, 16, 57, 51), (26, 16, 51, 51)]
    assert np.array_equal(masks[0], masks[1])


def test_special_boxes():
    image, disc = disc_picture()
    boxes = np.array(
        [
            [0, 0, 128, 96],  # the whole image
            [-10, -10, 140, 120],  # more than that
            [60, 60, 61.5, 61.5],  # tiny
            [100, 70, 150, 120],  # over the corner
            [130, 10, 150, 30],  # outside
            [60, 60, 60, 80],  # no area
            [70, 60, 60, 80],  # corners in the wrong order
        ]
    )
    masks = GrabCutCue()(image, boxes)
    assert iou(masks[0], disc) > 0.9 and np.array_equal(masks[0], masks[1])
    assert masks[2].nonzero()[0].tolist() == [60, 60, 61, 61] and masks[2][60:62, 60:62].all()
    assert masks[3][70:, 100:].any() and not masks[3][:69].any() and not masks[3][:, :99].any()
    assert not masks[4:].any()
    assert GrabCutCue()(image, np.zeros((0, 4))).shape == (0, 96, 128)


def test_flat_picture_gives_the_box():
    flat = np.full((60, 80, 3), 77, np.uint8)
    masks = GrabCutCue()(flat, np.array([[10, 20, 30, 50], [0, 0, 80, 60]]))
    assert masks[0].sum() == 20 * 30 and masks[0][20:50, 10:30].all()
    assert masks[1].all()


@pytest.mark.parametrize('size', [(1, 1), (1, 9), (3, 3), (6, 6), (7, 7), (2, 500)])
def test_tiny_pictures(size):
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    height, width = size
    masks = GrabCutCue()(image, np.array([[0, 0, width, height], [0, 0, width, height / 2]]))
    assert masks.any(axis=(1, 2)).all()


def test_rectangles_by_hand():
    # Scaled by 0.5, truncated, last pixel included.
    assert grabcut_rectangle(np.array([21, 41, 60, 99.0]), (800, 600), (400, 300)) == (
        10,
        20,
        21,
        30,
    )
    assert grabcut_rectangle(np.array([0, 0, 600, 800.0]), (800, 600), (400, 300)) == (
        3,
        3,
        294,
        394,
    )
    assert grabcut_rectangle(np.array([10, 10, 13, 13.0]), (800, 600), (400, 300)) is None  # 4 px
    assert grabcut_rectangle(np.array([10, 10, 15, 15.0]), (800, 600), (400, 300)) == (5, 5, 3, 3)


def test_large_pictures_are_scaled():
    image, _ = disc_picture()
    large = cv2.resize(image, None, fx=4, fy=4)
    mask = GrabCutCue(max_side=128)(large, np.array([[104, 64, 304, 264]]))[0]
    y, x = np.mgrid[:384, :512]
    assert iou(mask, (x - 201.5) ** 2 + (y - 161.5) ** 2 <= 80**2) > 0.95


@pytest.mark.parametrize(
    'image, boxes, words',
    [
        (np.zeros((5, 5), np.uint8), [[0, 0, 1, 1]], r'shape \(5, 5\)'),
        (np.zeros((5, 5, 3)), [[0, 0, 1, 1]], 'found float64'),
        (np.zeros((5, 5, 3), np.uint8), [[0, 0, 1]], r'found shape \(1, 3\)'),
        (np.zeros((5, 5, 3), np.uint8), [[0, 0, 1, 1], [0, 0, np.nan, 1]], 'box 1 is'),
    ],
)
def test_bad_input(image, boxes, words):
    with pytest.raises(ValueError, match=words):
        GrabCutCue()(image, boxes)
    with pytest.raises(ValueError, match='iterations is 0'):
        GrabCutCue(iterations=0)


# ----------------------------------------------------------------------------- targets of RoIs


@pytest.fixture
def golden(shared_reference):
    with np.load(shared_reference / 'goldens' / 'pdsl_losses.npz') as file:
        return dict(file)


def unpacked(bits, width):
    return np.unpackbits(bits, axis=-1, count=width).astype(bool)


def test_threshold_agrees_with_polygon_round_trip(golden):
    """Against the released code's targets: paste, threshold, polygons, rasterise."""
    rows = np.arange(7)
    classes = golden['a_mask_classes']
    agreement = []
    for previous, current in pairwise(range(5)):
        logits = golden[f'mask_fg_logits_m{previous}_img0'][rows, classes]
        direct = threshold_in_roi(torch.from_numpy(logits).sigmoid()).bool().numpy()
        released = unpacked(golden[f'a_mask_target{current}'], 28)
        agreement.append((direct == released).mean())
        expected = golden[f'a_mask_soft_vs_direct_threshold_agree_m{current}']
        assert agreement[-1] == pytest.approx(expected, abs=1e-6)
    assert min(agreement) > 0.93


def test_threshold_of_nothing_is_the_box():
    probabilities = torch.tensor([[[0.1, 0.2], [0.3, 0.49]], [[0.5, 0.2], [0.3, 0.49]]])
    targets = threshold_in_roi(probabilities.requires_grad_())
    assert targets.tolist() == [[[1, 1], [1, 1]], [[1, 0], [0, 0]]]
    assert not targets.requires_grad


def test_crop_masks_by_hand():
    masks = torch.zeros(2, 8, 8, dtype=torch.bool)
    masks[1, :, 4:] = True
    boxes = torch.tensor([[0.0, 0, 8, 8], [2, 2, 6, 6], [0, 0, 8, 8]])
    targets = crop_masks(masks, torch.tensor([1, 1, 0]), boxes, 4)
    half = [[0, 0, 1, 1]] * 4
    assert targets.tolist() == [half, half, [[0] * 4] * 4]
    assert crop_masks(masks, torch.zeros(0, dtype=torch.long), boxes[:0], 4).shape == (0, 4, 4)


# ---------------------------------------------------------------------------------- the cache


class CountingCue(BottomUpCue):
    """GrabCut that notes what it was asked."""

    def __init__(self):
        self.cue = GrabCutCue(num_threads=1)
        self.asked = []

    def __call__(self, image, boxes, metainfo=None):
        self.asked += [tuple(box) for box in boxes.tolist()]
        return self.cue(image, boxes)

    def fingerprint(self):
        return self.cue.fingerprint()


def test_crop_masks_holds_one_mask_as_floats():
    """Equal to all of them at once as a batch of images, with a fraction of its memory."""
    from mmcv.ops import roi_align

    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.random((12, 300, 400))).float()
    masks = torch.nn.functional.avg_pool2d(noise, 9, 1, 4) > 0.5
    boxes = torch.from_numpy(random_boxes(60, 300, 400)).float()
    index = torch.from_numpy(rng.integers(0, 12, 60))
    rois = torch.cat([index[:, None].float(), boxes], 1)
    at_once = roi_align(masks[:, None].float(), rois, (28, 28), 1.0, 0, 'avg', True)[:, 0] >= 0.5
    assert torch.equal(crop_masks(masks, index, boxes, 28), at_once.float())
    assert crop_masks(masks, index[:0], boxes[:0], 28).shape == (0, 28, 28)


@pytest.fixture
def picture(tmp_path):
    image, _ = disc_picture()
    path = tmp_path / 'disc.png'
    cv2.imwrite(str(path), image)
    return image, str(path)


def test_cold_and_warm_cache_are_the_cue_itself(picture, tmp_path):
    image, path = picture
    boxes = np.array([[26, 16, 76, 66], [10, 10, 100, 80], [26, 16, 76, 66], [0, 0, 128, 96]])
    exact = GrabCutCue()(image, boxes)
    cue = MODELS.build(dict(type='CachedCue', cue=dict(type='GrabCutCue'), folder=tmp_path / 'c'))
    cold = cue(image, boxes, dict(img_path=path))
    counting = CountingCue()
    warm = CachedCue(counting, tmp_path / 'c')(image, boxes, dict(img_path=path))
    assert not counting.asked
    assert np.array_equal(cold, warm)
    # Cached masks end at their boxes; GrabCut's may reach the rectangle's last pixel.
    x2, y2 = 76, 66
    assert np.array_equal(warm[0][:y2, :x2], exact[0][:y2, :x2])
    assert iou(warm[1], exact[1]) > 0.99


def view_of(image, path, scale, flip, crop):
    """The image resized, flipped and cropped by mmdet's own transforms, with its metainfo."""
    from mmdet.datasets.transforms import RandomCrop, RandomFlip, Resize

    height, width = image.shape[:2]
    results = dict(img=image, img_path=path, img_shape=(height, width))
    results = Resize(scale_factor=scale)(results)
    results = RandomFlip(prob=1.0 if flip else 0.0)(results)
    if crop:
        np.random.seed(5)
        results = RandomCrop(crop_size=crop, allow_negative_crop=True)(results)
    return results


@pytest.mark.parametrize('flip', [False, True])
@pytest.mark.parametrize('scale', [0.75, 1.0, 2.0])
def test_masks_are_warped_into_the_view(picture, tmp_path, scale, flip):
    """The warped mask lies on the disc where mmdet's transforms put it."""
    image, path = picture
    view = view_of(image, path, scale, flip, (int(80 * scale), int(110 * scale)))
    red = view['img'][..., 2] > 130
    rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
    box = np.array([[columns[0] - 4, rows[0] - 4, columns[-1] + 5, rows[-1] + 5]])
    mask = CachedCue(GrabCutCue(), tmp_path)(view['img'], box, view)[0]
    assert iou(mask, red) > 0.95


def test_a_cropped_proposal_stays_the_same_proposal(picture, tmp_path):
    image, path = picture
    cue = CountingCue()
    proposals = np.array([[26, 16, 76, 66.0], [10, 10, 100, 80], [60, 50, 128, 96]])
    cached = CachedCue(cue, tmp_path)
    homography = np.array([[-2.0, 0, 256], [0, 2, -40], [0, 0, 1]])  # x2, flipped, 20 rows cut off
    clipped = np.array([[256 - 152, 0, 256 - 52, 92.0]])  # of the first proposal
    meta = dict(img_path=path, homography_matrix=homography, ori_proposals=proposals)
    cached(np.zeros((152, 256, 3), np.uint8), clipped, meta)
    assert cue.asked == [(26, 16, 76, 66)]
    # Without the proposals the box is brought back as it is.
    del meta['ori_proposals']
    cached(np.zeros((152, 256, 3), np.uint8), clipped, meta)
    assert cue.asked[1:] == [(26, 20, 76, 66)]


def test_cache_keys(picture, tmp_path):
    """Another image under the same name, and other parameters, are computed anew."""
    image, path = picture
    box, meta = np.array([[26, 16, 76, 66]]), dict(img_path=path)
    first = CachedCue(GrabCutCue(), tmp_path)(image, box, meta)
    other = cv2.flip(image, 1)
    cv2.imwrite(path, other)
    cue = CountingCue()
    second = CachedCue(cue, tmp_path)(other, box, meta)
    assert len(cue.asked) == 1 and not np.array_equal(first, second)
    fingerprints = {
        CachedCue(GrabCutCue(**options), tmp_path).store.folder
        for options in ({}, dict(iterations=1), dict(max_side=300), dict(seed=1))
    }
    assert len(fingerprints) == 4
    assert CachedCue(GrabCutCue(num_threads=7), tmp_path).store.folder in fingerprints
    with pytest.raises(ValueError, match='no img_path'):
        CachedCue(cue, tmp_path)(image, box)


def random_masks(count, seed=0):
    rng = np.random.default_rng(seed)
    return {
        (i, 0, i + 9, 9): rng.random((20, 30)) < rng.choice([0.0, 0.3, 1.0]) for i in range(count)
    }


def test_store_returns_what_it_was_given(tmp_path):
    store = MaskStore(tmp_path, 'x')
    masks = random_masks(20)
    store.add('ab12', dict(list(masks.items())[:5]))
    store.add('ab12', dict(list(masks.items())[5:]))
    found = MaskStore(tmp_path, 'x').read('ab12', list(masks))
    assert found.keys() == masks.keys()
    assert all(np.array_equal(found[box], masks[box]) for box in masks)
    assert store.read('ab12', [(7, 7, 7, 7)]) == {} and store.read('cd34', list(masks)) == {}
    assert MaskStore(tmp_path, 'y').read('ab12', list(masks)) == {}


def test_damaged_entries_are_never_read(tmp_path):
    store = MaskStore(tmp_path, 'x')
    masks = random_masks(6)
    store.add('ab12', masks)
    path = store.path('ab12')
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [whole[:length] for length in range(0, len(whole), 97)]
    for position in rng.integers(0, len(whole), 60):
        flipped = bytearray(whole)
        flipped[position] ^= 0x40
        damaged.append(bytes(flipped))
    for content in damaged:
        path.write_bytes(content)
        for box, mask in store.read('ab12', list(masks)).items():
            assert np.array_equal(mask, masks[box])
    path.write_bytes(whole[:-50])
    assert store.read('ab12', list(masks)) == {}
    store.add('ab12', masks)
    assert len(store.read('ab12', list(masks))) == 6


WRITER = """
import sys
import numpy as np
from projects.pdsl.cues.store import MaskStore
store, start = MaskStore(sys.argv[1], 'x'), int(sys.argv[2])
for i in range(start, start + 400):
    store.add('ab12', {(i, 0, i + 1, 1): np.full((40, 40), i % 2 == 0)})
    if i == start:
        print('writing', flush=True)
"""


def test_kill_during_writes_and_two_writers(tmp_path, repo_root):
    def start(first):
        return subprocess.Popen(
            [sys.executable, '-c', WRITER, tmp_path, str(first)],
            cwd=repo_root,
            stdout=subprocess.PIPE,
        )

    writers = [start(0), start(1000)]
    for writer in writers:
        writer.stdout.readline()
    time.sleep(0.5)
    for writer in writers:
        writer.kill()
        writer.communicate()
    store = MaskStore(tmp_path, 'x')
    boxes = sorted(store.boxes('ab12'))
    found = store.read('ab12', boxes)
    assert all(mask.all() == (box[0] % 2 == 0) for box, mask in found.items())
    for first in (0, 1000):  # neither lost what the other wrote
        numbers = [box[0] for box in boxes if first <= box[0] < first + 400]
        assert numbers and numbers == list(range(first, first + len(numbers)))
    store.add('ab12', {(5000, 0, 1, 1): np.ones((40, 40), bool)})  # goes on
    assert len(store.boxes('ab12')) == len(boxes) + 1


# ---------------------------------------------------------------------------- masks from disk


def test_segments_from_files(tmp_path):
    image = np.zeros((20, 30, 3), np.uint8)
    labels = np.zeros((20, 30), np.uint8)
    labels[2:10, 3:9] = 1
    labels[5:15, 15:28] = 2
    labels[0] = 255
    cv2.imwrite(str(tmp_path / 'a.png'), labels)
    np.savez_compressed(tmp_path / 'b.npz', masks=np.stack([labels == 1, labels == 2]))
    cue = MODELS.build(dict(type='SegmentFileCue', folder=tmp_path))
    boxes = np.array([[3, 2, 9, 10], [15, 5, 27, 16], [0, 10, 4, 20], [5, 5, 5, 9]])
    for name in 'ab':
        masks = cue(image, boxes, dict(img_path=f'pictures/{name}.jpg'))
        assert np.array_equal(masks[0], labels == 1)
        assert masks[1].sum() == 10 * 12 and not masks[1][:, 27:].any()  # cut off at the box
        assert masks[2].sum() == 4 * 10  # no segment fits: the box
        assert not masks[3].any()
    flip = np.array([[-1, 0, 30], [0, 1, 0], [0, 0, 1]])
    flipped = cue(
        image, np.array([[21, 2, 27, 10]]), dict(img_path='a.jpg', homography_matrix=flip)
    )
    assert np.array_equal(flipped[0], (labels == 1)[:, ::-1])
    with pytest.raises(FileNotFoundError, match=r'c\.npz: does not exist, nor does c\.png'):
        cue(image, boxes, dict(img_path='c.jpg'))


@pytest.mark.parametrize('changed', [dict(ori_shape=(30, 40)), dict(ori_shape=(20, 30), flip=True)])
def test_view_without_its_matrix(tmp_path, changed):
    """A resized or flipped image whose matrix was not packed: wrong masks otherwise."""
    image = np.zeros((20, 30, 3), np.uint8)
    path = tmp_path / 'a.png'
    cv2.imwrite(str(path), np.zeros((*changed['ori_shape'], 3), np.uint8))
    np.savez(tmp_path / 'a.npz', masks=np.zeros((1, *changed['ori_shape']), bool))
    for cue in (CachedCue(GrabCutCue(), tmp_path / 'cache'), SegmentFileCue(tmp_path)):
        with pytest.raises(ValueError, match="no homography_matrix; add it to PackDetInputs'"):
            cue(image, np.array([[2, 2, 9, 9]]), dict(img_path=str(path), **changed))


# ------------------------------------------------------------------------------ crops and threads


def whole_crops(masks, nearest, rois, size=28):
    """RoIAlign of the whole masks, one box after the other."""
    from mmcv.ops import roi_align

    found = np.zeros((len(rois), size, size), np.float32)
    for row, (index, roi) in enumerate(zip(nearest, torch.from_numpy(rois).float())):
        mask = torch.from_numpy(masks[index]).float()[None, None]
        roi = torch.cat((roi.new_zeros(1), roi))[None]
        found[row] = roi_align(mask, roi, (size, size), 1.0, 0, 'avg', True)[0, 0] >= 0.5
    return found


def ellipse_segments(count, height, width, seed=0):
    """Ellipses, of which some are thin, tiny or the same."""
    ys, xs = np.mgrid[:height, :width] + 0.5
    segments = []
    for x1, y1, x2, y2 in random_boxes(count, height, width, seed):
        middle, radius = ((x1 + x2) / 2, (y1 + y2) / 2), ((x2 - x1) / 2, (y2 - y1) / 2)
        part = ((xs - middle[0]) / radius[0]) ** 2 + ((ys - middle[1]) / radius[1]) ** 2 <= 1
        segments.append(part)
    segments += [segments[0], segments[1] & (ys < ys.mean())]
    return np.array([each for each in segments if each.any()])


@pytest.fixture
def segment_folder(tmp_path, picture):
    image, path = picture
    np.savez(tmp_path / 'disc.npz', masks=ellipse_segments(40, *image.shape[:2]))
    return tmp_path


def old_segment_masks(segments, image, boxes, meta, min_iou):
    """All segments warped into the whole view, and the nearest box of a mask chosen."""
    from projects.pdsl.cues.warping import warp_window

    height, width = image.shape[:2]
    matrix = np.array(meta['homography_matrix'])
    in_view = np.array([warp_window(each, matrix, (0, 0, width, height)) for each in segments])
    in_view = in_view[in_view.any((1, 2))]
    extents = []
    for mask in in_view:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        extents.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    overlaps = pairwise_iou(boxes, np.array(extents, float))
    masks = np.zeros((len(boxes), height, width), bool)
    for box, out, overlap in zip(boxes, masks, overlaps):
        x1, y1 = np.clip(box[:2], 0, (width, height)).astype(int)
        x2, y2 = np.ceil(np.clip(box[2:], 0, (width, height))).astype(int)
        if overlap.max() >= min_iou:
            out[y1:y2, x1:x2] = in_view[overlap.argmax(), y1:y2, x1:x2]
        if not out.any():
            out[y1:y2, x1:x2] = True
    return masks


@pytest.mark.parametrize('scale', [0.4, 0.75, 1.0, 1.5, 2.3])
@pytest.mark.parametrize('flip', [False, True])
def test_segments_are_those_of_whole_warps(picture, segment_folder, scale, flip):
    image, path = picture
    meta = view_of(image, path, scale, flip, (int(80 * scale), int(110 * scale)))
    view = meta['img']
    segments = np.load(segment_folder / 'disc.npz')['masks']
    boxes = random_boxes(60, *view.shape[:2], seed=3)
    for min_iou in (0.0, 0.3, 0.5, 0.9):
        cue = SegmentFileCue(segment_folder, min_iou)
        wanted = old_segment_masks(segments, view, boxes, meta, min_iou)
        assert np.array_equal(cue(view, boxes, meta), wanted)


@pytest.mark.parametrize('kind', ['grabcut', 'cached', 'segments', 'callable'])
def test_crops_are_those_of_whole_masks(picture, segment_folder, kind, monkeypatch):
    """Bit for bit, also in several threads, for boxes within, around and beyond their seeds."""
    image, path = picture
    meta = view_of(image, path, 1.5, True, (120, 165))
    view = meta['img']
    height, width = view.shape[:2]
    boxes = random_boxes(6, height, width, seed=1)
    boxes[5] = [5, 5, 5, 9]  # without area
    cue = {
        'grabcut': lambda: GrabCutCue(iterations=1),
        'cached': lambda: CachedCue(GrabCutCue(iterations=1), segment_folder / 'cache'),
        'segments': lambda: SegmentFileCue(segment_folder),
        'callable': lambda: lambda *given: SegmentFileCue(segment_folder)(*given),
    }[kind]()
    rng = np.random.default_rng(0)
    nearest = rng.integers(0, 6, 40)
    rois = boxes[nearest] + rng.uniform(-8, 8, (40, 4))
    rois[:6] = boxes  # ends where the mask ends
    rois[6:12] = boxes.round()
    rois[:, 2:] = np.maximum(rois[:, 2:], rois[:, :2])
    rois = rois.astype(np.float32)
    crops = getattr(cue, 'crops', None) or partial(crops_of, cue)
    for threads in (1, 3):
        monkeypatch.setattr('projects.pdsl.cues.windows.available_cores', lambda n=threads: n)
        wanted = whole_crops(cue(view, boxes, meta), nearest, rois)
        assert np.array_equal(crops(view, boxes, meta, rois, nearest, 28), wanted)
    assert 0.1 < wanted.mean() < 0.9
    assert crops(view, boxes[:0], meta, rois[:0], nearest[:0], 28).shape == (0, 28, 28)


def test_cells_that_are_half_inside_are_roi_aligns():
    """Means of exactly one half, on which rounding decides, are RoIAlign's over the image."""
    mask = np.zeros((64, 64), bool)
    mask[:, :32] = True
    mask[10:20, 40:60] = np.indices((10, 20)).sum(0) % 2 == 0
    rois = np.array([[4, 4, 60, 60], [3, 3, 61, 59.5], [40, 10, 60, 20]], np.float32)
    found = crop_window(mask, (0, 0), mask.shape, rois, 28)
    assert np.array_equal(found, whole_crops(mask[None], [0, 0, 0], rois))


def test_crops_of_windows_are_roi_aligns():
    """Bit for bit, for boxes of any size, within the image, beyond it and with whole numbers."""
    rng = np.random.default_rng(0)
    for round_ in range(20):
        height, width = rng.integers(2, 600, 2)
        corners = rng.integers(0, (width + 1, height + 1), (2, 2))
        (x1, y1), (x2, y2) = corners.min(axis=0), corners.max(axis=0)
        if x2 == x1 or y2 == y1:
            continue
        coarse = rng.random(rng.integers(2, 9, 2)).astype(np.float32)
        mask = np.zeros((height, width), bool)
        smooth = cv2.resize(coarse, (int(width), int(height)))
        mask[y1:y2, x1:x2] = smooth[y1:y2, x1:x2] > 0.5
        points = rng.uniform(-4, (width + 4, height + 4), (2, 70, 2))
        rois = np.concatenate([points.min(axis=0), points.max(axis=0)], axis=1)
        rois = (rois.round() if round_ % 3 == 0 else rois).astype(np.float32)
        found = crop_window(mask[y1:y2, x1:x2], (x1, y1), mask.shape, rois, 28)
        assert np.array_equal(found, whole_crops(mask[None], [0] * 70, rois))


def test_threads_are_divided_among_the_processes_of_a_node(monkeypatch):
    monkeypatch.setattr(windows.os, 'sched_getaffinity', lambda _: set(range(16)), raising=False)
    for processes, cores in (('', 16), ('1', 16), ('4', 4), ('5', 3), ('64', 1)):
        monkeypatch.setenv('LOCAL_WORLD_SIZE', processes)
        assert windows.available_cores() == cores
