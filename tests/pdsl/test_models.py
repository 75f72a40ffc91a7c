"""The model: formulas by hand, switches, predictions, and inputs that have little to say."""

import copy
import itertools
import math
import re
import threading
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData
from torchvision.ops import box_iou

import projects.pdsl.register  # noqa: F401
from projects.common.build import build_quietly
from projects.common.errors import InputError
from projects.pdsl.models import losses as L
from projects.pdsl.models.cue_targets import select_seeds, start_targets
from projects.pdsl.models.detections import detections
from projects.pdsl.models.gradient_masks import threshold_heatmaps
from projects.pdsl.models.pooled_linear import pooled_linear
from projects.pdsl.models.pseudo_labels import ImagePredictions

init_default_scope('mmdet')
SIZE = 64


def ellipses(image, boxes, metainfo=None):
    """A cue without an image: the ellipse inside each box."""
    assert image.dtype == np.uint8 and image.shape == (SIZE, SIZE, 3)
    ys, xs = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    x1, y1, x2, y2 = (side[:, None, None] for side in boxes.T)
    return ((2 * xs - x1 - x2) / (x2 - x1)) ** 2 + ((2 * ys - y1 - y2) / (y2 - y1)) ** 2 <= 1


def tiny(repo_root, **changes):
    """The tiny model with a cue that costs nothing; ``changes`` are merged into its config."""
    cfg = Config.fromfile(repo_root / 'configs/pdsl/_base_/pdsl_tiny.py')
    default = {'roi_head.loss_correlation.average': 'foreground'}  # the scenes' config has another
    changes = {'roi_head.mask_head.conv_out_channels': 8, **default, **changes}
    cfg.merge_from_dict({f'model.{key}': value for key, value in changes.items()})
    cfg = cfg.model
    cfg.cue, learning = None, cfg.get('learning', 'parallel')
    cfg.learning = 'cascade'  # builds without a cue
    torch.manual_seed(0)
    model = build_quietly(cfg, 'mmdet')
    for part in (model.roi_head.bbox_head, model.roi_head.mask_head):
        part.init_weights()
    model.cue, model.learning = ellipses, learning
    return model


def sample(seed=0, count=20, tags=(1, 4), boxes=None):
    rng = np.random.RandomState(seed)
    if boxes is None:
        low = rng.uniform(0, SIZE - 16, (count, 2))
        boxes = np.concatenate((low, np.minimum(low + rng.uniform(8, 48, (count, 2)), SIZE)), 1)
    proposals = InstanceData(
        bboxes=torch.tensor(np.asarray(boxes), dtype=torch.float32).reshape(-1, 4),
        scores=torch.from_numpy(rng.rand(len(boxes))).float(),
    )
    meta = dict(
        img_shape=(SIZE, SIZE), ori_shape=(32, 32), scale_factor=(2.0, 2.0), img_path='x.jpg'
    )
    return DetDataSample(metainfo=dict(**meta, tags=tags), proposals=proposals)


def batch(*samples, seed=0):
    rng = np.random.RandomState(seed)
    images = [
        torch.from_numpy(rng.randint(0, 256, (3, SIZE, SIZE)).astype(np.uint8)) for _ in samples
    ]
    return dict(inputs=images, data_samples=list(samples))


def run_loss(model, *samples, seed=0):
    data = model.data_preprocessor(batch(*samples, seed=seed), True)
    return model(**data, mode='loss')


# ------------------------------------------------------------------------------------ formulas


def test_wsddn_by_hand():
    cls, det = torch.tensor([[1.0, 2.0], [0.0, -1.0]]), torch.tensor([[0.5, 0.0], [1.5, 3.0]])
    scores = L.wsddn_scores(cls, det)
    e = math.exp
    first = e(1) / (e(1) + e(2)) * e(0.5) / (e(0.5) + e(1.5))
    assert scores[0, 0].item() == pytest.approx(first, rel=1e-6)
    y = L.image_level_scores(scores)
    assert y[1].item() == pytest.approx((scores[0, 1] + scores[1, 1]).item())
    loss = L.mil_loss(y, torch.tensor([1.0, 0.0]))
    assert loss.tolist() == pytest.approx([-math.log(y[0]), -math.log(1 - y[1])])
    # one class: its softmax would be 1 for every proposal, whatever the logits are
    one = L.wsddn_scores(cls[:, :1], det[:, :1])
    assert one[1, 0].item() == pytest.approx(0.5 * e(1.5) / (e(0.5) + e(1.5)), rel=1e-6)


def test_a_seed_is_of_its_own_class(repo_root):
    """Also where a class has fewer foreground proposals than seeds, and takes those of others."""
    head, asked = tiny(repo_root, **{'roi_head.num_seeds': 10}).roi_head, {}
    boxes = torch.tensor([[0.0, 0, 20, 20], [30, 30, 60, 60], [31, 30, 60, 60], [0, 0, 8, 8]])
    scores = torch.zeros(4, 6)
    scores[0, 1], scores[1, 4] = 0.9, 0.8
    image = ImagePredictions(boxes, torch.tensor([1, 4]), torch.ones(6), scores, boxes)

    def pseudo_masks(index, boxes, labels):
        asked.update(zip(map(tuple, boxes.tolist()), labels.tolist()))
        return torch.ones(len(boxes), SIZE, SIZE, dtype=torch.bool)

    seeds = select_seeds([head.label(image)], head.num_seeds)
    start_targets(seeds, pseudo_masks, 28)()
    assert asked == {(0, 0, 20, 20): 1, (30, 30, 60, 60): 4, (31, 30, 60, 60): 4}


