"""PLVL for none, one or several objects: losses, peaks, predictions, and what stays as it was."""

import copy
import hashlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from torchvision.ops import generalized_box_iou

import projects.plvl.register  # noqa: F401
from projects.common.text import WordPieceTokenizer
from projects.plvl import GroundingInferencer
from projects.plvl.models import center_focal_loss, center_heatmaps

SIDE = 128
SENTENCES = ['both red circles', 'the star', 'a small heart']
BOXES = [[[40.0, 30.0, 90.0, 70.0], [8.0, 80.0, 40.0, 120.0]], [[10.0, 10.0, 60.0, 50.0]], []]
SMALL = dict(
    backbone=dict(depth=2, global_indexes=(0, 1), language_indexes=(1,)),
    decoder=dict(num_layers=1),
)


def build(repo_root, config='plvl_tiny_1xb16-3k_generalized-scenes', **options):
    cfg = Config.fromfile(repo_root / f'configs/plvl/{config}.py')
    cfg.merge_from_dict({'model': copy.deepcopy(SMALL), **options})
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.text_encoder.set_tokenizer(WordPieceTokenizer.learn(SENTENCES, 200))
    return model


def batch(boxes=BOXES):
    rng = np.random.default_rng(0)
    samples = []
    for text, of_sample in zip(SENTENCES, boxes, strict=False):
        sample = DetDataSample(
            metainfo=dict(text=text, ori_shape=(96, 160), img_shape=(SIDE, SIDE), with_mask=True)
        )
        masks = np.zeros((len(of_sample), SIDE, SIDE), np.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, of_sample):
            mask[int(y1) : int(y2), int(x1) : int(x2)] = 1
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor(of_sample).reshape(-1, 4),
            labels=torch.zeros(len(of_sample), dtype=torch.long),
            masks=BitmapMasks(masks, SIDE, SIDE),
        )
        samples.append(sample)
    images = [torch.from_numpy(rng.integers(0, 255, (3, SIDE, SIDE), np.uint8)) for _ in samples]
    return dict(inputs=images, data_samples=samples)


def run(model, mode, data):
    return model(**model.data_preprocessor(data, training=mode == 'loss'), mode=mode)


@pytest.fixture(scope='module')
def model(repo_root):
    return build(repo_root)


def raw_outputs(model, data):
    data = model.data_preprocessor(data, training=True)
    return model(data['inputs'], data['data_samples'], mode='tensor')


def test_losses(model):
    """Each loss by its formula, over the two objects, the one and the none of the batch."""
    model.train()
    state = copy.deepcopy(model.state_dict())
    losses = run(model, 'loss', batch())
    sum(losses.values()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    model.zero_grad()
    model.load_state_dict(state)  # the running means of the norms
    out = raw_outputs(model, batch())
    boxes = torch.tensor([box for of_sample in BOXES for box in of_sample]) / SIDE
    samples = [0, 0, 1]
    assert losses.keys() == {
        f'loss_{name}' for name in ('presence', 'center', 'bbox', 'iou', 'mask', 'dice')
    }
    presence = F.binary_cross_entropy(out['presence'].sigmoid(), torch.tensor([1.0, 1.0, 0.0]))
    assert losses['loss_presence'].item() == pytest.approx(presence.item(), rel=1e-5)

    prob = out['center'][:, 0].sigmoid().clamp(1e-4, 1 - 1e-4)
    side = prob.shape[1]
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    sizes = boxes[:, 2:] - boxes[:, :2]
    each = center_heatmaps(torch.cat((centers, sizes), 1), (side, side))
    target = torch.stack([torch.maximum(each[0], each[1]), each[2], torch.zeros(side, side)])
    center = center_focal_loss(prob, target)[0] / 3  # the number of objects
    assert losses['loss_center'].item() == pytest.approx(0.5 * center.item(), rel=1e-5)

    decoded = []
    for i, (sample, (x, y)) in enumerate(zip(samples, (centers * side).round().long().tolist())):
        x, y = min(x, side - 1), min(y, side - 1)
        assert each[i, y, x] == 1
        dx, dy = out['offset'][sample, :, y, x]
        w, h = out['size'][sample, :, y, x].sigmoid().clamp(1e-4, 1 - 1e-4)
        cx, cy = (x + dx) / side, (y + dy) / side
        decoded.append(torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]))
    decoded = torch.stack(decoded)
    expected = 0.5 * (decoded - boxes).abs().mean()
    assert losses['loss_bbox'].item() == pytest.approx(expected.item(), rel=1e-5)
    expected = 0.5 * (1 - generalized_box_iou(decoded, boxes).diagonal()).mean()
    assert losses['loss_iou'].item() == pytest.approx(expected.item(), rel=1e-4)


