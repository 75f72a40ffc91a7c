"""The models are plain PyTorch: the ecosystem's tools trace, count, quantise and export them."""

from __future__ import annotations

import warnings

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.analysis import get_model_complexity_info
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import projects.pdsl.register
import projects.plvl.register
import projects.rvse.register  # noqa: F401
from projects.common.roi_pool import onnx_translations
from projects.common.text import WordPieceTokenizer
from projects.rvse.text import Vocabulary

SENTENCES = ['the red circle', 'a small star left of the heart']


class Grounding(nn.Module):
    """PLVL from images and tokens to boxes, scores and masks."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images, input_ids, attention_mask):
        features = self.model.extract_feat(images, input_ids, attention_mask)
        found = self.model.head.predict(features)
        return tuple(found[name] for name in sorted(found) if isinstance(found[name], torch.Tensor))


class Instances(nn.Module):
    """PDSL from an image and boxes to probabilities, boxes and masks."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images, boxes):
        proposals = [InstanceData(bboxes=boxes, scores=boxes.new_ones(len(boxes)))]
        return self.model.roi_head.forward(self.model.extract_feat(images), proposals)


class Matching(nn.Module):
    """RVSE++ from images and captions' tokens to similarities."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images, tokens, lengths):
        pictures, regions = self.model.encode_images(images)
        captions, words = self.model.text_encoder(tokens, lengths)
        return self.model.similarity(pictures, regions, captions, words)


def build(repo_root, path, **options):
    cfg = Config.fromfile(repo_root / 'configs' / path)
    cfg.merge_from_dict(options)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(cfg.model).eval()


@pytest.fixture(scope='module')
def cases(repo_root):
    plvl = build(
        repo_root,
        'plvl/_base_/plvl_tiny.py',
        **{
            'model.backbone.depth': 3,
            'model.backbone.global_indexes': (1, 2),
            'model.backbone.language_indexes': (2,),
            'model.decoder.num_layers': 1,
        },
    )
    tokenizer = WordPieceTokenizer.learn(SENTENCES, 200)
    plvl.text_encoder.set_tokenizer(tokenizer)
    samples = [DetDataSample(metainfo=dict(text=text)) for text in SENTENCES]
    pdsl = build(repo_root, 'pdsl/_base_/pdsl_tiny.py')
    boxes = torch.tensor([[3.0, 5, 40, 50], [20, 10, 90, 80], [0, 0, 95, 95]])
    rvse = build(repo_root, 'rvse/_base_/rvse_tiny.py')
    rvse.text_encoder.set_vocabulary(Vocabulary.build(SENTENCES, min_count=1))
    return {
        'plvl': (Grounding(plvl), (torch.randn(2, 3, 96, 96), *plvl._tokenize(samples))),
        'pdsl': (Instances(pdsl), (torch.randn(1, 3, 96, 96), boxes)),
        'rvse': (
            Matching(rvse),
            (torch.randn(2, 3, 96, 96), *rvse.text_encoder.tokenize(SENTENCES)),
        ),
    }


@pytest.fixture(params=['plvl', 'pdsl', 'rvse'])
def case(request, cases):
    module, inputs = cases[request.param]
    return module.eval(), inputs


def products_of(module, inputs):
    """Multiplications of all ``nn.Linear`` in one call, from the shapes that they see."""
    total = 0

    def count(layer, given, output):
        nonlocal total
        total += output.numel() * layer.in_features

    handles = [
        layer.register_forward_hook(count) for layer in module.modules() if type(layer) is nn.Linear
    ]
    with torch.no_grad():
        module(*inputs)
    for handle in handles:
        handle.remove()
    return total


@torch.no_grad()
def test_jit_trace(case):
    module, inputs = case
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # shapes become constants, as in any trace
        traced = torch.jit.trace(module, inputs, check_trace=False)
    torch.testing.assert_close(traced(*inputs), module(*inputs), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_flop_counters(case):
    module, inputs = case
    with FlopCounterMode(display=False) as counter:
        module(*inputs)
    linear = products_of(module, inputs)
    assert linear > 0
    assert counter.get_total_flops() >= 2 * linear
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        counted = get_model_complexity_info(
            module, inputs=inputs, show_table=False, show_arch=False
        )
    # mmengine counts a multiplication and addition as one, and knows fewer operators
    assert counted['flops'] >= linear
    assert counted['params'] == sum(p.numel() for p in module.parameters())


@torch.no_grad()
def test_quantize_dynamic(case):
    module, inputs = case
    quantised = torch.ao.quantization.quantize_dynamic(module, {nn.Linear})
    changed = [
        name
        for name, part in quantised.named_modules()
        if isinstance(part, torch.ao.nn.quantized.dynamic.Linear)
    ]
    plain = [name for name, part in module.named_modules() if type(part) is nn.Linear]
    assert changed == plain != []
    expected, found = module(*inputs), quantised(*inputs)
    for a, b in zip(*(x if isinstance(x, tuple) else (x,) for x in (expected, found))):
        assert a.shape == b.shape
        assert b.isfinite().all()


@torch.no_grad()
def test_onnx_export(case, tmp_path):
    module, inputs = case
    pytest.importorskip('onnxscript')
    runtime = pytest.importorskip('onnxruntime')
    path = str(tmp_path / 'model.onnx')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.onnx.export(
            module,
            inputs,
            path,
            dynamo=True,
            verbose=False,
            custom_translation_table=onnx_translations(),
        )
    session = runtime.InferenceSession(path, providers=['CPUExecutionProvider'])
    names = [each.name for each in session.get_inputs()]
    assert len(names) == len(inputs)
    found = session.run(None, {n: x.numpy() for n, x in zip(names, inputs)})
    expected = module(*inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(torch.from_numpy(b), a, rtol=1e-3, atol=1e-4)
