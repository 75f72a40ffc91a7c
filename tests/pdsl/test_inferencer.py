"""Images in, instances and files out, with proposals or without."""

import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from PIL import Image
from pycocotools import mask as coco_mask

from projects.common.build import build_quietly
from projects.common.scenes import generate_scene
from projects.pdsl import WeakInstanceInferencer
from projects.pdsl.proposals import (
    generate_proposals,
    list_images,
    selective_search,
    tidy,
    write_store,
)

CLASSES = ('circle', 'square', 'triangle', 'star', 'cross', 'heart')
SMALL = {'model.test_cfg.rcnn.max_per_img': 10}


@pytest.fixture(scope='module')
def config(repo_root):
    (path,) = (repo_root / 'configs/pdsl').glob('pdsl_tiny_*_scenes.py')
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(SMALL)
    return cfg


@pytest.fixture(scope='module')
def weights(config, tmp_path_factory):
    """A checkpoint as training leaves it: weights, classes, config."""
    torch.manual_seed(0)
    model = build_quietly(config.model, 'mmdet')
    model.roi_head.bbox_head.init_weights()
    path = tmp_path_factory.mktemp('weights') / 'iter_1.pth'
    meta = dict(cfg=config.pretty_text, dataset_meta=dict(classes=CLASSES))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return path


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    """Two generated scenes, one of them cut to 90 x 110 pixels."""
    folder = tmp_path_factory.mktemp('pictures')
    for index, size in enumerate(((128, 128), (90, 110))):
        image = generate_scene(index, seed=3, split='test', image_size=128).image
        cv2.imwrite(str(folder / f'scene{index}.png'), image[: size[0], : size[1]])
    return folder


@pytest.fixture(scope='module')
def inferencer(config, weights):
    return WeakInstanceInferencer(config, weights, device='cpu', show_progress=False)


def same(first, second):
    assert first['labels'] == second['labels'] and first['classes'] == second['classes']
    np.testing.assert_allclose(first['scores'], second['scores'], atol=1e-6)
    np.testing.assert_allclose(first['bboxes'], second['bboxes'], atol=1e-3)
    for a, b in zip(first['masks'], second['masks'], strict=True):
        assert (coco_mask.decode(a) != coco_mask.decode(b)).mean() < 0.01


def test_equals_the_test_pipeline_by_hand(inferencer, config, pictures, tmp_path):
    """Proposals as generate_proposals.py stores them, through the config's test pipeline."""
    store = tmp_path / 'proposals'
    paths = list_images(pictures)
    generate_proposals(paths, store, max_proposals=250)
    steps = [dict(step) for step in config.test_dataloader.dataset.pipeline]
    steps = [step for step in steps if step['type'] != 'mmdet.LoadAnnotations']
    steps[1]['folder'] = str(store)
    init_default_scope('mmdet')
    pipeline = Compose(steps)
    results = inferencer(pictures)['predictions']
    assert [result['image'] for result in results] == list(paths.values())
    for path, prediction in zip(paths.values(), results, strict=True):
        packed = pipeline(dict(img_path=path))
        data = dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']])
        with torch.no_grad():
            (expected,) = inferencer.model.test_step(data)
        found = expected.pred_instances
        assert prediction['labels'] == found.labels.tolist() and len(found) == 10
        assert prediction['classes'] == [CLASSES[label] for label in found.labels]
        assert prediction['scores'] == pytest.approx(found.scores.tolist())
        image_scores = found.metainfo['image_scores'].tolist()
        assert prediction['image_scores'] == pytest.approx(image_scores) and len(image_scores) == 6
        np.testing.assert_allclose(prediction['bboxes'], found.bboxes, atol=1e-4)
        shape = cv2.imread(path).shape[:2]
        for rle, mask in zip(prediction['masks'], found.masks.numpy(), strict=True):
            assert rle['size'] == list(shape)
            assert (coco_mask.decode(rle) == mask).all()
    for prediction, stored in zip(results, inferencer(pictures, store)['predictions']):
        same(prediction, stored)


def test_given_proposals_in_any_form(inferencer, pictures):
    path = str(pictures / 'scene0.png')
    image = cv2.imread(path)
    boxes, _ = tidy(selective_search(image, max_proposals=40), None)
    expected = inferencer(path, boxes)['predictions'][0]
    assert expected['scores'] != inferencer(path)['predictions'][0]['scores']
    with_scores = np.concatenate((boxes, np.linspace(1, 0, len(boxes))[:, None]), 1)
    for inputs, given in (
        (path, torch.from_numpy(boxes)),
        (path, boxes.tolist()),
        (image, with_scores),
        ([Image.open(path)], [boxes]),
    ):
        same(inferencer(inputs, given)['predictions'][0], expected)
    both = inferencer([path, pictures / 'scene1.png'], [boxes, None], batch_size=2)['predictions']
    same(both[0], expected)
    same(both[1], inferencer(pictures / 'scene1.png')['predictions'][0])
    few = WeakInstanceInferencer(
        inferencer.cfg, device='cpu', proposal_options=dict(max_proposals=40, min_side=20)
    )
    few.model = inferencer.model
    large = boxes[(boxes[:, 2:] - boxes[:, :2]).min(1) >= 20]
    assert 0 < len(large) < 40
    by_hand, _ = tidy(selective_search(image, max_proposals=40, min_side=20), None)
    same(few(path)['predictions'][0], inferencer(path, by_hand)['predictions'][0])


