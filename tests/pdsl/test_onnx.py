"""The exported PDSL against PyTorch, and without it."""

import argparse
import importlib.util
import json
import runpy
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask

import projects.pdsl.register  # noqa: F401
from projects.common.prediction_dump import encode_mask
from projects.pdsl import WeakInstanceInferencer
from projects.pdsl.models.detections import detections as expected_detections
from projects.pdsl.models.losses import image_level_scores, wsddn_scores
from projects.pdsl.onnx_export import _scores_by_image, compare
from projects.pdsl.onnx_postprocess import detections, paste_mask

installed = all(importlib.util.find_spec(name) for name in ('onnx', 'onnxscript', 'onnxruntime'))
needs_onnx = pytest.mark.skipif(not installed, reason='onnx, onnxscript, onnxruntime not installed')
CFG = dict(score_thr=0.05, iou_threshold=0.5, max_per_img=12)


def test_scores_of_several_images_at_once():
    """They are those of each image by itself."""
    torch.manual_seed(0)
    index = torch.tensor([0, 1, 0, 1, 1, 0, 0]).float()
    classification, detection = torch.randn(2, 7, 3)
    scores, of_image = _scores_by_image(classification, detection, index, torch.zeros(2, 1))
    for i in (0, 1):
        rows = index == i
        alone = wsddn_scores(classification[rows], detection[rows])
        torch.testing.assert_close(scores[rows], alone)
        torch.testing.assert_close(of_image[i], image_level_scores(alone))


def test_detections_equal_those_of_pytorch():
    rng = np.random.default_rng(0)
    for seed in range(5):
        corners = rng.uniform(-5, 60, (80, 3, 2)).astype(np.float32)
        boxes = np.concatenate([corners, corners + rng.uniform(-1, 40, (80, 3, 2))], axis=2)
        boxes = boxes.astype(np.float32)
        probs = rng.dirichlet(np.ones(4) * 0.5, 80).astype(np.float32)
        found = detections(probs, boxes, (50, 70), CFG)
        cfg = dict(score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=12)
        expected = expected_detections(torch.tensor(probs), torch.tensor(boxes), (50, 70), cfg)
        assert len(expected) == 12, seed
        np.testing.assert_array_equal(found[2], expected.labels.numpy())
        np.testing.assert_array_equal(found[1], expected.scores.numpy())
        np.testing.assert_allclose(found[0], expected.bboxes.numpy(), rtol=0, atol=1e-5)


def test_no_detection():
    none = detections(np.float32([[0.01, 0.99]]), np.float32([[[1, 1, 5, 5]]]), (9, 9), CFG)
    assert [len(each) for each in none] == [0, 0, 0] and none[0].shape == (0, 4)


@pytest.mark.parametrize('box', [(3.2, 4.7, 20.1, 9.9), (-4, -3, 50, 41), (10, 10, 10.4, 30)])
def test_pasting_equals_mmdet(box):
    probability = np.random.default_rng(0).random((8, 8), dtype=np.float32)
    box = np.float32(box)
    pasted, span = _do_paste_mask(torch.tensor(probability)[None, None], torch.tensor(box)[None],
                                  32, 40)  # fmt: skip
    expected = np.zeros((32, 40), bool)
    expected[span] = (pasted[0] >= 0.5).numpy()
    found = paste_mask(probability, box, (32, 40), 0.5)
    near = np.zeros_like(expected)
    near[span] = (pasted[0] - 0.5).abs().numpy() < 1e-5  # decided by rounding
    np.testing.assert_array_equal(found[~near], expected[~near])
    assert expected.any() or box[2] - box[0] < 1


@pytest.fixture(scope='module')
def scenes(repo_root):
    """The published small model."""
    folder = repo_root / 'demo/models/pdsl-scenes'
    return WeakInstanceInferencer(folder / 'config.py', folder, 'cpu', show_progress=False)


@pytest.fixture(scope='module')
def exported(repo_root, tmp_path_factory):
    """What the tool writes: path, files and differences."""
    folder = repo_root / 'demo/models/pdsl-scenes'
    path = tmp_path_factory.mktemp('onnx') / 'pdsl.onnx'
    tool = runpy.run_path(str(repo_root / 'tools/deployment/export_onnx.py'))
    args = argparse.Namespace(
        model=folder / 'config.py', weights=folder, out=path, opset=18, dtype='fp32',
        fixed_size=False, skip_check=False, trust_checkpoint=False,
    )  # fmt: skip
    images = [np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)]
    files, errors = tool['export_and_compare'](args, images)
    return SimpleNamespace(path=path, files=files, errors=errors)


