"""Backbones of timm, torchvision and transformers: their maps, weights and fixed norms."""

from __future__ import annotations

import sys

import pytest
import torch
import torchvision
from mmengine.registry import MODELS
from safetensors.torch import save_file
from torch import nn
from transformers import AutoBackbone, AutoConfig

import projects.common.register  # noqa: F401
from projects.common.backbones import TransformersFeatureMaps
from projects.common.errors import InputError
from projects.common.weights.sources import forget_source

IMAGES = torch.randn(2, 3, 48, 64, generator=torch.Generator().manual_seed(0))
DINO = dict(
    model_type='dinov2', hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28,
    patch_size=14,
)  # fmt: skip
RESNET = dict(
    model_type='resnet', embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], out_indices=[2],
    layer_type='basic',
)  # fmt: skip


def build(kind: str, **options) -> nn.Module:
    torch.manual_seed(0)
    return MODELS.build(dict(type=f'{kind}FeatureMaps', **options))


def norms_of(model: nn.Module) -> list[nn.Module]:
    return [each for each in model.modules() if isinstance(each, nn.BatchNorm2d)]


@torch.no_grad()
def test_timm_is_timm(tmp_path):
    timm = pytest.importorskip('timm')
    theirs = timm.create_model('test_resnet', num_classes=3).eval()
    save_file(theirs.state_dict(), tmp_path / 'model.safetensors')
    x = theirs.maxpool(theirs.act1(theirs.bn1(theirs.conv1(IMAGES))))
    expected = theirs.layer2(theirs.layer1(x))
    options = dict(name='test_resnet', out_indices=(2,))
    for source in (tmp_path, tmp_path / 'model.safetensors'):
        ours = build('Timm', **options, pretrained=str(source))
        torch.testing.assert_close(ours.train()(IMAGES)[0], expected)  # norms as in evaluation
    (map_,) = build('Timm', name='test_resnet', out_indices=(4,), output_stride=8)(IMAGES)
    assert map_.shape == (2, 96, 6, 8)
    (map_,) = build('Timm', name='test_vit', dynamic_img_size=True)(IMAGES)  # the last
    assert map_.shape == (2, 64, 3, 4)
    with pytest.raises(InputError, match=r"'.*': 0 of \d+ tensors of test_vit match; the first"):
        build('Timm', name='test_vit', pretrained=str(tmp_path))
    with pytest.raises(InputError, match=r"timm cannot build 'no': Unknown model"):
        build('Timm', name='no')
    with pytest.raises(InputError, match="timm cannot build 'test_vit': .*output_stride"):
        build('Timm', name='test_vit', output_stride=8)
    with pytest.raises(FileNotFoundError, match='backbone.pretrained: no file none.pth'):
        build('Timm', name='test_resnet', pretrained='none.pth')


def test_without_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, 'timm', None)
    with pytest.raises(InputError, match=r'^backbone: needs the package timm; pip install timm$'):
        build('Timm', name='resnet18')


@torch.no_grad()
def test_torchvision_is_torchvision(tmp_path):
    name = 'shufflenet_v2_x0_5'
    torch.manual_seed(1)
    theirs = torchvision.models.get_model(name).eval()
    file = str(tmp_path / 'weights.pth')
    torch.save(theirs.state_dict(), file)
    ours = build('Torchvision', name=name, layer='stage2', weights=file)
    expected = theirs.stage2(theirs.maxpool(theirs.conv1(IMAGES)))
    assert expected.shape == (2, 48, 6, 8)
    torch.testing.assert_close(ours.train()(IMAGES)[0], expected)  # norms as in evaluation
    with pytest.raises(InputError, match=f"backbone.layer='layer9': {name} has no such part"):
        build('Torchvision', name=name, layer='layer9')
    with pytest.raises(InputError, match=f"torchvision cannot build '{name}': .*output_stride"):
        build('Torchvision', name=name, layer='stage2', output_stride=8)
    with pytest.raises(InputError, match=r'tensors of ShuffleNetV2 match; the first that does not'):
        build('Torchvision', name='shufflenet_v2_x1_0', layer='stage2', weights=file)
    with pytest.raises(FileNotFoundError, match='no file none.pth'):
        build('Torchvision', name=name, layer='stage2', weights='none.pth')
    with pytest.raises(InputError, match=f"has no model '{name}' with weights 'NONE'"):
        build('Torchvision', name=name, layer='stage2', weights='NONE')


@torch.no_grad()
@pytest.mark.parametrize('config', [DINO, RESNET], ids=['dinov2', 'resnet'])
def test_transformers_is_transformers(config, tmp_path):
    """By folder, and from its state dict alone, which holds the config."""
    torch.manual_seed(1)
    theirs = AutoBackbone.from_config(AutoConfig.for_model(**config)).eval()
    theirs.save_pretrained(tmp_path)
    ours = build('Transformers', pretrained=str(tmp_path)).eval()
    images = torch.randn(1, 3, 42, 56)
    expected = theirs(images).feature_maps[-1]
    torch.testing.assert_close(ours(images)[-1], expected)
    state = ours.state_dict()
    part = dict(type='TransformersFeatureMaps', pretrained='/gone')
    forget_source(part, state['_extra_state'])
    again = MODELS.build(part)
    again.load_state_dict(state)
    torch.testing.assert_close(again.eval()(images)[-1], expected)
    part = dict(type='TimmFeatureMaps', name='resnet18', pretrained='/gone')
    forget_source(part, None)
    assert part['pretrained'] is None
    with pytest.raises(InputError, match=r'^backbone: expected either pretrained or config$'):
        TransformersFeatureMaps()


def test_what_is_trained():
    free = build('Transformers', config=RESNET, norm_eval=False).train()
    assert all(p.requires_grad for p in free.parameters())
    assert all(norm.training for norm in norms_of(free))
    fixed = build('Transformers', config=RESNET).train()
    norms = {id(p) for norm in norms_of(fixed) for p in norm.parameters()}
    assert norms and all(p.requires_grad != (id(p) in norms) for p in fixed.parameters())
    assert not any(norm.training for norm in norms_of(fixed)) and fixed.model.training
    frozen = build('Transformers', config=RESNET, frozen=True).train()
    assert not any(p.requires_grad for p in frozen.parameters())
    assert not any(module.training for module in frozen.model.modules())
    before = {k: v.clone() for k, v in frozen.model.state_dict().items()}
    frozen.init_weights()
    assert all(torch.equal(v, before[k]) for k, v in frozen.model.state_dict().items())