def test_losses_start_where_chance_does(repo_root):
    """Masks at probabilities of one half, whatever the features; the layers as released."""
    cfg = Config.fromfile(repo_root / 'configs/pdsl/_base_/pdsl_r18.py').model.roi_head
    torch.manual_seed(0)
    mask_head, box_head = MODELS.build(cfg.mask_head), MODELS.build(cfg.bbox_head)
    mask_head.init_weights()
    for logits in mask_head(torch.rand(2, 512, 14, 14) * 2):
        loss = L.mask_loss(logits[:, 0], (torch.rand(2, 28, 28) > 0.5).float()) / 28**2
        assert loss.tolist() == pytest.approx([math.log(2)] * 2, rel=0.02)
    for layer in (mask_head.conv_logits, *mask_head.specific_logits):
        assert layer.weight.std().item() == pytest.approx(0.001, rel=0.2)
    box_head.init_weights()
    for layer in box_head.fcs:
        assert layer.weight.std().item() == pytest.approx(0.005, rel=0.01)
        assert (layer.bias == 0.1).all()


@torch.no_grad()
def test_correlation_counts_beside_the_masks(repo_root):
    """Both are means over the same proposals: those with a mask, however many have none."""
    model = tiny(repo_root).train()
    crowd = np.array([[4, 4, 40, 40], [6, 4, 42, 40], [4, 6, 40, 44]])
    far = np.array([[50 + x, 50 + y, 60 + x, 60 + y] for x in range(4) for y in range(4)])
    few = run_loss(model, sample(tags=(1,), boxes=crowd))
    many = run_loss(model, sample(tags=(1,), boxes=np.concatenate((crowd, far))))
    for name in ('loss_correlation1', 'loss_mask1'):
        assert 0.05 < few[name] < 1 and 0.05 < many[name] < 1
    model.roi_head.loss_correlation.average = 'proposals'
    diluted = run_loss(model, sample(tags=(1,), boxes=np.concatenate((crowd, far))))
    share = (diluted['loss_correlation1'] / many['loss_correlation1']).item()
    assert share * 19 == pytest.approx(round(share * 19), abs=1e-3) and share < 0.9


def test_heads_losses_by_hand():
    logits, labels = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([1, 1])
    ours = L.classification_loss(logits, labels, torch.tensor([0.5, 2.0]))
    log = math.log
    wanted = [0.5 * log(1 + math.exp(1)), 2 * log(1 + math.exp(-2))]
    assert ours.tolist() == pytest.approx(wanted, rel=1e-5)
    moves, target = torch.tensor([[0.5, 2.0, 0.0, -3.0]]), torch.zeros(1, 4)
    smooth = 0.125 + 1.5 + 2.5
    assert L.regression_loss(moves, target).item() == pytest.approx(smooth)
    weights = torch.tensor([0.5])
    assert L.regression_loss(moves, target, weights, beta=0).item() == pytest.approx(0.5 * 5.5)
    mask, soft = torch.tensor([[[0.0, 2.0]]]), torch.tensor([[[0.25, 1.0]]])
    wanted = log(2) + log(1 + math.exp(-2))
    assert L.mask_loss(mask, soft).item() == pytest.approx(wanted, rel=1e-5)
    probs = torch.tensor([[[0.0, 1.0]]])
    wanted = math.log((1 + math.exp(5)) / 2) / 5
    assert L.instance_activation(probs).item() == pytest.approx(wanted, rel=1e-5)


def test_reductions_by_hand():
    sums, counts = [torch.tensor(6.0), torch.tensor(0.0), torch.tensor(5.0)], [3, 0, 10]
    assert L.reduce_images(sums, counts, 'sum').item() == pytest.approx(11 / 3)
    assert L.reduce_images(sums, counts, 'mean').item() == pytest.approx((2 + 0 + 0.5) / 3)
    assert L.reduce_images(sums, counts, 'batch_mean').item() == pytest.approx(11 / 13)
    with pytest.raises(ValueError, match="'max'"):
        L.reduce_images(sums, counts, 'max')


def test_heatmaps():
    heat = torch.zeros(2, 40, 40)
    heat[0, 10:20, 10:20] = 1
    heat[0, 30:, 30:] = 9  # outside the box
    masks = threshold_heatmaps(heat, torch.tensor([[5.0, 5, 25, 25], [0, 0, 8, 4]]), kernel=1)
    assert torch.equal(masks[0], heat[0] == 1)
    assert masks[1].sum() == 32 and masks[1, :4, :8].all()  # flat: the box


