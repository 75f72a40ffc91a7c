"""Our modules against outputs of the released code on the same deterministic weights.

``pytest -s tests/pdsl/test_goldens.py`` prints the largest error of each file and its tolerance.
"""

import numpy as np
import pytest
import torch
from mmdet.structures.bbox import bbox_overlaps
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

import projects.pdsl.register  # noqa: F401
from projects.common import config_index
from projects.common.build import build_quietly
from projects.pdsl.cues import crop_masks
from projects.pdsl.models import losses as L
from projects.pdsl.models.mask_head import select_class
from projects.pdsl.models.pseudo_labels import (
    ImagePredictions,
    PseudoLabels,
    assign,
    mine_top_boxes,
    sample_seeds,
)
from projects.pdsl.released_keys import PDSL_KEYS
from projects.pdsl.released_weights import convert_detector, convert_imagenet


def names(reference, keys):
    lines = (reference.root / f'keys/{keys}.txt').read_text().splitlines()
    return [line.split('\t')[0] for line in lines if not line.startswith('#')]


def released_backbone(reference, depth, layout):
    """The golden's weights, as the released files hold them."""
    state = reference.state_dict(reference.root / f'keys/resnet_ws{depth}.txt', seed=0)
    state = {key: torch.from_numpy(value) for key, value in state.items()}
    first = (4096, 25088) if depth == 18 else (2048, 100352)
    wide = [torch.zeros(1).expand(size) for size in (first, first[:1], (4096, first[0]), (4096,))]
    if layout == 'caffe2':  # the lists of keys are in one order
        theirs = names(reference, f'resnet_ws{depth}_imagenet_pkl')
        return dict(zip(theirs, [*state.values(), *wide], strict=True))
    heads = [f'roi_heads.box_head.fc{i}.{field}' for i in (1, 2) for field in ('weight', 'bias')]
    return {**state, **dict(zip(heads, wide, strict=True))}


@pytest.mark.parametrize('depth, layout', [(18, 'pth'), (18, 'caffe2'), (50, 'caffe2')])
@torch.no_grad()
def test_backbone(reference, depth, layout):
    """The released weights through the converter, loaded as ``PDSL_PRETRAINED`` is."""
    golden = reference.golden(f'resnet_ws{depth}_seed0')
    backbone = MODELS.build(dict(type='ResNetWS', depth=depth, out_indices=(0, 1, 2, 3)))
    state = convert_imagenet(released_backbone(reference, depth, layout)).weights
    state = {
        key.removeprefix('backbone.'): value
        for key, value in state.items()
        if key.startswith('backbone.')
    }
    backbone.load_state_dict(state)
    backbone.eval()
    stem = []
    backbone.maxpool.register_forward_hook(lambda _, __, output: stem.append(output))
    for prefix, shape in (('', (1, 3, 96, 128)), ('odd_', (1, 3, 97, 131))):
        stem.clear()
        stages = backbone(reference.array('image', shape) * 50)
        stages = (*stem, *stages)
        assert [list(stage.shape) for stage in stages] == golden[f'{prefix}stage_shapes'].tolist()
        for stage, stats in zip(stages, golden[f'{prefix}stage_stats'], strict=True):
            values = stage.double()
            found = [values.abs().mean(), values.std()]
            np.testing.assert_allclose(found, stats[1:3], rtol=1e-5)
        step = golden[f'{prefix}res5_channel_step'].item()
        golden.check(stages[-1][:, ::step], f'{prefix}res5', 1e-3)
        if not prefix:
            for name, stage in zip(('stem', 'res2', 'res3', 'res4'), stages, strict=False):
                part = stage[:, :: stage.shape[1] // 8, ::2, ::2]
                golden.check(part, name, 1e-3)


@pytest.mark.parametrize('scope', ['mmdet', 'mmpretrain'])
def test_heads_have_the_released_tensors(reference, scope):
    """Of ResNet-18 and 50, with the released class-specific M^0; under any default scope."""
    for keys, channels, fc in (('pdsl_heads', 512, 4096), ('pdsl_heads_r50', 2048, 2048)):
        with torch.device('meta'), DefaultScope.overwrite_default_scope(scope):
            box = MODELS.build(
                dict(type='PDSLBoxHead', in_channels=channels, fc_channels=(fc, 4096))
            )
            mask = MODELS.build(
                dict(
                    type='PDSLMaskHead',
                    in_channels=channels,
                    num_classes=20,
                    class_agnostic=False,
                )
            )
        shapes = {f'roi_head.bbox_head.{k}': list(v.shape) for k, v in box.state_dict().items()}
        shapes |= {f'roi_head.mask_head.{k}': list(v.shape) for k, v in mask.state_dict().items()}
        lines = (reference.root / f'keys/{keys}.txt').read_text().splitlines()
        theirs = dict(line.split('\t') for line in lines if not line.startswith('#'))
        assert shapes == {
            PDSL_KEYS.to_ours(key): [int(size) for size in shape.split(',')]
            for key, shape in theirs.items()
        }


def test_released_config_has_the_released_tensors(reference, repo_root):
    """No more, no fewer, under names that map both ways, and the released switches."""
    cfg = Config.fromfile(repo_root / 'configs/pdsl/_base_/pdsl_r18_released.py').model
    with torch.device('meta'):
        model = build_quietly(cfg, 'mmdet')
    ours = {
        PDSL_KEYS.to_theirs(key): list(value.shape)
        for key, value in model.state_dict().items()
        if not key.endswith('num_batches_tracked')
    }
    theirs = {}
    for keys in ('resnet_ws18', 'pdsl_heads'):
        for line in (reference.root / f'keys/{keys}.txt').read_text().splitlines():
            key, shape = line.split('\t')
            theirs[key] = [int(size) for size in shape.split(',')]
    assert ours == theirs
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())
    paper = Config.fromfile(repo_root / 'configs/pdsl/_base_/pdsl_r18.py').model
    with torch.device('meta'):
        assert build_quietly(paper, 'mmdet').roi_head.mask_head.conv_logits.out_channels == 1


