"""PDSL on a frozen classifier for photographs, from random weights here."""

from __future__ import annotations

import importlib

import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData

from projects.common.build import build_quietly

BOXES = torch.tensor([[0.0, 0, 64, 64], [8, 8, 40, 48], [32, 0, 64, 32], [4, 30, 60, 62]])


def test_heads_train_on_the_frozen_backbone(repo_root):
    """Losses of an image with and of one without the class reach the heads and nothing else."""
    cfg = Config.fromfile(repo_root / 'configs/pdsl/pdsl_lite0_1xb4-200_raccoon.py')
    for name in cfg.custom_imports.imports:
        importlib.import_module(name)
    cfg.model.backbone.pretrained = None
    torch.manual_seed(0)
    model = build_quietly(cfg.model, 'mmdet')
    for part in (model.roi_head.bbox_head, model.roi_head.mask_head):
        part.init_weights()
    model.train()
    samples = []
    for tags in ([0], []):
        proposals = InstanceData(bboxes=BOXES, scores=torch.ones(len(BOXES)))
        meta = dict(img_shape=(64, 64), ori_shape=(64, 64), tags=tags, img_path='x.jpg')
        samples.append(DetDataSample(metainfo=meta, proposals=proposals))
    images = [torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8) for _ in samples]
    data = model.data_preprocessor(dict(inputs=images, data_samples=samples), True)
    assert model.extract_feat(data['inputs'])[0].shape == (2, 320, 4, 4)  # stride 16
    losses = model(**data, mode='loss')
    total = sum(value for name, value in losses.items() if 'loss' in name)
    assert total.isfinite()
    total.backward()
    assert not any(p.requires_grad for p in model.backbone.parameters())
    head = model.roi_head.bbox_head
    assert all(layer.weight.grad.any() for layer in (head.fcs[0], head.detection))