RUN = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('torch', 'mmcv', 'mmdet', 'transformers'):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
sys.path.insert(0, sys.argv[1])
import numpy as np
from projects.pdsl.onnx_runner import ONNXInstanceSegmenter
segment = ONNXInstanceSegmenter(sys.argv[2])
given = np.load(sys.argv[3])
found = segment(given['image'], given['boxes'])
none = segment(given['image'], given['boxes'][:0])
assert none['labels'] == [] and none['masks'].shape == (0, *given['image'].shape[:2])
assert 'torch' not in sys.modules
np.savez(sys.argv[4], **found)
"""


@needs_onnx
def test_without_pytorch(scenes, exported, repo_root, tmp_path):
    """In a process that cannot import torch, instances are those of the inferencer."""
    names = [file.name for file in exported.files]
    assert names == ['pdsl.detect.onnx', 'pdsl.masks.onnx', 'pdsl.json']
    assert list(exported.errors) == ['probs', 'boxes', 'image_scores', 'features', 'mask_logits']
    assert max(exported.errors.values()) < 1e-3
    errors = compare(scenes.model, exported.path, (72, 104), batches=(1, 2))
    assert max(errors.values()) < 1e-3  # of other sizes; boxes in pixels

    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (100, 150, 3), dtype=np.uint8)
    image[20:70, 30:90] = (0, 0, 255)
    corners = rng.uniform(0, 90, (60, 2)) * [1.3, 0.8]
    boxes = np.concatenate([corners, corners + rng.uniform(12, 40, (60, 2))], axis=1)
    np.savez(tmp_path / 'given.npz', image=image, boxes=boxes)
    arguments = (repo_root, exported.path.with_suffix('.json'), tmp_path / 'given.npz',
                 tmp_path / 'found.npz')  # fmt: skip
    done = subprocess.run(
        [sys.executable, '-c', RUN, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / 'found.npz')
    (expected,) = scenes(image, boxes.astype(np.float32))['predictions']
    assert len(expected['labels']) > 3
    assert found['labels'].tolist() == expected['labels']
    assert found['classes'].tolist() == expected['classes']
    np.testing.assert_allclose(found['scores'], expected['scores'], rtol=0, atol=1e-5)
    np.testing.assert_allclose(found['bboxes'], expected['bboxes'], rtol=0, atol=1e-2)
    np.testing.assert_allclose(found['image_scores'], expected['image_scores'], atol=1e-5)
    from pycocotools import mask as coco

    pasted = np.stack([coco.decode(each) for each in expected['masks']]).astype(bool)
    assert (found['masks'] != pasted).mean() < 1e-3
    assert encode_mask(found['masks'][0])['size'] == [100, 150]


@needs_onnx
def test_what_the_description_refuses(scenes, tmp_path, exported):
    from projects.pdsl.onnx_export import export_onnx
    from projects.pdsl.onnx_runner import ONNXInstanceSegmenter

    cfg = scenes.model.roi_head.test_cfg
    for change, message in (
        (dict(tags_only=True), 'test_cfg.rcnn.tags_only: an exported model cannot read tags'),
        (dict(nms=dict(type='soft_nms', iou_threshold=0.5)), "expected type 'nms'"),
    ):
        scenes.model.roi_head.test_cfg = {**cfg, **change}
        try:
            with pytest.raises(ValueError, match=message):
                export_onnx(scenes.model, tmp_path / 'b.onnx', (64, 64))
        finally:
            scenes.model.roi_head.test_cfg = cfg
    with pytest.raises(ValueError, match=r'proposals of shape \(2, 3\): expected \(n, 4\)'):
        segment = ONNXInstanceSegmenter(exported.path.with_suffix('.json'))
        segment(np.zeros((9, 9, 3), np.uint8), np.zeros((2, 3)))
    content = json.loads(exported.path.with_suffix('.json').read_text())
    assert content['classes'] == list(scenes.classes) and content['pad_divisor'] == 8