def test_detections_by_brute_force():
    rng = np.random.RandomState(3)
    low = torch.from_numpy(rng.uniform(-20, 50, (60, 2, 2))).float()
    boxes = torch.cat((low, low + torch.from_numpy(rng.uniform(5, 40, (60, 2, 2))).float()), -1)
    probs = torch.from_numpy(rng.dirichlet([1, 1, 1], 60)).float()
    cfg = dict(score_thr=0.1, nms=dict(type='nms', iou_threshold=0.5), max_per_img=15)
    ours = detections(probs, boxes, (SIZE, SIZE), cfg)
    clipped, kept = boxes.clamp(0, SIZE), []
    for label in range(2):
        mine = []
        for index in probs[:, label].argsort(descending=True).tolist():
            box = clipped[index, label][None]
            if probs[index, label] <= 0.1 or (box[0, 2:] <= box[0, :2]).any():
                continue
            if all(box_iou(box, other[None]).item() <= 0.5 for _, other in mine):
                mine.append((probs[index, label].item(), box[0]))
        kept += [(score, label, box) for score, box in mine]
    kept.sort(key=lambda each: -each[0])
    assert len(kept) > 15 == len(ours)
    assert ours.scores.tolist() == pytest.approx([each[0] for each in kept[:15]])
    assert ours.labels.tolist() == [each[1] for each in kept[:15]]
    assert torch.equal(ours.bboxes, torch.stack([each[2] for each in kept[:15]]))


# ------------------------------------------------------------------------------------- backbone


def test_backbone_strides_and_freezing():
    backbone = MODELS.build(dict(type='ResNetWS', depth=18, frozen_stages=4))
    backbone.train()
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    x = torch.zeros(1, 3, 64, 96)
    assert [tuple(each.shape) for each in backbone(x)] == [(1, 512, 8, 12)]
    pretraining = dict(type='ResNetWS', depth=18, pools=(2, 2, 0, 0), dilations=(1, 1, 1, 1))
    assert MODELS.build(pretraining)(x)[0].shape == (1, 512, 4, 6)
    with pytest.raises(ValueError, match=r'pools: \(2, 3, 0, 0\)'):
        MODELS.build(dict(type='ResNetWS', depth=18, pools=(2, 3, 0, 0)))
    with pytest.raises(ValueError, match='strides'):
        MODELS.build(dict(type='ResNetWS', depth=18, strides=(1, 2, 2, 2)))


@torch.no_grad()
def test_backbone_in_mask_rcnn():
    """mmdet's own Mask R-CNN with another backbone, by config alone."""
    from mmdet.utils import get_test_pipeline_cfg  # noqa: F401  (mmdet is installed)
    from mmengine.hub import get_config

    cfg = get_config('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py')
    cfg.merge_from_dict(
        dict(
            model=dict(
                backbone=dict(
                    _delete_=True,
                    type='ResNetWS',
                    depth=50,
                    pools=(2, 2, 2, 0),
                    dilations=(1, 1, 1, 1),
                    out_indices=(0, 1, 2, 3),
                    outputs_before_pool=True,
                )
            )
        )
    )
    model = MODELS.build(cfg.model).eval()
    x = torch.zeros(1, 3, 64, 96)
    sizes = [tuple(each.shape[1:]) for each in model.backbone(x)]
    assert sizes == [(256, 16, 24), (512, 8, 12), (1024, 4, 6), (2048, 2, 3)]
    meta = dict(img_shape=(64, 96), ori_shape=(64, 96), scale_factor=(1.0, 1.0))
    data = batch(DetDataSample(metainfo=meta))
    data['inputs'] = [torch.zeros(3, 64, 96, dtype=torch.uint8)]
    (result,) = model.test_step(data)
    assert result.pred_instances.masks.shape[1:] == (64, 96)


# ----------------------------------------------------------------------------------- whole model


def test_tiny_config_learns(repo_root):
    """The config as it is, GrabCut included: a few steps on one image lower its losses."""
    cfg = Config.fromfile(repo_root / 'configs/pdsl/_base_/pdsl_tiny.py').model
    torch.manual_seed(0)
    model = build_quietly(cfg, 'mmdet').train()
    optimizer = torch.optim.SGD(model.parameters(), 0.02, momentum=0.9)
    totals = []
    for _ in range(8):
        losses = run_loss(model, sample())
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        totals.append(losses['loss_mil'].item())
    assert totals[-1] < 0.7 * totals[0]


def test_loss_names_and_gradients(repo_root):
    model = tiny(repo_root).train()
    losses = run_loss(model, sample(0), sample(1, tags=(2,)))
    assert set(losses) == {
        'loss_mil',
        *(f'loss_refine{r}_{what}' for r in (1, 2, 3) for what in ('cls', 'reg')),
        *(f'loss_mask{m}' for m in (0, 1, 2)),
        *(f'loss_correlation{m}' for m in (1, 2)),
    }
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


@pytest.mark.parametrize('num_refinements', [0, 1, 5])
@pytest.mark.parametrize('num_specific', [0, 2])
def test_numbers_of_heads(repo_root, num_refinements, num_specific):
    model = tiny(
        repo_root,
        **{
            'roi_head.bbox_head.num_refinements': num_refinements,
            'roi_head.mask_head.num_specific': num_specific,
        },
    )
    losses = run_loss(model.train(), sample())
    assert len(losses) == 1 + 2 * num_refinements + 1 + 2 * num_specific
    assert all(torch.isfinite(loss) for loss in losses.values())
    (result,) = model.eval().test_step(batch(sample()))
    assert len(result.pred_instances) and result.pred_instances.masks.shape[1:] == (32, 32)


