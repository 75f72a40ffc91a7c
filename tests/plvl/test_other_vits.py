"""Weights of other makers' ViTs in LanguageGuidedViT, beside the models that they come from."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from mmpretrain.models.backbones import VisionTransformer
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

import projects.plvl.register  # noqa: F401
from projects.common.errors import InputError
from projects.plvl.models import LanguageGuidedViT
from projects.plvl.models.vit_weights import resize_patches, translate_vit

DEPTH, CHANNELS, HEADS, PATCH, SIDE = 3, 32, 4, 4, 5
KINDS = {
    'vit': dict(layer_norm_eps=1e-6),
    'dinov2': dict(layerscale_value=0.5),
    'dinov2_with_registers': dict(layerscale_value=0.5, num_register_tokens=2),
    'siglip_vision_model': dict(hidden_act='gelu', vision_use_head=False),
}


def shaken(model: nn.Module) -> nn.Module:
    """Make every tensor count: no scale of 1, no bias of 0."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.eval()  # mmpretrain's returns nothing
    return model


def theirs(kind: str, side: int = SIDE) -> nn.Module:
    options = dict(
        hidden_size=CHANNELS, num_hidden_layers=DEPTH, num_attention_heads=HEADS,
        intermediate_size=48, mlp_ratio=2, image_size=side * PATCH, patch_size=PATCH,
    )  # fmt: skip
    if kind.startswith('dinov2'):
        del options['intermediate_size']
    config = AutoConfig.for_model(kind, **options, **KINDS[kind])
    return shaken(AutoModel.from_config(config))


def ours(source: Path | str, kind: str = '', **changes) -> LanguageGuidedViT:
    """A backbone of global blocks without language, with the weights of a folder or file."""
    options = dict(
        patch_size=PATCH, channels=CHANNELS, depth=DEPTH, num_heads=HEADS, rel_pos_grid=SIDE,
        mlp_ratio=2.0 if kind.startswith('dinov2') else 1.5, pos_embed_grid=SIDE,
        global_indexes=range(DEPTH), language_indexes=(), final_norm=True,
    )  # fmt: skip
    backbone = LanguageGuidedViT(pretrained=str(source), **{**options, **changes})
    backbone.init_weights()
    return backbone.eval()


def encode_patches(model: nn.Module, kind: str, images: Tensor) -> Tensor:
    """Their blocks and last norm on the patches alone, without class and register tokens."""
    if kind == 'siglip_vision_model':
        return model(images).last_hidden_state
    tokens = model.embeddings(images)
    tokens = tokens[:, -(SIDE**2) :]
    return model.layernorm(model.encoder(tokens).last_hidden_state)


@pytest.fixture(params=KINDS)
def published(request, tmp_path) -> tuple[str, nn.Module, Path]:
    model = theirs(request.param)
    model.save_pretrained(tmp_path)
    return request.param, model, tmp_path


@torch.no_grad()
def test_features_are_those_of_transformers(published, log):
    kind, model, folder = published
    images = torch.randn(2, 3, SIDE * PATCH, SIDE * PATCH)
    backbone = ours(folder, kind)
    found = backbone(images).flatten(1, 2)
    torch.testing.assert_close(found, encode_patches(model, kind, images), rtol=1e-4, atol=1e-4)
    (line,) = [line for line in log if line.startswith(str(folder))]
    total = len(backbone.state_dict())
    relative = 2 * DEPTH
    assert f'{total - relative} of {total} tensors of LanguageGuidedViT loaded' in line
    assert f'{relative} by design not: relative positions, which start at 0' in line
    if kind != 'siglip_vision_model':  # their patches also read the class token
        assert 'cls_token of the file, which the model has no place for' in line
        whole = model(images).last_hidden_state[:, -(SIDE**2) :]
        assert (whole - found).abs().max() > 1e-3


@torch.no_grad()
def test_each_block_is_that_of_transformers(published):
    """Also without the last norm, as in ViTDet."""
    kind, model, folder = published
    backbone = ours(folder, kind, final_norm=False)
    encoder = model.vision_model.encoder if kind.startswith('siglip') else model.encoder
    tokens = torch.randn(2, SIDE**2, CHANNELS)
    for block, layer in zip(backbone.blocks, getattr(encoder, 'layers', None) or encoder.layer):
        found = layer(tokens, attention_mask=None) if kind.startswith('siglip') else layer(tokens)
        expected = found[0] if isinstance(found, tuple) else found
        mine = block(tokens.unflatten(1, (SIDE, SIDE)), None, None).flatten(1, 2)
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)
        tokens = expected


