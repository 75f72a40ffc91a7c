"""Autocast leaves boxes, RoIs, pooling, scores and losses in float32."""

import copy

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData

import projects.pdsl.register  # noqa: F401
from projects.common.build import build_quietly

init_default_scope('mmdet')
SIZE = 64
HALVES = [torch.bfloat16, torch.float16]


def tiny(repo_root, **changes):
    cfg = Config.fromfile(repo_root / 'configs/pdsl/_base_/pdsl_tiny.py')
    cfg.merge_from_dict({f'model.{key}': value for key, value in changes.items()})
    cfg.model.update(cue=None, learning='cascade')
    torch.manual_seed(0)
    model = build_quietly(cfg.model, 'mmdet')
    for part in (model.roi_head.bbox_head, model.roi_head.mask_head):
        part.init_weights()
    model.cue, model.learning = whole_boxes, 'parallel'
    return model


def whole_boxes(image, boxes, metainfo):
    masks = torch.zeros(len(boxes), *image.shape[:2], dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int)):
        mask[y1:y2, x1:x2] = True
    return masks.numpy()


def batch():
    """Boxes that bfloat16 would move: it has steps of a quarter of a pixel from 32 on."""
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(30, 2, generator=generator) * 30
    boxes = torch.cat((low, low + 8.3 + torch.rand(30, 2, generator=generator) * 24), 1)
    proposals = InstanceData(bboxes=boxes, scores=torch.rand(30, generator=generator))
    meta = dict(img_shape=(SIZE, SIZE), ori_shape=(32, 32), scale_factor=(2.0, 2.0), tags=(1, 4))
    image = torch.randint(256, (3, SIZE, SIZE), generator=generator, dtype=torch.uint8)
    return dict(inputs=[image], data_samples=[DetDataSample(metainfo=meta, proposals=proposals)])


def watch(model):
    """What the pooling layers get, in order."""
    seen = []
    for extractor in (model.roi_head.bbox_roi_extractor, model.roi_head.mask_roi_extractor):
        extractor.roi_layers[0].register_forward_pre_hook(lambda _, given: seen.append(given))
    return seen


@pytest.mark.parametrize('chunk_size', [0, 2])
@pytest.mark.parametrize('dtype', HALVES)
def test_training_pools_in_float32(repo_root, dtype, chunk_size):
    changes = {'roi_head.chunk_size': chunk_size, 'roi_head.objectness_factor': True}
    model = tiny(repo_root, **changes).train()
    seen, data = watch(model), model.data_preprocessor(batch(), True)
    with torch.autocast('cpu', dtype):
        losses = model(**copy.deepcopy(data), mode='loss')
    sum(losses.values()).backward()
    count = 1 + 29 // chunk_size if chunk_size else 1
    boxes = torch.cat([rois for _, rois in seen[:count]])[:, 1:]
    assert torch.equal(boxes, data['data_samples'][0].proposals.bboxes)
    assert len(seen) >= (2 * count + 4 if chunk_size else 2)  # the masks' chunks twice as well
    assert all(each.dtype == torch.float32 for given in seen for each in given)
    assert all(loss.dtype == torch.float32 and torch.isfinite(loss) for loss in losses.values())
    exact = model(**data, mode='loss')['loss_mil']  # the others' labels may be those of other boxes
    torch.testing.assert_close(losses['loss_mil'], exact, rtol=0.02, atol=0)
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name


@torch.no_grad()
@pytest.mark.parametrize('dtype', HALVES)
@pytest.mark.parametrize('views', [False, True])
def test_prediction_pools_in_float32(repo_root, dtype, views):
    model = tiny(repo_root).eval()
    seen, data = watch(model), batch()
    tester = MODELS.build(dict(type='PDSLTTAModel', module=model)) if views else model
    given = {key: 2 * [value] for key, value in batch().items()} if views else batch()
    with torch.autocast('cpu', dtype):
        (result,) = tester.test_step(given)
    assert len(seen) == (4 if views else 2)
    assert all(each.dtype == torch.float32 for given in seen for each in given)
    assert torch.equal(seen[0][1][:, 1:], data['data_samples'][0].proposals.bboxes)
    found = result.pred_instances
    assert found.bboxes.dtype == found.scores.dtype == torch.float32
    # the masks are pooled in the boxes of the result, which are in pixels of the original
    torch.testing.assert_close(seen[-1][1][:, 1:] / 2, found.bboxes)


def test_pooled_features_are_those_of_float32():
    """bfloat16 maps, float32 corners: the maps' own values, converted back without a loss."""
    layer = dict(type='RoIPool', output_size=3)
    extractor = MODELS.build(
        dict(type='PortableRoIExtractor', roi_layer=layer, out_channels=4, featmap_strides=[8])
    )
    features = torch.randn(1, 4, 60, 90, dtype=torch.bfloat16, requires_grad=True)
    rois = torch.tensor([[0, 129.0, 300.6, 403.5, 470.2], [0, 517.3, 3.7, 611.9, 290.4]])
    pooled = extractor([features], rois)
    assert pooled.dtype == torch.bfloat16
    wanted = extractor([features.float()], rois)
    assert torch.equal(pooled.float(), wanted)
    pooled.sum().backward()
    assert features.grad.dtype == torch.bfloat16 and features.grad.sum() == pooled.numel()


def test_a_sure_class_has_a_finite_loss(repo_root):
    """One class with a score of nearly 1: bfloat16 would round it to 1, whose loss is infinite."""
    model = tiny(repo_root).train()
    head = model.roi_head.bbox_head
    with torch.no_grad():
        head.classification.bias.copy_(torch.tensor([0.0, 0, 12, 0, 0, 0]))  # which is not there
    with torch.autocast('cpu', torch.bfloat16):
        losses = model(**model.data_preprocessor(batch(), True), mode='loss')
    assert torch.isfinite(losses['loss_mil']) and losses['loss_mil'] > 1