@torch.no_grad()
def test_prediction_is_the_heads_mean(repo_root):
    model = tiny(repo_root).eval()
    data = model.data_preprocessor(batch(sample()), False)
    x = model.extract_feat(data['inputs'])
    head, proposals = model.roi_head, data['data_samples'][0].proposals
    features = head.proposal_features(x, [proposals])
    ((probs, boxes, image_scores),) = head.score_proposals(x, [proposals])
    each = [layer['cls'](features).softmax(1) for layer in head.bbox_head.refinements]
    torch.testing.assert_close(probs, sum(each) / 3)
    moves = sum(layer['reg'](features) for layer in head.bbox_head.refinements) / 3
    dx, _, dw, _ = moves[0, 4:8].tolist()  # class 1
    x1, _, x2, _ = proposals.bboxes[0].tolist()
    width, center = (x2 - x1) * math.exp(0.2 * dw), (x1 + x2) / 2 + (x2 - x1) * 0.1 * dx
    wanted = [center - width / 2, center + width / 2]
    assert boxes[0, 1, 0::2].tolist() == pytest.approx(wanted, rel=1e-4)
    rois = torch.tensor([[0.0, 4, 4, 40, 40]])
    (raw,) = model.forward(data['inputs'], data['data_samples'])
    assert torch.equal(raw[0], probs) and torch.equal(raw[1], boxes)
    assert raw[2].shape == (len(proposals.bboxes), head.num_classes, 28, 28)
    masks = head._mask_forward(x, rois)['mask_preds']
    logits = head.mask_head(head._mask_features(x, rois))
    torch.testing.assert_close(masks, (logits[1] + logits[2]) / 2)
    assert logits[0].shape == (1, 1, 28, 28)
    (result,) = model.test_step(batch(sample()))
    found = result.pred_instances
    assert found.bboxes.max() <= 32  # pixels of the original image
    classes, places = head.bbox_head.streams(features)
    torch.testing.assert_close(image_scores, (classes.softmax(1) * places.softmax(0)).sum(0))
    torch.testing.assert_close(found.metainfo['image_scores'], image_scores)
    assert (found.scores[:-1] >= found.scores[1:]).all()


def brute_force_nms(boxes, scores, iou_thr):
    kept = []
    for i in scores.argsort(descending=True).tolist():
        if all(box_iou(boxes[i, None], boxes[j, None]).item() <= iou_thr for j in kept):
            kept.append(i)
    return kept


def test_tags_choose_before_threshold_nms_and_the_best(repo_root):
    rng = torch.Generator().manual_seed(0)
    low = torch.rand(60, 2, generator=rng) * 40
    boxes = torch.cat((low, low + 5 + torch.rand(60, 2, generator=rng) * 20), 1)
    probs = torch.rand(60, 7, generator=rng).softmax(1)
    probs[:, 3] *= 1e-7  # a class that is there and that the model hardly believes in
    probs[:, 5] = 0.9  # one that is not and would take all places
    cfg = dict(score_thr=1e-5, nms=dict(type='nms', iou_threshold=0.5), max_per_img=6)
    found = detections(probs, boxes[:, None].expand(-1, 6, -1), (64, 64), cfg, tags=[2, 3])
    of_two = brute_force_nms(boxes, probs[:, 2], 0.5)[:5]
    best = probs[:, 3].argmax().item()
    assert found.labels.tolist() == [2] * 5 + [3]
    torch.testing.assert_close(found.bboxes, boxes[[*of_two, best]])
    assert found.scores.tolist() == [*probs[of_two, 2].tolist(), probs[best, 3].item()]
    assert not len(detections(probs, boxes[:, None].expand(-1, 6, -1), (64, 64), cfg, tags=[]))
    # through the model, which finds the tags in the metainfo
    model = tiny(repo_root).eval()
    model.roi_head.test_cfg.tags_only = True
    model.roi_head.test_cfg.score_thr = 0.99  # only the best of each is left
    (result,) = model.test_step(batch(sample(tags=(1, 4))))
    assert sorted(result.pred_instances.labels.tolist()) == [1, 4]
    without = sample()
    del without.tags
    with pytest.raises(ValueError, match="tags_only without 'tags'"):
        model.test_step(batch(without))


MIL = {'loss_mil'}
CLS, REG = ({f'loss_refine{r}_{what}' for r in (1, 2, 3)} for what in ('cls', 'reg'))
MASK, SPECIFIC = ({f'loss_mask{m}' for m in rows} for rows in ((0, 1, 2), (1, 2)))
CORRELATION = {'loss_correlation1', 'loss_correlation2'}
# value and the terms that change with it; None where everything after it may
SWITCHES = {
    'loss_mil': (None, MIL),
    'loss_mil.reduction': ('sum', MIL),
    'loss_mil.loss_weight': (4.0, MIL),
    'loss_refine': (None, CLS | REG),
    'loss_refine.reduction': ('sum', CLS | REG),
    'loss_refine.smooth_l1_beta': (0.0, REG),
    'loss_refine.weighted_regression': (False, REG),
    'loss_refine.loss_weight': (4.0, CLS | REG),
    'loss_mask': (None, MASK),
    'loss_mask.reduction': ('sum', MASK),
    'loss_mask.soft_targets': (False, SPECIFIC),
    'loss_mask.weighted': (False, SPECIFIC),
    'loss_mask.loss_weight': (4.0, MASK),
    'loss_correlation': (None, CORRELATION),
    'loss_correlation.reduction': ('batch_mean', CORRELATION),
    'loss_correlation.target': ('pseudo_gt', CORRELATION),
    'loss_correlation.average': ('proposals', CORRELATION),
    'loss_correlation.agnostic': (True, {'loss_correlation0'}),
    'loss_correlation.loss_weight': (4.0, CORRELATION),
    'num_seeds': (1, {'loss_mask0'}),
    'miner': (dict(type='SelfTrainingMiner', _delete_=True), None),
    'assigner.iou_thr': (0.9, None),
    'objectness_factor': (True, None),
}


