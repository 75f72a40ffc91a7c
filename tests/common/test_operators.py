"""mmcv's, torchvision's and the deterministic operators agree, and the right one is taken.

`GPU` is what the layers do with tensors of a GPU, applied to tensors of the CPU.
"""

import sys

import pytest
import torch
from mmcv.ops import batched_nms, roi_align
from mmengine.registry import MODELS

from projects.common import operators, roi_pool
from projects.common.roi_pool import DeterministicRoIPool, align_by_products


@pytest.fixture
def gpu(monkeypatch):
    """Let the layers take every tensor for one of a GPU."""
    for module in (operators, roi_pool):
        monkeypatch.setattr(module, 'on_gpu', lambda tensor: True)


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def calls(monkeypatch):
    """Names of the operators that are called."""
    found = []

    def watch(owner, name, label):
        operator = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, **k: found.append(label) or operator(*a, **k))

    watch(sys.modules['mmcv.ops.roi_align'], 'roi_align', 'mmcv.roi_align')
    watch(sys.modules['mmcv.ops.nms'].ext_module, 'nms', 'mmcv.nms')
    watch(roi_pool, 'roi_align', 'torchvision.roi_align')
    watch(operators.torchvision.ops, 'nms', 'torchvision.nms')
    watch(roi_pool, 'align_by_products', 'products')
    return found


def layer(stride=8, **options):
    return MODELS.build(
        dict(
            type='PortableRoIExtractor',
            roi_layer=options,
            out_channels=3,
            featmap_strides=[stride],
        )
    )


def rois(count=60, side=120.0):
    """Of two images in any order: large, small, without area, and beyond the image."""
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(count, 4, generator=generator) * side
    boxes[:, 2:] = boxes[:, :2] + torch.rand(count, 2, generator=generator) * side
    boxes[0] = torch.tensor([-40.0, -30, 300, 280])
    boxes[1] = torch.tensor([20.0, 20, 20, 40])
    boxes[2] = torch.tensor([-80.0, -80, -50, -50])
    boxes[3] = torch.tensor([8.0, 16, 24, 32])
    images = torch.randint(2, (count, 1), generator=generator).float()
    return torch.cat((images, boxes), 1)


def maps():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, 15, 20, generator=generator, requires_grad=True)