def test_no_proposals(inferencer, pictures):
    (prediction,) = inferencer(pictures / 'scene0.png', np.zeros((0, 4)))['predictions']
    assert prediction['scores'] == prediction['masks'] == []
    flat = np.full((40, 50, 3), 90, np.uint8)  # Selective Search finds nothing but all of it
    assert len(inferencer(flat, return_vis=True)['visualization']) == 1


def test_files_and_pictures(inferencer, pictures, tmp_path):
    given = [pictures / 'scene0.png', cv2.imread(str(pictures / 'scene1.png'))]
    out = tmp_path / 'out'
    result = inferencer(given, out_dir=out, return_vis=True, pred_score_thr=0.0)
    names = sorted(str(path.relative_to(out)) for path in out.rglob('*.*'))
    assert names == ['preds/image.json', 'preds/scene0.json', 'vis/image.jpg', 'vis/scene0.jpg']
    saved = json.loads((out / 'preds/scene0.json').read_text())
    assert saved == json.loads(json.dumps(result['predictions'][0]))
    drawn = result['visualization'][1]
    assert drawn.shape == (480, round(480 / 90 * 110), 3)  # 90 x 110, enlarged
    written = cv2.imread(str(out / 'vis/image.jpg'))[..., ::-1]
    assert np.abs(written.astype(int) - drawn).mean() < 10  # JPEG
    (plain,) = inferencer(given[1], return_vis=True, pred_score_thr=1.1)['visualization']
    enlarged = cv2.resize(given[1], plain.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    assert np.array_equal(plain, enlarged[..., ::-1])  # nothing reaches 1.1
    assert (plain != drawn).any(-1).mean() > 0.05
    inferencer(given[0], out_dir=tmp_path / 'none', no_save_vis=True, no_save_pred=True)
    assert not (tmp_path / 'none').exists()


def test_config_and_classes_from_the_checkpoint(inferencer, weights, config, pictures, tmp_path):
    path = pictures / 'scene0.png'
    expected = inferencer(path)['predictions'][0]
    alone = WeakInstanceInferencer(weights=weights, device='cpu')
    same(alone(path)['predictions'][0], expected)
    state = torch.load(weights, weights_only=True)['state_dict']
    torch.save(state, tmp_path / 'bare.pth')
    by_config = WeakInstanceInferencer(config, tmp_path / 'bare.pth', device='cpu')
    same(by_config(path)['predictions'][0], expected)
    nameless = config.copy()
    nameless.test_dataloader.dataset.pop('metainfo')
    nameless = WeakInstanceInferencer(nameless, tmp_path / 'bare.pth', device='cpu')
    assert nameless(path)['predictions'][0]['classes'][0].startswith('class ')


def test_wrong_input(inferencer, config, weights, pictures, tmp_path):
    path = str(pictures / 'scene0.png')

    def refused(message, *args, **kwargs):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            inferencer(*args, **kwargs)

    refused('URLs are not read', 'https://example.org/a.jpg')
    refused('none.png: no such file', 'none.png')
    refused(r'proposals of shape \(3, 2\)', path, np.zeros((3, 2)))
    refused('not finite', path, np.array([[0, 0, np.nan, 4]]))
    refused('1 entries for 2 images', [path, path], [np.zeros((1, 4))])
    refused('batch_size=0', path, batch_size=0)
    refused('index.json: does not exist', path, tmp_path)
    refused('which an array has not', np.zeros((20, 20, 3), np.uint8), tmp_path)
    with pytest.raises(ValueError, match='builds MaskRCNN; expected PDSL'):
        WeakInstanceInferencer(
            Config(dict(config, model=mask_rcnn())), device='cpu', show_progress=False
        )
    state = torch.load(weights, weights_only=True)['state_dict']
    state.pop('roi_head.bbox_head.fcs.0.weight')
    torch.save(state, tmp_path / 'bad.pth')
    with pytest.raises(ValueError, match='not is roi_head.bbox_head.fcs.0.weight, which the file'):
        WeakInstanceInferencer(config, tmp_path / 'bad.pth', device='cpu')


def test_a_store_is_checked_before_the_first_image(inferencer, pictures, tmp_path, monkeypatch):
    """Images without proposals stop nothing late; damaged ones cannot have any."""
    paths = [pictures / 'scene0.png', pictures / 'scene1.png']
    write_store(tmp_path / 'store', [('scene0', np.array([[0, 0, 20, 20]], np.float32), None)])
    with monkeypatch.context() as patch:
        patch.setattr(inferencer, 'forward', lambda *_: pytest.fail('predicted before the check'))
        for skip in (False, True):
            with pytest.raises(ValueError, match='no proposals of .*scene1.png'):
                inferencer(paths, tmp_path / 'store', skip_damaged=skip)
    paths[1] = tmp_path / 'empty.png'
    paths[1].touch()
    found = inferencer(paths, tmp_path / 'store', skip_damaged=True)['predictions']
    assert [each['image'] for each in found] == [str(paths[0])]


def mask_rcnn():
    from mmengine.hub import get_config

    model = get_config('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py').model
    model.backbone = dict(type='mmdet.ResNet', depth=18, init_cfg=None)
    model.neck.in_channels = [64, 128, 256, 512]
    return model
