"""PDSL on backbones of other libraries: channels, strides, training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import nn

import projects.pdsl.register  # noqa: F401
from projects.common.build import build_quietly
from projects.common.errors import InputError
from projects.pdsl import WeakInstanceInferencer

init_default_scope('mmdet')
SIDE = 56
RESNET = dict(depth=18, stem_channels=8, base_channels=8, num_stages=3, out_indices=(2,))
VIT = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=16)
# backbone, its channels and its stride
BACKBONES = {
    'timm': (
        dict(type='TimmFeatureMaps', name='test_resnet', out_indices=(4,), output_stride=8),
        96,
        8,
    ),
    'timm, mmpretrain': (
        dict(
            type='mmpretrain.TIMMBackbone', model_name='test_efficientnet', features_only=True,
            output_stride=16, out_indices=(4,),
        ),
        64,
        16,
    ),
    'torchvision': (
        dict(type='TorchvisionFeatureMaps', name='shufflenet_v2_x0_5', layer='stage2'),
        48,
        8,
    ),
    'mmpretrain': (
        dict(
            type='mmpretrain.ResNet', strides=(1, 2, 1), dilations=(1, 1, 2), norm_eval=True,
            **RESNET,
        ),
        32,
        8,
    ),
    'mmpretrain, ViT': (
        dict(type='mmpretrain.VisionTransformer', arch=VIT, img_size=56, patch_size=14,
             out_type='featmap'),
        16,
        14,
    ),
    'transformers': (
        dict(
            type='TransformersFeatureMaps',
            frozen=True,
            config=dict(
                model_type='dinov2', hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                image_size=28, patch_size=14,
            ),
        ),
        16,
        14,
    ),
}  # fmt: skip


def config_of(repo_root, backbone: dict, channels: int, stride: int) -> Config:
    cfg = Config.fromfile(repo_root / 'configs/pdsl/pdsl_tiny_1xb4-600_scenes.py')
    cfg.model.backbone = backbone
    cfg.model.cue = dict(type='GrabCutCue', iterations=1)
    extractor = dict(out_channels=channels, featmap_strides=[stride])
    cfg.merge_from_dict(
        dict(
            model=dict(
                data_preprocessor=dict(pad_size_divisor=stride),
                roi_head=dict(
                    bbox_roi_extractor=extractor,
                    mask_roi_extractor=extractor,
                    bbox_head=dict(in_channels=channels),
                    mask_head=dict(in_channels=channels, conv_out_channels=8),
                ),
            )
        )
    )
    return cfg


def build(repo_root, backbone: dict, channels: int, stride: int) -> nn.Module:
    torch.manual_seed(0)
    model = build_quietly(config_of(repo_root, backbone, channels, stride).model, 'mmdet')
    model.init_weights()
    return model.train()


def run(model: nn.Module, mode: str = 'loss'):
    rng = np.random.default_rng(0)
    low = rng.uniform(0, SIDE - 16, (20, 2))
    boxes = np.concatenate((low, low + rng.uniform(8, 16, (20, 2))), 1)
    proposals = InstanceData(bboxes=torch.from_numpy(boxes).float(), scores=torch.zeros(20))
    meta = dict(img_shape=(SIDE, SIDE), ori_shape=(SIDE, SIDE), scale_factor=(1.0, 1.0), tags=(1,))
    image = torch.from_numpy(rng.integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8))
    data = dict(
        inputs=[image], data_samples=[DetDataSample(metainfo=meta, proposals=proposals)]
    )  # fmt: skip
    return model(**model.data_preprocessor(data, mode == 'loss'), mode=mode)


@pytest.mark.parametrize('name', BACKBONES)
def test_trains_and_predicts(name, repo_root):
    if 'timm' in name:
        pytest.importorskip('timm')
    model = build(repo_root, *BACKBONES[name])
    losses = run(model)
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    trained = {n: p for n, p in model.backbone.named_parameters() if p.requires_grad}
    reached = [n for n, p in trained.items() if p.grad is not None and p.grad.any()]
    assert bool(reached) == bool(trained) == (name != 'transformers')
    (sample,) = run(model.eval(), 'predict')
    assert sample.pred_instances.masks.shape[1:] == (SIDE, SIDE)


@pytest.mark.parametrize(
    ('channels', 'stride', 'message'),
    [
        (
            32,
            16,
            r'^roi_head.bbox_roi_extractor.featmap_strides=\[16\]: ResNet gives 8 x 8 cells for '
            r'64 x 64 pixels, a stride of 8; set it to that, or change the strides or dilations',
        ),
        (16, 8, r'^roi_head.bbox_roi_extractor.out_channels=16: ResNet gives 32 channels$'),
    ],
)
def test_other_channels_or_strides(repo_root, channels, stride, message):
    with pytest.raises(InputError, match=message):
        run(build(repo_root, BACKBONES['mmpretrain'][0], channels, stride))


def test_an_output_that_is_no_map(repo_root):
    vit = dict(BACKBONES['mmpretrain, ViT'][0], out_type='cls_token')
    with pytest.raises(InputError, match=r"gives \(1, 16\), expected maps .* out_type='featmap'$"):
        run(build(repo_root, vit, 16, 14))


def test_checkpoint_needs_no_folder(repo_root, tmp_path):
    backbone, *rest = BACKBONES['transformers']
    cfg = config_of(repo_root, backbone, *rest)
    model = build(repo_root, backbone, *rest)
    cfg.model.backbone = dict(type='TransformersFeatureMaps', pretrained='/no/such/folder')
    meta = dict(cfg=cfg.pretty_text)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), tmp_path / 'a.pth')
    inferencer = WeakInstanceInferencer(
        weights=tmp_path / 'a.pth', device='cpu', show_progress=False
    )
    images = torch.randn(1, 3, SIDE, SIDE)
    with torch.no_grad():
        (found,), (expected,) = inferencer.model.backbone(images), model.eval().backbone(images)
    torch.testing.assert_close(found, expected)