def converted_heads(golden):
    """The golden's box head through the converter, in a model of its size."""
    cfg = config_index.find_config('pdsl_r18-released_4xb1-60k_voc12')
    cfg = Config.fromfile(cfg)
    box = dict(in_channels=16, roi_feat_size=1, num_classes=3, fc_channels=())
    mask = dict(num_classes=3, in_channels=16, conv_out_channels=4)
    cfg.merge_from_dict({'model.roi_head': dict(bbox_head=box, mask_head=mask)})
    with torch.device('meta'):
        shapes = build_quietly(cfg.model, 'mmdet').state_dict()
    weights = {
        PDSL_KEYS.to_theirs(key): torch.zeros(value.shape)
        for key, value in shapes.items()
        if not key.endswith('num_batches_tracked')
    }
    known = {f'roi_heads.{k[2:]}': torch.from_numpy(v) for k, v in golden.items() if k[:2] == 'w_'}
    assert known.keys() <= weights.keys()
    done = convert_detector({**weights, **known}, cfg)
    prefix = 'roi_head.bbox_head.'
    return {k.removeprefix(prefix): v for k, v in done.weights.items() if k.startswith(prefix)}


class Case:
    """One of the two batches of pdsl_losses.npz, run through our functions."""

    num_classes, heads = 3, 4

    def __init__(self, golden, prefix):
        self.golden, self.prefix = golden, prefix
        self.images = 1 if prefix == 'a' else 2
        self.head = MODELS.build(
            dict(
                type='PDSLBoxHead',
                in_channels=16,
                roi_feat_size=1,
                num_classes=3,
                fc_channels=(),
                num_refinements=4,
            )
        )
        self.head.load_state_dict(converted_heads(golden))
        self.boxes = [self.get(f'boxes_img{i}') for i in range(self.images)]
        self.tags = [self.get(f'image_classes_img{i}') for i in range(self.images)]
        self.split = [len(boxes) for boxes in self.boxes]

    def get(self, name):
        return torch.from_numpy(self.golden[f'{self.prefix}_{name}'])

    def check(self, ours, name, tolerance):
        self.golden.check(ours, f'{self.prefix}_{name}', tolerance)

    def check_relative(self, ours, name):
        self.golden.check_relative(float(ours.detach()), f'{self.prefix}_{name}', 1e-5)

    def check_equal(self, ours, name):
        assert ours.tolist() == self.get(name).tolist(), name

    def grads(self):
        return {
            PDSL_KEYS.to_theirs(f'roi_head.bbox_head.{name}').removeprefix('roi_heads.'): p.grad
            for name, p in self.head.named_parameters()
        }