def test_every_switch_changes_its_terms(repo_root):
    """Each argument changes the terms that it is for, or leaves them out, and no other."""
    rng, losses = np.random.RandomState(0), {}
    boxes = np.array([[4, 4, 40, 40], [20, 10, 60, 50]])[np.arange(40) % 2]
    crowd = np.clip(boxes + rng.uniform(-4, 4, boxes.shape), 0, SIZE)
    for name, (value, _) in {'default': (None, None), **SWITCHES}.items():
        changes = {} if name == 'default' else {f'roi_head.{name}': copy.deepcopy(value)}
        model = tiny(repo_root, **changes).train()
        losses[name] = run_loss(model, sample(boxes=crowd), sample(1, 9))
    default = losses.pop('default')
    for name, found in losses.items():
        value, expected = SWITCHES[name]
        changed = {
            key
            for key in {*found, *default}
            if key not in found or key not in default or abs(found[key] - default[key]) > 1e-7
        }
        if expected is None:
            assert changed >= CLS | SPECIFIC | CORRELATION, name
        else:
            assert changed == expected, name
            assert value is not None or not found.keys() & expected, name


@torch.no_grad()
def test_a_config_without_parts_has_the_defaults(repo_root):
    """The head's own defaults are those that the base config writes down."""
    cfg = Config.fromfile(repo_root / 'configs/pdsl/_base_/pdsl_r18.py').model.roi_head
    written = {name: cfg.pop(name) for name in [*cfg] if name.startswith('loss_')}
    written |= {name: cfg.pop(name) for name in ('miner', 'assigner')}
    assert len(written) == 6
    cfg.bbox_head.fc_channels, cfg.mask_head.conv_out_channels = (8, 8), 8
    plain, full = MODELS.build(cfg), MODELS.build({**cfg, **copy.deepcopy(written)})
    for name in written:
        mine, theirs = getattr(plain, name), getattr(full, name)
        assert type(mine) is type(theirs) and type(mine).__name__ == written[name].type
        settings = [
            {key: value for key, value in vars(each).items() if not key.startswith('_')}
            for each in (mine, theirs)
        ]
        assert settings[0] == settings[1]
    assert [*plain.state_dict()] == [*full.state_dict()]
    assert not [key for key in plain.state_dict() if not re.match(r'(bbox|mask)_head\.', key)]


def test_without_masks_to_learn_nothing_is_cut_out(repo_root):
    """Neither the cue nor the mask head is asked for where no term needs them."""
    off = {'roi_head.loss_mask': None, 'roi_head.loss_correlation': None}
    model = tiny(repo_root, **off).train()
    model.cue = model.roi_head._mask_features = None
    losses = run_loss(model, sample())
    assert losses.keys() == MIL | CLS | REG
    model = tiny(repo_root, **{'roi_head.loss_mask': None}).train()
    model.cue = None
    assert run_loss(model, sample()).keys() == MIL | CLS | REG | CORRELATION
    cfg = Config.fromfile(repo_root / 'configs/pdsl/_base_/pdsl_tiny.py').model
    cfg.cue = cfg.roi_head.loss_mask = None
    assert MODELS.build(cfg).cue is None


def test_other_class_agnostic_masks(repo_root):
    agnostic = tiny(repo_root, **{'roi_head.mask_head.class_agnostic': False})
    assert agnostic.roi_head.mask_head.conv_logits.out_channels == 6
    assert torch.isfinite(run_loss(agnostic.train(), sample())['loss_mask0'])


def test_cascade_reads_no_cue(repo_root):
    model = tiny(repo_root, learning='cascade').train()
    model.cue = None
    losses = run_loss(model, sample(tags=(1,)))
    assert torch.isfinite(losses['loss_mask0']) and losses['loss_mask0'] > 0
    assert model.training and not any(p.grad is not None for p in model.parameters())
    image = torch.randn(3, SIZE, SIZE)
    masks = model.detection_masks(image, torch.tensor([[8.0, 8, 40, 50]]), torch.tensor([1]))
    assert masks.any() and not masks[0, :8].any() and not masks[0, :, 40:].any()
    with pytest.raises(ValueError, match='cue: None'):
        tiny_cfg = Config.fromfile(repo_root / 'configs/pdsl/_base_/pdsl_tiny.py').model
        MODELS.build(tiny_cfg | ConfigDict(cue=None))


def test_image_that_the_cue_sees(repo_root):
    """The preprocessor's work is undone: normalisation, channel order, padding."""
    model = tiny(repo_root).train()
    data, seen = batch(sample()), []

    def cue(image, boxes, metainfo):
        seen.append(image)
        return ellipses(image, boxes)

    model.cue = cue
    picture = data['inputs'][0].permute(1, 2, 0).numpy()
    model(**model.data_preprocessor(data, True), mode='loss')
    np.testing.assert_array_equal(seen[0], picture)