def test_mask_is_of_all_objects_together(model):
    head, features = model.head, torch.randn(1, 128, 8, 8)
    head.eval()
    union = torch.zeros(1, 64, 64, dtype=torch.uint8)
    union[0, 5:20, 5:20] = union[0, 30:40, 40:60] = 1
    losses = head.loss_of_objects(
        features, torch.tensor([[0.1, 0.1, 0.3, 0.3], [0.6, 0.5, 0.9, 0.6]]), [2], union
    )
    prob = head(features)['mask'][0, 0].sigmoid()
    dice = 1 - (2 * (prob * union[0]).sum() + 1) / (prob.sum() + union.sum() + 1)
    assert losses['loss_dice'].item() == pytest.approx(2.0 * dice.item(), rel=1e-4)


def test_batch_without_any_object(model):
    model.train()
    losses = run(model, 'loss', batch([[], []]))
    assert all(torch.isfinite(value) for value in losses.values())
    assert losses['loss_bbox'] == losses['loss_iou'] == 0
    sum(losses.values()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    model.zero_grad()


def test_one_object_has_the_losses_of_plvl(repo_root, model):
    """Bit for bit, with the same weights."""
    plain = build(repo_root, 'plvl_tiny_1xb16-3k_scenes')
    state = model.state_dict()
    missing = plain.load_state_dict(state, strict=False)
    assert not missing.missing_keys
    assert all(key.startswith('head.presence.') for key in missing.unexpected_keys)
    data = [[[[40.0, 30.0, 90.0, 70.0]], [[10.0, 10.0, 60.0, 50.0]]]] * 2
    plain.train(), model.train()
    expected, found = (run(m, 'loss', batch(d)) for m, d in zip((plain, model), data))
    assert found.pop('loss_presence') > 0
    assert {k: v.item() for k, v in found.items()} == {k: v.item() for k, v in expected.items()}


def test_plvl_is_as_it_was(repo_root):
    """The names and shapes of the tensors of the configs with one object for each sentence."""
    model = build(repo_root, 'plvl_tiny_1xb16-3k_scenes')
    assert type(model).__name__ == 'PLVL' and type(model.head).__name__ == 'CollaborativeHead'
    names = [
        f'{key} {tuple(value.shape)}'
        for key, value in model.state_dict().items()
        if not key.endswith('_extra_state')
    ]
    digest = hashlib.sha256('\n'.join(names).encode()).hexdigest()
    assert digest == STATE_OF_SCENES, names
    with pytest.raises(ValueError, match="'both red circles': found 2 objects; PLVL expects one"):
        run(model, 'loss', batch())
    with pytest.raises(ValueError, match="'the star': found 0 objects"):
        run(model, 'loss', batch([BOXES[1], []]))


STATE_OF_SCENES = '3dbd150a62bbe66f161b64a97bb77b88ce7f934af87efdef7b179d8e5c4d6132'


# ---- predictions


def with_outputs(model, monkeypatch, peaks, presence):
    """Let the head see peaks (sample, row, column, score), and presences of the samples."""
    count = len(presence)
    score = torch.full((count, 1, 8, 8), 0.01)
    for sample, row, column, value in peaks:
        score[sample, 0, row, column] = value
    size = torch.full((count, 2, 8, 8), 0.25)
    mask = torch.full((count, 1, 64, 64), 0.9)
    outputs = dict(
        center=score.logit(), offset=torch.full((count, 2, 8, 8), 0.5), size=size.logit(),
        mask=mask.logit(), presence=torch.tensor(presence).logit(),
    )  # fmt: skip
    monkeypatch.setattr(type(model.head), 'forward', lambda self, features: outputs)


def predict(model, count):
    model.eval()
    with torch.no_grad():
        return run(model, 'predict', batch([[] for _ in range(count)]))


def test_peaks_become_boxes(model, monkeypatch):
    peaks = [
        # Two objects, and a neighbour of the first that is no maximum.
        (0, 2, 2, 0.9), (0, 2, 3, 0.8), (0, 6, 5, 0.4), (0, 5, 1, 0.29),
        (1, 0, 0, 0.2),  # below the threshold, but something is there
        (2, 4, 4, 0.95),  # a peak, but nothing fits
    ]  # fmt: skip
    with_outputs(model, monkeypatch, peaks, [0.8, 0.6, 0.4])
    first, second, third = predict(model, 3)
    # The center of cell (row 2, column 2) is 2.5 / 8 of the side, the size 1 / 4 of it.
    side_x, side_y = 160, 96

    def box(row, column):
        x, y = (column + 0.5) / 8, (row + 0.5) / 8
        return [max(0, x - 0.125) * side_x, max(0, y - 0.125) * side_y,
                min(1, x + 0.125) * side_x, min(1, y + 0.125) * side_y]  # fmt: skip

    torch.testing.assert_close(
        first.pred_instances.bboxes, torch.tensor([box(2, 2), box(6, 5)]), atol=1e-3, rtol=0
    )
    torch.testing.assert_close(first.pred_instances.scores, torch.tensor([0.9, 0.4]))
    torch.testing.assert_close(
        second.pred_instances.bboxes, torch.tensor([box(0, 0)]), atol=1e-3, rtol=0
    )
    assert third.pred_instances.bboxes.shape == (0, 4)
    assert [round(s.pred_presence.item(), 4) for s in (first, second, third)] == [0.8, 0.6, 0.4]
    assert first.pred_union_mask.shape == (1, 96, 160) and first.pred_union_mask.all()
    assert not third.pred_union_mask.any()
    monkeypatch.setattr(model.head, 'max_objects', 1)
    assert len(predict(model, 3)[0].pred_instances) == 1


def test_other_heads(repo_root):
    masks = build(repo_root, **{'model.head.groups': (('mask',),)})
    masks.train()
    assert set(run(masks, 'loss', batch())) == {'loss_presence', 'loss_mask', 'loss_dice'}
    for sample in predict(masks, 2):
        assert 'bboxes' not in sample.pred_instances and 'pred_union_mask' in sample
    narrow = build(
        repo_root, **{'model.head.presence': dict(type='PresenceHead', channels=16)}
    ).head.presence
    assert [layer.out_features for layer in (narrow.layers[0], narrow.layers[2])] == [16, 1]
    for options, message in (
        ({'model.head.decode_at': 'prediction'}, "'prediction'; GeneralizedHead expects 'target'"),
        ({'model.head.max_objects': 0}, 'max_objects: 0; expected at least 1'),
    ):
        with pytest.raises(ValueError, match=message):
            build(repo_root, **options)
    with pytest.raises(ValueError, match='CollaborativeHead; GeneralizedPLVL expects Generalized'):
        build(repo_root, 'plvl_tiny_1xb16-3k_scenes', **{'model.type': 'GeneralizedPLVL'})


# ---- inference


@pytest.fixture(scope='module')
def inferencer(repo_root, model, tmp_path_factory):
    cfg = Config.fromfile(repo_root / 'configs/plvl/plvl_tiny_1xb16-3k_generalized-scenes.py')
    cfg.merge_from_dict(dict(model=copy.deepcopy(SMALL)))
    path = tmp_path_factory.mktemp('weights') / 'iter_1.pth'
    torch.save(dict(state_dict=model.state_dict(), meta=dict(cfg=cfg.pretty_text)), path)
    return GroundingInferencer(weights=path, device='cpu', show_progress=False)


def test_inferencer(inferencer, monkeypatch, tmp_path):
    image = np.random.default_rng(0).integers(60, 200, (96, 160, 3), np.uint8)
    peaks = [(0, 2, 2, 0.9), (0, 6, 5, 0.4)]
    with_outputs(inferencer.model, monkeypatch, peaks, [0.8, 0.1])
    result = inferencer(image, ['both', 'the lion'], return_vis=True, out_dir=tmp_path)
    both, lion = result['predictions']
    assert both['found'] and len(both['bboxes']) == 2 and both['score'] == pytest.approx(0.8)
    assert both['scores'] == pytest.approx([0.9, 0.4])
    assert both['mask']['size'] == [96, 160]
    assert lion == dict(
        image=None, sentence='the lion', score=lion['score'], found=False, bboxes=[], scores=[]
    )
    assert len(list(tmp_path.glob('vis/*.jpg'))) == 2
    found, nothing = result['visualization']
    assert found.shape == nothing.shape and (found != nothing).any()


def test_tool_says_that_nothing_fits(monkeypatch, repo_root):
    import runpy

    describe = runpy.run_path(str(repo_root / 'tools/infer.py'))['describe']
    assert describe(dict(score=0.1, found=False, bboxes=[], scores=[])) == (
        'nothing in the image fits, score 0.100'
    )
    two = dict(score=0.8, found=True, bboxes=[[1, 2, 3, 4], [5, 6, 7, 8]], scores=[0.9, 0.4])
    assert describe(two) == (
        '2 found, score 0.800: box 1.0 2.0 3.0 4.0, score 0.900; box 5.0 6.0 7.0 8.0, score 0.400'
    )
    assert describe(dict(score=0.5, bbox=[1, 2, 3, 4])) == 'box 1.0 2.0 3.0 4.0, score 0.500'