@pytest.fixture(params=['a', 'b'])
def case(reference, request):
    return Case(reference.golden('pdsl_losses'), request.param)


def test_released_and_paper_losses(case):
    """From pooled features to every loss, in both semantics, and the gradients of the released."""
    objectness = torch.cat([case.get(f'objectness_img{i}') for i in range(case.images)])
    features = case.get('feat') * (objectness[:, None] + 1)
    case.check(features, 'feat_obj', 1e-6)
    cls, det = case.head.streams(features)
    case.check(cls, 'C', 1e-5)
    case.check(det, 'D', 1e-5)
    scores = [L.wsddn_scores(c, d) for c, d in zip(cls.split(case.split), det.split(case.split))]
    case.check(torch.cat(scores), 'S0', 1e-6)
    y = [L.image_level_scores(s) for s in scores]
    case.check(torch.stack(y), 'y', 1e-6)
    present = case.get('image_labels')
    mil = [L.mil_loss(*pair).sum() for pair in zip(y, present)]
    images, classes = case.images, case.num_classes
    total = code = L.reduce_images(mil, [classes] * images, 'batch_mean')
    case.check_relative(code, 'code_loss_cls')
    case.check_relative(L.MILLoss('batch_mean')(scores, case.tags), 'code_loss_cls')
    case.check_relative(L.reduce_images(mil, [0] * images, 'sum') * images, 'paper_loss_mil_sum')

    previous = list(zip(scores, case.boxes))
    for k, (logits, deltas) in enumerate(case.head.refine(features)):
        boxes = [case.head.decode(*pair) for pair in zip(case.boxes, deltas.split(case.split))]
        logits, deltas = logits.split(case.split), deltas.split(case.split)
        sums = {name: [] for name in ('cls', 'l1', 'smooth', 'unweighted')}
        counted, assignments, pseudo, targets = [], [], [], []
        for i in range(images):
            image = ImagePredictions(case.boxes[i], case.tags[i], y[i], *previous[i])
            truth = mine_top_boxes(image)
            case.check(truth.boxes, f'r{k}_pgt_boxes_img{i}', 1e-3)
            case.check(truth.scores, f'r{k}_pgt_scores_img{i}', 1e-5)
            case.check(truth.weights, f'r{k}_pgt_weights_img{i}', 1e-6)
            case.check_equal(truth.labels, f'r{k}_pgt_classes_img{i}')
            case.check_equal(truth.source, f'r{k}_pgt_source_index_img{i}')
            found = assign(case.boxes[i], truth, classes)
            case.check(found.ious, f'r{k}_iou_img{i}', 1e-5)
            assignments.append(found)
            counted.append((found.weights > 1e-12).sum())
            sums['cls'].append(L.classification_loss(logits[i], found.labels, found.weights).sum())
            rows, labels = found.foreground, found.labels[found.foreground]
            ours = deltas[i][rows].unflatten(1, (classes, 4))[range(len(rows)), labels]
            target = case.head.bbox_coder.encode(
                case.boxes[i][rows], truth.boxes[found.matched[rows]]
            )
            pseudo.append(PseudoLabels(image, truth, found))
            targets.append(target)
            weights = found.weights[rows]
            sums['l1'].append(L.regression_loss(ours, target, weights, 0).sum())
            sums['smooth'].append(L.regression_loss(ours, target, weights, 1).sum())
            sums['unweighted'].append(L.regression_loss(ours, target, None, 0).sum())
        case.check_equal(torch.cat([a.labels for a in assignments]), f'r{k}_labels')
        case.check(torch.cat([a.weights for a in assignments]), f'r{k}_weights', 1e-6)
        case.check(torch.cat(boxes).flatten(1), f'r{k}_refined_boxes', 1e-3)
        case.check_relative(sum(sums['cls']), f'paper_r{k}_cls_sum')
        case.check_relative(sum(sums['l1']), f'paper_r{k}_reg_sum_l1')
        case.check_relative(sum(sums['smooth']), f'paper_r{k}_reg_sum_smoothl1')
        loss_cls = L.reduce_images(sums['cls'], counted, 'batch_mean')
        loss_reg = L.reduce_images(sums['l1'], case.split, 'batch_mean')
        case.check_relative(loss_cls, f'code_loss_cls_r{k}')
        case.check_relative(loss_reg, f'code_loss_box_reg_r{k}')
        terms = L.RefinementLoss('batch_mean', smooth_l1_beta=0)(logits, deltas, pseudo, targets)
        case.check_relative(terms['cls'], f'code_loss_cls_r{k}')
        case.check_relative(terms['reg'], f'code_loss_box_reg_r{k}')
        case.check_relative(
            L.reduce_images(sums['unweighted'], case.split, 'batch_mean'),
            f'code_r{k}_reg_unweighted',
        )
        total = total + loss_cls + loss_reg
        previous = list(zip([part.softmax(1) for part in logits], boxes))

    masks = MaskCase(case, previous, y)
    total = total + masks.released
    case.check_relative(total, 'code_total')
    total.backward()
    for name, grad in case.grads().items():
        case.check(grad, f'grad_{name}', 1e-6)
    for m, logits in enumerate(masks.logits):
        case.check(logits.grad, f'grad_mask_logits{m}', 1e-6)