def test_the_cue_runs_beside_the_mask_heads(repo_root):
    """Each waits for the other to have begun: one after the other, this would not end."""
    model = tiny(repo_root).train()
    begun = {'cue': threading.Event(), 'heads': threading.Event()}
    met = []

    def cue(image, boxes, metainfo):
        begun['cue'].set()
        met.append(begun['heads'].wait(20))
        return ellipses(image, boxes)

    def heads(*_):
        begun['heads'].set()
        met.append(begun['cue'].wait(20))

    model.cue = cue
    model.roi_head.mask_head.register_forward_pre_hook(heads)
    run_loss(model, sample())
    assert met == [True, True]


def test_an_error_of_the_cue_ends_the_step(repo_root):
    model = tiny(repo_root).train()

    def cue(image, boxes, metainfo):
        raise InputError('masks.npz: no such mask')

    model.cue = cue
    with pytest.raises(InputError, match='no such mask'):
        run_loss(model, sample())


def test_chunks_change_nothing(repo_root):
    losses, gradients = [], []
    for size in (0, 7):
        model = tiny(repo_root, **{'roi_head.chunk_size': size}).train()
        found = run_loss(model, sample(count=30))
        sum(found.values()).backward()
        losses.append(found)
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_chunks_pool_twice(repo_root):
    model = tiny(repo_root, **{'roi_head.chunk_size': 10}).train()
    sizes = []
    model.roi_head.bbox_roi_extractor.register_forward_hook(
        lambda _, __, pooled: sizes.append(len(pooled))
    )
    loss = sum(run_loss(model, sample(count=25)).values())
    assert sizes == [10, 10, 5]
    loss.backward()
    assert sizes == 2 * [10, 10, 5]


@pytest.mark.parametrize('learnt', list(itertools.product((True, False), repeat=4)))
def test_pooled_linear(learnt):
    """Against the layer over all rows, whatever asks for a gradient."""
    torch.manual_seed(0)
    of_weight, of_bias, of_first, of_second = learnt
    weight = torch.randn(5, 8, requires_grad=of_weight)
    bias = torch.randn(5, requires_grad=of_bias)
    first = torch.randn(6, 2, 4, requires_grad=of_first)
    second = torch.randn(6, 2, 4, requires_grad=of_second)
    rows, factor = torch.randint(6, (11,)), torch.rand(11)

    def pool(maps, rows, factor):
        return ((maps[0] * maps[1])[rows] * factor[:, None, None]).flatten(1)

    maps = (first, second)
    found = pooled_linear(pool, maps, (rows, factor), weight, bias, 4)
    expected = F.linear(pool(maps, rows, factor), weight, bias)
    torch.testing.assert_close(found, expected)
    asked = [each for each in (weight, bias, *maps) if each.requires_grad]
    assert found.requires_grad == bool(asked)
    if asked:
        out = torch.randn_like(found)
        torch.testing.assert_close(
            torch.autograd.grad(found, asked, out), torch.autograd.grad(expected, asked, out)
        )


def test_pooled_linear_under_autocast():
    torch.manual_seed(0)
    weight, maps = torch.randn(5, 8, requires_grad=True), (torch.randn(6, 8, requires_grad=True),)
    rows = torch.randint(6, (11,))
    gradients = []
    with torch.autocast('cpu', torch.bfloat16):
        for found in (
            pooled_linear(lambda maps, rows: maps[0][rows], maps, (rows,), weight, None, 4),
            F.linear(maps[0][rows], weight),
        ):
            assert found.dtype == torch.bfloat16
            gradients.append(torch.autograd.grad(found.float().square().sum(), (weight, *maps)))
    assert gradients[0][0].dtype == torch.float32
    torch.testing.assert_close(*gradients, rtol=2e-2, atol=0.5)


@pytest.mark.parametrize('reduction', ['sum', 'mean'])
def test_batch_is_the_mean_of_its_images(repo_root, reduction):
    """Gradient accumulation over images of different numbers of proposals is a batch of them."""
    reductions = {
        f'roi_head.loss_{name}.reduction': reduction for name in ('mil', 'refine', 'mask')
    }
    model = tiny(repo_root, **reductions).train()
    first, second = sample(0, 24), sample(1, 11, tags=(0,))
    data = batch(first, second)
    together = model(**model.data_preprocessor(copy.deepcopy(data), True), mode='loss')
    alone = []
    for image, each in zip(data['inputs'], data['data_samples']):
        one = dict(inputs=[image], data_samples=[each])
        alone.append(model(**model.data_preprocessor(one, True), mode='loss'))
    for name, loss in together.items():
        mean = (alone[0][name] + alone[1][name]) / 2
        torch.testing.assert_close(loss, mean, rtol=1e-4, atol=1e-6)