@torch.no_grad()
def test_tanh_of_siglip_differs_little(tmp_path):
    """Its GELU is approximated by a tanh, ours is exact: the largest difference of a feature."""
    model = theirs('siglip_vision_model')
    model.config.hidden_act = 'gelu_pytorch_tanh'
    model.save_pretrained(tmp_path)
    model = AutoModel.from_pretrained(tmp_path).eval()
    images = torch.randn(2, 3, SIDE * PATCH, SIDE * PATCH)
    found = ours(tmp_path).forward(images).flatten(1, 2)
    assert 1e-6 < (found - model(images).last_hidden_state).abs().max() < 5e-3


@torch.no_grad()
def test_windows_and_language_are_ours(tmp_path):
    """Local blocks attend within windows; what reads language keeps its initialization."""
    theirs('dinov2').save_pretrained(tmp_path)
    options = dict(
        global_indexes=(2,), language_indexes=(2,), window_size=2, text_channels=8, cross_heads=2
    )
    torch.manual_seed(1)
    backbone = ours(tmp_path, 'dinov2', **options)
    torch.manual_seed(1)
    start = LanguageGuidedViT(
        patch_size=PATCH, channels=CHANNELS, depth=DEPTH, num_heads=HEADS, rel_pos_grid=SIDE,
        mlp_ratio=2.0, pos_embed_grid=SIDE, final_norm=True, **options,
    )  # fmt: skip
    start.init_weights()
    same = {k for k, v in start.state_dict().items() if torch.equal(v, backbone.state_dict()[k])}
    assert same == {k for k in start.state_dict() if 'cross' in k or 'adapter' in k or 'rel' in k}
    images = torch.randn(1, 3, SIDE * PATCH, SIDE * PATCH)
    assert backbone(images, torch.randn(1, 3, 8)).shape == (1, SIDE, SIDE, CHANNELS)