class MaskCase:
    """The segmentation branch's part of the case, after the last head's scores and boxes."""

    def __init__(self, case, last, y):
        images, classes = case.images, case.num_classes
        self.logits = [
            torch.cat(
                [
                    torch.from_numpy(case.golden[f'mask_fg_logits_m{m}_img{i}'])
                    for i in range(images)
                ]
            ).requires_grad_()
            for m in range(5)
        ]
        labels, weights, own, top, cropped, pseudo = [], [], [], [], [], []
        for i in range(images):
            image = ImagePredictions(case.boxes[i], case.tags[i], y[i], *last[i])
            truth = mine_top_boxes(image)
            case.check(truth.boxes, f'mask_pgt_boxes_img{i}', 1e-3)
            found = assign(case.boxes[i], truth, classes)
            pseudo.append(PseudoLabels(image, truth, found))
            rows = found.foreground
            case.check_equal(rows, f'mask_fg_index_img{i}')
            seeds = sample_seeds(found, 3)
            case.check_equal(case.boxes[i][seeds], f'mask_seed_boxes_img{i}')
            case.check_equal(found.labels[seeds], f'mask_seed_classes_img{i}')
            seed_masks = np.unpackbits(
                case.golden[f'{case.prefix}_mask_seed_masks_img{i}'], axis=-1
            )[..., :150]
            nearest = bbox_overlaps(case.boxes[i][seeds], case.boxes[i][rows]).argmax(0)
            targets = crop_masks(torch.from_numpy(seed_masks), nearest, case.boxes[i][rows], 28)
            case.check_equal(nearest, f'mask_fg_seed_index_img{i}')
            cropped.append(targets)
            labels.append(found.labels[rows])
            weights.append(found.weights[rows])
            own.append(last[i][0][rows, found.labels[rows]])
            top.append(truth.scores[found.matched[rows]])
        labels, weights = torch.cat(labels), torch.cat(weights)
        own, top = torch.cat(own).detach(), torch.cat(top)
        case.check_equal(labels, 'mask_classes')
        case.check(weights, 'mask_weights', 1e-6)
        case.check(own, 'ahat_own', 1e-5)
        case.check(top, 'ahat_code', 1e-5)
        detour = np.unpackbits(case.golden[f'{case.prefix}_mask_target0'], axis=-1)[..., :28]
        agreement = (torch.cat(cropped).numpy() == detour).mean()
        print(f'{case.prefix}: cropped cues agree with polygons on {agreement:.4f} of the pixels')
        assert agreement > 0.97

        selected = [select_class(logits, labels) for logits in self.logits]
        correlation = L.InstanceCorrelationLoss('pseudo_gt', agnostic=True, reduction='batch_mean')(
            selected, pseudo
        )
        self.released = 0
        count, proposals = len(labels), sum(case.split)
        before = None
        for m, all_logits in enumerate(self.logits):
            logits = select_class(all_logits, labels)
            packed = case.golden[f'{case.prefix}_mask_target{m}']
            hard = torch.from_numpy(np.unpackbits(packed, axis=-1)[..., :28]).float()
            each = L.mask_loss(logits, hard)
            np.testing.assert_allclose(
                each.detach(), case.get(f'mask_bce_hard_sum_m{m}'), rtol=1e-5
            )
            activation = L.instance_activation(logits.sigmoid())
            case.check(activation, f'lse_m{m}', 1e-5)
            distance = L.correlation_loss(activation, own).sum()
            case.check_relative(distance / proposals, f'paper_acl_m{m}_own_over_np')
            case.check_relative(distance / count, f'paper_acl_m{m}_own_over_fg')
            suffix = f'_r{m - 1}' if m else ''
            released = L.reduce_images([each.sum()], [count * 28 * 28], 'batch_mean')
            case.check_relative(released, f'code_loss_mask{suffix}')
            distance = L.correlation_loss(activation, top).sum() / count
            case.check_relative(distance, f'code_loss_mask_co{suffix}')
            case.check_relative(correlation[m], f'code_loss_mask_co{suffix}')
            self.released = self.released + released + distance
            if m == 0:
                case.check_relative(each.sum(), 'paper_mask_m0_sum')
            else:
                soft = L.mask_loss(logits, before, weights)
                case.check_relative(soft.sum(), f'paper_mask_m{m}_ysoft_sum')
                direct = L.mask_loss(logits, (before >= 0.5).float()).sum() / count / 784
                case.check_relative(direct, f'mask_bce_directthr_mean_m{m}')
            before = logits.detach().sigmoid()