def test_boxes_and_masks_of_the_sample_are_not_read(repo_root):
    losses = []
    for shift in (0, 20):
        model, each = tiny(repo_root).train(), sample()
        each.gt_instances = InstanceData(
            bboxes=torch.tensor([[1.0, 1, 30, 30]]) + shift,
            labels=torch.tensor([shift // 5]),
            masks=torch.full((1, SIZE, SIZE), shift > 0),
        )
        losses.append(run_loss(model, each))
    for name, loss in losses[0].items():
        assert torch.equal(loss, losses[1][name])


@torch.no_grad()
def test_views_are_averaged_before_nms(repo_root):
    model = tiny(repo_root).eval()
    tta = MODELS.build(dict(type='PDSLTTAModel', module=model))
    plain, mirrored = batch(sample()), batch(sample())
    views = {key: [plain[key]] for key in plain}
    (alone,) = model.test_step(copy.deepcopy(plain))
    (merged,) = tta.test_step(copy.deepcopy(views))
    for name in ('scores', 'labels', 'bboxes', 'masks'):
        ours, wanted = (each.pred_instances[name].float() for each in (merged, alone))
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-4)

    # a mirrored view: averaged proposal by proposal, its boxes mirrored back
    mirrored['inputs'] = [mirrored['inputs'][0].flip(2)]
    (each,) = mirrored['data_samples']
    boxes = each.proposals.bboxes
    each.proposals.bboxes = torch.stack(
        (SIZE - boxes[:, 2], boxes[:, 1], SIZE - boxes[:, 0], boxes[:, 3]), 1
    )
    each.set_metainfo(dict(flip=True, flip_direction='horizontal'))
    probs, refined, tags = [], [], []
    for view in (plain, mirrored):
        data = model.data_preprocessor(copy.deepcopy(view), False)
        x = model.extract_feat(data['inputs'])
        ((prob, box, present),) = model.roi_head.score_proposals(
            x, [data['data_samples'][0].proposals]
        )
        probs.append(prob)
        refined.append(box)
        tags.append(present)
    low, high = SIZE - refined[1][..., 2], SIZE - refined[1][..., 0]
    refined[1] = torch.stack((low, refined[1][..., 1], high, refined[1][..., 3]), -1)
    wanted = detections(
        (probs[0] + probs[1]) / 2,
        (refined[0] + refined[1]) / 4,  # two views, of twice the original's size
        (32, 32),
        model.roi_head.test_cfg,
    )
    (merged,) = tta.test_step({key: [plain[key], mirrored[key]] for key in plain})
    torch.testing.assert_close(merged.pred_instances.bboxes, wanted.bboxes)
    torch.testing.assert_close(merged.pred_instances.scores, wanted.scores)
    torch.testing.assert_close(merged.pred_instances.image_scores, (tags[0] + tags[1]) / 2)

    fewer = batch(sample(count=19))
    with pytest.raises(ValueError, match='20 and 19 proposals'):
        tta.test_step({key: [plain[key], fewer[key]] for key in plain})


@torch.no_grad()
def test_mirrored_masks_are_mirrored_back(repo_root):
    """A symmetric view pair: an image and its mirror image give mirrored masks."""
    model = tiny(repo_root).eval()
    tta = MODELS.build(dict(type='PDSLTTAModel', module=model))
    model.roi_head._mask_forward = lambda x, rois: {
        'mask_preds': torch.linspace(-3, 3, 28).expand(len(rois), 6, 28, 28)
    }
    each = sample(count=1, boxes=[[8.0, 8, 40, 40]])
    each.set_metainfo(dict(flip=True, flip_direction='horizontal'))
    (result,) = tta.test_step({key: [value] for key, value in batch(each).items()})
    box = result.pred_instances.bboxes[0]
    columns = result.pred_instances.masks[0].float().sum(0)
    middle = int((box[0] + box[2]) / 2)
    left, right = columns[: middle - 1], columns[middle + 1 :]
    assert left.sum() > 0 and right.sum() == 0  # the ramp rises to the right in the view


# -------------------------------------------------------------------------- little to learn from


@pytest.mark.parametrize(
    ('samples', 'nothing_found'),
    [
        ([dict(boxes=np.zeros((0, 4)))], [True]),
        ([dict(boxes=np.zeros((0, 4))), dict()], [True, False]),
        ([dict(tags=())], [False]),
        ([dict(boxes=[[5, 5, 5, 5], [9, 9, 9, 20]])], [True]),
        ([dict(boxes=[[5, 5, 30, 30]], tags=range(6))], [False]),
        ([dict(boxes=[[-500, -500, -400, -400], [5, 5, 30, 30]])], [False]),
    ],
    ids=['no proposals', 'one without', 'no tags', 'no area', 'one proposal', 'outside'],
)
def test_poor_inputs_are_finite(repo_root, samples, nothing_found):
    model = tiny(repo_root).train()
    losses = run_loss(model, *(sample(**each) for each in samples))
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in model.roi_head.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    results = model.eval().test_step(batch(*(sample(**each) for each in samples)))
    assert [len(result.pred_instances) == 0 for result in results] == nothing_found


def test_warnings_are_counted(repo_root, log):
    model = tiny(repo_root).train()
    for _ in range(3):
        run_loss(model, sample(tags=()))
    assert model.roi_head.warnings == {'images without tags': 3}
    assert len([line for line in log if 'images without tags' in line]) == 1


def test_no_foreground_is_counted(repo_root, log):
    """Boxes that the last head moves far away leave its pseudo ground truth without proposals."""
    model = tiny(repo_root).train()
    with torch.no_grad():
        for head in model.roi_head.bbox_head.refinements:
            head['reg'].bias.copy_(torch.tensor([90.0, 90, 0, 0]).repeat(6))
    losses = run_loss(model, sample())
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert losses['loss_mask0'] == losses['loss_mask2'] == losses['loss_correlation1'] == 0
    sum(losses.values()).backward()
    for name, parameter in model.roi_head.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    assert model.roi_head.warnings == {'images without foreground': 1}
    assert [line for line in log if 'images without foreground: 1 so far' in line]


def test_frozen_loss_is_reported(log):
    """Once, with what to try; images of which all is right neither count nor interrupt."""
    loss = L.MILLoss()

    def run(count, scores, tag):
        for _ in range(count):
            loss([scores], [torch.tensor([tag])])

    def lines():
        return [line for line in log if 'no gradient for 100 iterations' in line]

    # a model that finds class 0, and nothing else, in every image
    stuck = torch.zeros(4, 6)
    stuck[0, 0] = 1.0
    # and one that still learns: its loss is -ln(1e-3)
    alive = stuck.clone()
    alive[0, 1] = 1e-3
    run(99, stuck, 1)
    run(50, stuck, 0)
    assert not lines()
    run(1, alive, 1)  # 13.8 of 20.7 are clamped
    run(99, stuck, 1)
    assert not lines()
    run(1, stuck, 1)
    assert len(lines()) == 1 and 'lower learning rate' in lines()[0]
    run(1, alive, 1)
    run(200, stuck, 1)
    assert len(lines()) == 1
    # the gradient is none indeed
    logits = torch.zeros(4, 6)
    logits[:, 0] = 100.0
    logits.requires_grad_()
    scores = L.wsddn_scores(logits, torch.zeros(4, 6))
    loss([scores], [torch.tensor([1])]).backward()
    assert logits.grad.abs().max() == 0


def test_one_class(repo_root):
    changes = {'roi_head.bbox_head.num_classes': 1, 'roi_head.mask_head.num_classes': 1}
    model = tiny(repo_root, **changes).train()
    losses = run_loss(model, sample(tags=(0,)))
    sum(losses.values()).backward()
    assert model.roi_head.bbox_head.classification.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'roi_head.loss_mil.reduction': 'max'}, "MILLoss: reduction='max'"),
        ({'roi_head.loss_correlation.target': 'x'}, "InstanceCorrelationLoss: target='x'"),
        ({'roi_head.loss_correlation.average': 'x'}, "InstanceCorrelationLoss: average='x'"),
        ({'roi_head.loss_correlation.reduction': 'sum'}, "reduction='sum', expected one of"),
        ({'roi_head.miner': dict(type='SelfTrainingMiner', top_ratio=0)}, 'top_ratio=0'),
        ({'roi_head.num_seeds': 0}, 'num_seeds: 0'),
        ({'roi_head.correlation_target': 'pseudo_gt'}, 'now roi_head.loss_correlation.target'),
        ({'roi_head.iou_thr': 0.4}, 'now roi_head.assigner.iou_thr'),
    ],
)
def test_wrong_arguments(repo_root, changes, message):
    with pytest.raises(ValueError, match=message):
        tiny(repo_root, **changes)


