"""What exported models share: resizing, batches, variants, RoI operators."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmcv.transforms import CenterCrop, Resize
from mmdet.datasets.transforms import Resize as MMDetResize
from mmpretrain.datasets.transforms import ResizeEdge
from torch import nn

from projects.common.deployment.export import export_graph
from projects.common.deployment.images import resize, stack_rgb
from projects.common.deployment.network import Network
from projects.common.deployment.pixels import Normalization, resize_steps
from projects.common.deployment.variants import convert
from projects.common.roi_pool import PortableRoIExtractor, onnx_translations
from projects.plvl.datasets.transforms import GroundingResize

installed = all(importlib.util.find_spec(name) for name in ('onnx', 'onnxscript', 'onnxruntime'))
needs_onnx = pytest.mark.skipif(not installed, reason='onnx, onnxscript, onnxruntime not installed')


@pytest.mark.parametrize(
    'steps',
    [
        [Resize(scale=(40, 30), keep_ratio=False)],
        [MMDetResize(scale=(60, 40), keep_ratio=True)],
        [MMDetResize(scale=(60, 40), keep_ratio=True, backend='pillow')],
        [ResizeEdge(scale=37, edge='short'), CenterCrop(crop_size=31)],
        [ResizeEdge(scale=50, edge='long', interpolation='bicubic')],
        [GroundingResize(scale=(60, 60), keep_ratio=True, backend='pillow'),
         GroundingResize(scale=(60, 60), keep_ratio=False, align_corners=True)],
    ],
    ids=lambda steps: '-'.join(type(step).__name__ for step in steps),
)  # fmt: skip
@pytest.mark.parametrize('shape', [(53, 97), (97, 53)])
def test_resizing_like_the_pipelines(steps, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    results = dict(img=image, img_shape=shape, ori_shape=shape)
    for step in steps:
        results = step(results)
    found = resize(image, resize_steps(steps))
    assert found.shape == results['img'].shape
    np.testing.assert_allclose(found, results['img'], rtol=0, atol=2e-3)


def test_other_transforms_are_refused():
    with pytest.raises(ValueError, match='test pipeline: RandomFlip cannot be exported'):
        resize_steps([type('RandomFlip', (), {})()])
    with pytest.raises(ValueError, match="resize.0..step: found 'turn', expected one of"):
        resize(np.zeros((2, 2, 3), np.uint8), [dict(step='turn')])


def test_a_batch_is_filled_with_a_color():
    """A pixel of (blue 1, green 2, red 3) in sides of 4, the rest in the color (7, 8, 9)."""
    image = np.array([[[1, 2, 3]]], np.uint8)
    batch = stack_rgb([image], 4, (7, 8, 9))
    assert batch.shape == (1, 3, 4, 4) and batch.dtype == np.float32
    assert batch[0, :, 0, 0].tolist() == [3, 2, 1]
    assert batch[0, :, 3, 3].tolist() == [7, 8, 9] == batch[0, :, 0, 1].tolist()


@pytest.mark.parametrize('to_rgb', [False, True])
def test_normalization_equals_the_preprocessor(to_rgb):
    from mmdet.models.data_preprocessors import DetDataPreprocessor

    preprocessor = DetDataPreprocessor(
        mean=[10, 20, 30], std=[2, 4, 5], bgr_to_rgb=to_rgb, pad_size_divisor=4
    )
    image = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    inputs = [torch.from_numpy(image).permute(2, 0, 1)]
    expected = preprocessor(dict(inputs=inputs, data_samples=None))['inputs']
    normalize = Normalization(preprocessor)
    fill = normalize.described()['mean']
    found = normalize(torch.from_numpy(stack_rgb([image], 4, fill)))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert fill == ([10, 20, 30] if to_rgb else [30, 20, 10])


@needs_onnx
def test_roi_operators_are_exact(tmp_path):
    """RoIPool and adaptive RoIAlign of boxes at the edges, outside, and of less than a cell."""

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            pool = dict(type='RoIPool', output_size=3)
            align = dict(type='RoIAlign', output_size=4, sampling_ratio=0)
            two = dict(type='RoIAlign', output_size=4, sampling_ratio=2, aligned=False)
            self.parts = nn.ModuleList(
                PortableRoIExtractor(each, 2, [4]) for each in (pool, align, two)
            )

        def forward(self, maps, rois):
            return tuple(part.roi_layers[0](maps, rois) for part in self.parts)

    generator = torch.Generator().manual_seed(0)
    corners = torch.rand((200, 4), generator=generator) * 70 - 5  # maps of 15 x 13 cells
    boxes = torch.cat([corners.view(-1, 2, 2).sort(1).values.flatten(1)])
    boxes[:50] = (boxes[:50] * 2).round() / 2  # halves, which decide about rounding
    boxes[50:60, 2:] = boxes[50:60, :2] + 0.3
    rois = torch.cat([(torch.arange(200) % 2)[:, None].float(), boxes], dim=1)
    maps = torch.randn((2, 2, 13, 15), generator=generator)
    module, path = Both(), tmp_path / 'rois.onnx'
    export_graph(
        module.eval(), dict(maps=maps, rois=rois), ['pool', 'align', 'two'], path,
        dict(rois={0: torch.export.Dim('count')}), translations=onnx_translations(),
    )  # fmt: skip
    found = Network(path)(maps=maps.numpy(), rois=rois[:150].numpy())
    pooled, aligned, two = module(maps, rois[:150])
    np.testing.assert_array_equal(found['pool'], pooled.numpy())
    np.testing.assert_allclose(found['align'], aligned.numpy(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(found['two'], two.numpy(), rtol=0, atol=1e-5)


@needs_onnx
@pytest.mark.parametrize(('dtype', 'most', 'share'), [('fp16', 2e-2, 0.6), ('int8', 0.2, 0.4)])
def test_variants_are_smaller_and_near(dtype, most, share, tmp_path):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 64))
    x, path = torch.randn(5, 128), tmp_path / 'model.onnx'
    export_graph(module.eval(), dict(x=x), ['y'], path, {})
    size = path.stat().st_size
    convert(path, dtype)
    assert path.stat().st_size < share * size
    (found,) = Network(path)(x=x.numpy()).values()
    error = np.abs(found - module(x).detach().numpy()).max()
    assert found.dtype == np.float32 and 0 < error < most


@needs_onnx
def test_float32_operators_that_read_a_value_twice(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    nodes = [helper.make_node('Add', ['a', 'a'], ['two']),
             helper.make_node('Range', ['two', 'b', 'two'], ['y'])]  # fmt: skip
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in 'ab']
    outputs = [helper.make_tensor_value_info('y', TensorProto.FLOAT, [None])]
    graph = helper.make_graph(nodes, 'twice', inputs, outputs)
    path = tmp_path / 'model.onnx'
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=10)
    onnx.save(model, path)
    convert(path, 'fp16')
    (found,) = Network(path)(a=np.array(1, np.float32), b=np.array(7, np.float32)).values()
    np.testing.assert_array_equal(found, np.array([2, 4, 6], np.float32))


@needs_onnx
def test_a_size_that_a_model_fixes_is_an_error(tmp_path):
    class Fixed(nn.Module):
        def forward(self, x):
            return x + torch.ones(len(x), 1)  # len() makes a number of a symbol

    sizes = dict(x={0: torch.export.Dim('batch')})
    with pytest.raises(ValueError, match='cannot trace this model|dimension 0 is fixed to 3'):
        export_graph(Fixed(), dict(x=torch.ones(3, 2)), ['y'], tmp_path / 'a.onnx', sizes)


@needs_onnx
def test_a_damaged_network_is_named(tmp_path):
    (tmp_path / 'a.onnx').write_bytes(b'no network')
    with pytest.raises(ValueError, match=r'a\.onnx: onnxruntime cannot load it'):
        Network(tmp_path / 'a.onnx')


def test_telemetry_is_off_before_onnxruntime_is_imported(monkeypatch):
    """Its thread draws from the random numbers of Selective Search. Users may turn it on."""
    code = 'import os, sys; from projects.common.deployment.network import Network; '
    code += 'assert "onnxruntime" not in sys.modules; print(os.environ["ORT_DISABLE_TELEMETRY"])'
    for given, expected in ((None, '1'), ('0', '0')):
        monkeypatch.delenv('ORT_DISABLE_TELEMETRY', raising=False)
        if given:
            monkeypatch.setenv('ORT_DISABLE_TELEMETRY', given)
        done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
        assert done.stdout.strip() == expected, done.stderr