def test_direct_thresholds_agree_with_the_polygon_round_trip(reference):
    """Hard targets of self-training, thresholded in RoI space: the released detour through an
    image-sized mask and its polygon gives the same 28 x 28 pixels but for its resampling."""
    golden = reference.golden('pdsl_losses')
    for m in range(1, 5):
        classes = torch.from_numpy(golden['a_mask_classes'])
        logits = torch.from_numpy(golden[f'mask_fg_logits_m{m - 1}_img0'])
        direct = (select_class(logits, classes).sigmoid() >= 0.5).numpy()
        detour = np.unpackbits(golden[f'a_mask_target{m}'], axis=-1)[..., :28] > 0
        assert (direct == detour).mean() > 0.94


@torch.no_grad()
def test_prediction(case):
    from mmdet.models.layers import multiclass_nms

    objectness = torch.cat([case.get(f'objectness_img{i}') for i in range(case.images)])
    features = (case.get('feat') * (objectness[:, None] + 1)).split(case.split)
    for i in range(case.images):
        proposals = case.boxes[i]
        probs, boxes = case.head(proposals, features[i], torch.zeros(len(proposals), 3))
        case.check(probs, f'test_probs_img{i}', 1e-5)
        case.check(boxes.flatten(1), f'test_boxes_img{i}', 1e-3)
        height, width = case.get('image_size_hw').tolist()
        boxes = boxes.clone()
        boxes[..., 0::2].clamp_(0, width)
        boxes[..., 1::2].clamp_(0, height)
        dets, labels = multiclass_nms(
            boxes.flatten(1), probs, 1e-5, dict(type='nms', iou_threshold=0.3), 100
        )
        case.check(dets[:, :4], f'test_det_boxes_img{i}', 1e-3)
        case.check(dets[:, 4], f'test_det_scores_img{i}', 1e-5)
        case.check_equal(labels, f'test_det_classes_img{i}')


def test_units(reference):
    golden = reference.golden('pdsl_losses')
    maps = torch.full((5, 28, 28), 0.5)
    maps[1:4] = 0
    maps[2, :14] = 1
    maps[3, 0, 0] = 1
    maps[4] = reference.array('lse', (28, 28)).sigmoid()
    golden.check(L.instance_activation(maps), 'lse_unit', 1e-5)