def test_wrong_samples(repo_root):
    model = tiny(repo_root).train()
    with pytest.raises(ValueError, match=r'x.jpg: tags \[6\]; expected 0 to 5'):
        run_loss(model, sample(tags=(6,)))
    without = sample()
    del without.proposals
    with pytest.raises(ValueError, match="x.jpg: no 'proposals'"):
        run_loss(model, without)
    without = sample()
    without = DetDataSample(metainfo=dict(img_shape=(SIZE, SIZE)), proposals=without.proposals)
    with pytest.raises(ValueError, match="no 'tags'"):
        run_loss(model, without)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_roi_pool_is_the_same_on_a_gpu():
    cfg = dict(
        type='PortableRoIExtractor',
        roi_layer=dict(type='RoIPool', output_size=7),
        out_channels=8,
        featmap_strides=[8],
    )
    extractor = MODELS.build(cfg)
    features = torch.randn(2, 8, 20, 30)
    rois = torch.rand(50, 5) * 100
    rois[:, 0] = torch.arange(50) % 2
    rois[:, 3:] += rois[:, 1:3]
    gpu = extractor([features.cuda()], rois.cuda()).cpu()
    torch.testing.assert_close(extractor([features], rois), gpu)


def test_roi_pool_by_hand():
    """Fast R-CNN's: corners rounded to cells, both inclusive; bins from floor to ceiling."""
    cfg = dict(
        type='PortableRoIExtractor',
        roi_layer=dict(type='RoIPool', output_size=2),
        out_channels=1,
        featmap_strides=[8],
    )
    features = torch.arange(48.0).view(1, 1, 6, 8)
    roi = torch.tensor([[0.0, 9, 8, 30, 33]])  # cells 1 to 4 across, 1 to 4 down
    pooled = MODELS.build(cfg)([features], roi)[0, 0]
    rows, columns = [1, 3, 5], [1, 3, 5]
    for i, (top, bottom) in enumerate(pairwise(rows)):
        for j, (left, right) in enumerate(pairwise(columns)):
            assert pooled[i, j] == features[0, 0, top:bottom, left:right].max()