def values_and_gradients(function, *args):
    features = maps()
    out = function(features, *args)
    weights = torch.linspace(-1, 1, out.numel()).view_as(out)
    (out * weights).sum().backward()
    return out.detach(), features.grad


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 2])
def test_roi_align_agrees(aligned, sampling_ratio):
    """Values and gradients of the average: mmcv, torchvision, and two matrix products."""
    mmcv = values_and_gradients(
        lambda x: roi_align(x, rois(), (7, 5), 1 / 8, sampling_ratio, 'avg', aligned)
    )
    torchvision = values_and_gradients(
        lambda x: roi_pool.roi_align(x, rois(), (7, 5), 1 / 8, sampling_ratio or -1, aligned)
    )
    products = values_and_gradients(
        lambda x: align_by_products(x, rois(), (7, 5), 1 / 8, sampling_ratio, aligned)
    )
    torch.testing.assert_close(torchvision, mmcv, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(products, mmcv, rtol=1e-5, atol=1e-5)


def test_deterministic_roi_pool_agrees():
    """The values are torchvision's bit for bit, the gradients but for the order of a sum."""
    values, gradients = values_and_gradients(
        lambda x: DeterministicRoIPool.apply(x, rois(), (7, 5), 1 / 8)
    )
    wanted = values_and_gradients(lambda x: layer(type='RoIPool', output_size=(7, 5))([x], rois()))
    assert torch.equal(values, wanted[0])
    torch.testing.assert_close(gradients, wanted[1], rtol=1e-5, atol=1e-5)
    assert (values == 0).any()  # bins without a cell


def test_which_operator_pools(gpu, calls, monkeypatch):
    align = layer(type='RoIAlign', output_size=7, sampling_ratio=0)
    align([maps()], rois())
    monkeypatch.setattr(roi_pool, 'mmcv_has_cuda', lambda: True)
    align([maps()], rois())
    assert calls == ['torchvision.roi_align', 'mmcv.roi_align']


def test_a_cpu_has_mmcvs_operators(calls, deterministic):
    layer(type='RoIAlign', output_size=7, sampling_ratio=0)([maps()], rois())
    boxes, config = rois()[:, 1:], dict(type='nms', iou_threshold=0.5)
    batched_nms(boxes, boxes[:, 0], rois()[:, 0], operators.nms_config(config, boxes))
    assert calls == ['mmcv.roi_align', 'mmcv.nms']


def test_deterministic_layers_on_a_gpu(gpu, calls, deterministic):
    """Neither layer calls an operator whose backward pass PyTorch refuses or that is random."""
    layer(type='RoIAlign', output_size=7, sampling_ratio=0)([maps()], rois()).sum().backward()
    assert calls == ['products']
    pooled = layer(type='RoIPool', output_size=7)([maps()], rois())
    assert 'DeterministicRoIPool' in type(pooled.grad_fn).__name__
    with pytest.raises(ValueError, match="pool_mode='max' has no deterministic"):
        layer(type='RoIAlign', output_size=7, pool_mode='max')([maps()], rois())


def test_nms_agrees(gpu, calls, monkeypatch):
    """The same boxes in the same order, by class, with a limit and with a threshold."""
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(300, 4, generator=generator) * 60
    boxes[:, 2:] += boxes[:, :2]
    scores = torch.rand(300, generator=generator)
    labels = torch.randint(3, (300,), generator=generator)
    for options in ({}, dict(max_num=40), dict(score_threshold=0.4), dict(class_agnostic=True)):
        config = dict(type='nms', iou_threshold=0.4, **options)
        wanted = batched_nms(boxes, scores, labels, config)
        assert calls.pop() == 'mmcv.nms'
        found = batched_nms(boxes, scores, labels, operators.nms_config(config, boxes))
        assert calls.pop() == 'torchvision.nms' and not calls
        assert 10 < len(found[1]) < 200
        assert torch.equal(found[1], wanted[1]) and torch.equal(found[0], wanted[0])
    with pytest.raises(ValueError, match=r'nms.offset: 1; expected 0'):
        batched_nms(boxes, scores, labels, operators.nms_config(dict(config, offset=1), boxes))
    soft = operators.nms_config(dict(type='soft_nms', iou_threshold=0.4), boxes)
    assert soft['type'] == 'soft_nms'
    monkeypatch.setattr(operators, 'mmcv_has_cuda', lambda: True)
    assert operators.nms_config(config, boxes) == config


def test_mmcvs_roi_pool_says_what_it_lacks(gpu, monkeypatch):
    """It cannot run here; that it is mmcv's class is what a config asks for."""
    extractor = layer(type='mmcv.RoIPool', output_size=7)
    with pytest.raises(ValueError, match='needs an mmcv with CUDA operators, which this one lacks'):
        extractor([maps()], rois())
    monkeypatch.setattr(roi_pool, 'mmcv_has_cuda', lambda: True)
    asked = []
    monkeypatch.setattr(
        roi_pool.ops.RoIPool, 'forward', lambda _, x, rois: asked.append((x, rois)) or x
    )
    extractor([maps()], rois())
    assert torch.equal(asked[0][0], maps()) and torch.equal(asked[0][1], rois())
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(ValueError, match='has no deterministic backward pass'):
            extractor([maps()], rois())
    finally:
        torch.use_deterministic_algorithms(False)
    monkeypatch.setattr(roi_pool, 'on_gpu', lambda tensor: False)
    with pytest.raises(ValueError, match='mmcv.RoIPool has no operator for a CPU; expected type='):
        extractor([maps()], rois())
    with pytest.raises(ValueError, match=r"RoIPool has \['aligned', 'output_size'\]"):
        layer(type='mmcv.RoIPool', output_size=7, aligned=True)