@pytest.mark.parametrize('kind', ['vit', 'siglip_vision_model'])
def test_positions_are_resized(kind, tmp_path):
    """To the grid of the model, as by PyTorch's bicubic interpolation."""
    model = theirs(kind, side=8)
    model.save_pretrained(tmp_path)
    found = ours(tmp_path, kind).pos_embed
    embeddings = model.vision_model.embeddings if kind.startswith('siglip') else model.embeddings
    if kind == 'vit':
        table = embeddings.position_embeddings
        torch.testing.assert_close(found[:, :1], table[:, :1])
        table = table[:, 1:]
    else:
        table = embeddings.position_embedding.weight[None]
        assert not found[:, :1].any()
    grid = table.unflatten(1, (8, 8)).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(SIDE, SIDE), mode='bicubic', align_corners=False)
    torch.testing.assert_close(found[:, 1:], grid.flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_larger_patches_see_enlarged_patches(tmp_path, log):
    """Where each patch of an image is enlarged bilinearly, nothing changes."""
    model = theirs('dinov2')
    model.save_pretrained(tmp_path)
    images = torch.randn(1, 3, SIDE * PATCH, SIDE * PATCH)
    large = PATCH + 2
    patches = images.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH)  # (1, 3, h, w, p, p)
    patches = F.interpolate(patches.flatten(0, 2), size=(large, large), mode='bilinear')
    enlarged = patches.view(1, 3, SIDE, SIDE, large, large).transpose(3, 4)
    enlarged = enlarged.reshape(1, 3, SIDE * large, SIDE * large)
    found = ours(tmp_path, 'dinov2', patch_size=large)(enlarged).flatten(1, 2)
    expected = encode_patches(model, 'dinov2', images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert any(f'(patches from {PATCH} to {large} pixels): ' in line for line in log)


def test_patches_are_resized_as_by_timm():
    timm = pytest.importorskip('timm.layers', reason='the other implementation')
    weight = torch.randn(5, 3, 14, 14)
    for size in (16, 20, 8):
        expected = timm.resample_patch_embed(
            weight, [size, size], interpolation='bilinear', antialias=False
        )
        torch.testing.assert_close(resize_patches(weight, size), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(resize_patches(weight, 14), weight)


@torch.no_grad()
@pytest.mark.parametrize('scale', [0.0, 0.3])
def test_mmpretrain(scale, tmp_path):
    arch = dict(embed_dims=CHANNELS, num_layers=DEPTH, num_heads=HEADS, feedforward_channels=48)
    model = shaken(
        VisionTransformer(
            arch, SIDE * PATCH, PATCH, layer_scale_init_value=scale, out_type='raw'
        )
    )  # fmt: skip
    content = {f'backbone.{k}': v for k, v in model.state_dict().items()}
    torch.save(dict(state_dict=content | {'head.fc.weight': torch.ones(2)}), tmp_path / 'a.pth')
    images = torch.randn(2, 3, SIDE * PATCH, SIDE * PATCH)
    tokens = model.patch_embed(images)[0] + model.pos_embed[:, 1:]
    for layer in model.layers:
        tokens = layer(tokens)
    found = ours(tmp_path / 'a.pth')(images).flatten(1, 2)
    torch.testing.assert_close(found, model.ln1(tokens), rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(
    'options',
    [
        dict(init_values=0.3),
        dict(class_token=False, global_pool='map'),  # SigLIP
        dict(reg_tokens=2, no_embed_class=True),  # DINOv2 with registers
    ],
)
def test_timm(options, tmp_path):
    timm = pytest.importorskip('timm')
    from safetensors.torch import save_file

    model = shaken(
        timm.models.VisionTransformer(
            SIDE * PATCH, PATCH, embed_dim=CHANNELS, depth=DEPTH, num_heads=HEADS, mlp_ratio=1.5,
            num_classes=2, **options,
        )
    )  # fmt: skip
    save_file(model.state_dict(), tmp_path / 'model.safetensors')  # as on the hub
    (tmp_path / 'config.json').write_text(json.dumps(dict(architecture='vit_tiny_patch16_224')))
    images = torch.randn(2, 3, SIDE * PATCH, SIDE * PATCH)
    tokens = model.patch_embed(images) + model.pos_embed[:, -(SIDE**2) :]
    expected = model.norm(model.blocks(tokens))
    found = ours(tmp_path)(images).flatten(1, 2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_package_and_a_prefix(tmp_path, monkeypatch):
    """The half of a dual encoder, in a folder of an installed package."""
    torch.manual_seed(0)
    vision = theirs('siglip_vision_model').config.to_dict()
    text = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    config = AutoConfig.for_model('siglip', vision_config=vision, text_config=text)
    model = AutoModel.from_config(config).eval()
    (tmp_path / 'own_weights').mkdir()
    (tmp_path / 'own_weights/__init__.py').write_text('')
    model.save_pretrained(tmp_path / 'own_weights/siglip')
    monkeypatch.syspath_prepend(tmp_path)
    images = torch.randn(1, 3, SIDE * PATCH, SIDE * PATCH)
    with torch.no_grad():
        found = ours('package:own_weights/siglip')(images).flatten(1, 2)
        expected = model.vision_model(images).last_hidden_state
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    sys.modules.pop('own_weights', None)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(channels=64), r'0 of \d+ .* pos_embed, which is \(1, 26, 32\) in the file and'),
        (dict(depth=4, global_indexes=range(4)), r'blocks.3.norm1.weight, which the file lacks$'),
        (dict(depth=2, global_indexes=range(2)), r'blocks.2.\S+, which the model lacks$'),
        (dict(num_heads=2), r'4 attention heads, but backbone.num_heads is 2$'),
        (dict(stem=((8, 4),)), r'patch_embed.0.weight, which the file lacks$'),
        (dict(mlp_ratio=4.0), r'mlp.0.weight, which is \(64, 32\) in the file and \(128, 32\)'),
    ],
)
def test_weights_of_another_size(changes, message, tmp_path):
    theirs('dinov2').save_pretrained(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        ours(tmp_path, 'dinov2', **changes)
    assert str(tmp_path) in str(caught.value) and '\n' not in str(caught.value)


def test_other_layouts_are_refused(tmp_path):
    clip = AutoConfig.for_model(
        'clip_vision_model', hidden_size=CHANNELS, intermediate_size=48, num_hidden_layers=DEPTH,
        num_attention_heads=HEADS, image_size=SIDE * PATCH, patch_size=PATCH,
    )  # fmt: skip
    model = AutoModel.from_config(clip)
    model.save_pretrained(tmp_path)
    with pytest.raises(InputError, match='its activation is quick_gelu'):
        ours(tmp_path)
    backbone = MODELS.build(dict(type='LanguageGuidedViT', depth=1, global_indexes=(), channels=32,
                                 language_indexes=(), num_heads=4))  # fmt: skip
    with pytest.raises(InputError, match=r'pre_layrnorm.* is a norm before the first block'):
        translate_vit(model.state_dict(), backbone)
    with pytest.raises(InputError, match='none of a ViT of timm, mmpretrain, or transformers'):
        translate_vit({'conv1.weight': torch.ones(1)}, backbone)
    (tmp_path / 'model.safetensors').unlink()
    with pytest.raises(InputError, match='no model.safetensors or pytorch_model.bin in it'):
        ours(tmp_path)
    with pytest.raises(FileNotFoundError, match='backbone.pretrained: no folder /no/such/folder'):
        ours('/no/such/folder')
    with pytest.raises(FileNotFoundError, match='none.pth'):
        ours('none.pth')
