"""Compute PDSL's gradients for images with little to learn from, in one process or in two.

``python distributed_worker.py WORLD FOLDER`` writes ``FOLDER/WORLD_RANK.pt``: of each model and
case, the gradient of every parameter, or None. One process computes the means over single images.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor, nn

import projects.pdsl.register  # noqa: F401
from projects.common.build import build_quietly

ROOT = Path(__file__).parents[2]
SIZE = 48
NO_BOXES = np.zeros((0, 4))

#: Of each case, what the images of the two processes have.
CASES = {
    'full': (dict(), dict()),
    'one without proposals': (dict(boxes=NO_BOXES), dict()),
    'none with proposals': (dict(boxes=NO_BOXES), dict(boxes=NO_BOXES)),
    'one without tags': (dict(), dict(tags=())),
    'none with tags': (dict(tags=()), dict(tags=())),
    'one without foreground': (dict(), dict(boxes=[[5, 5, 5, 5], [9, 9, 9, 20]])),
    'none with foreground': 2 * (dict(boxes=[[5, 5, 5, 5], [9, 9, 9, 20]]),),
    'no proposals, no tags': (dict(boxes=NO_BOXES), dict(tags=())),
}
RELEASED = {
    'backbone.frozen_stages': 3,
    'roi_head.loss_refine.smooth_l1_beta': 0.0,
    'roi_head.loss_mask.soft_targets': False,
    'roi_head.loss_mask.weighted': False,
    'roi_head.loss_correlation.target': 'pseudo_gt',
    'roi_head.loss_correlation.agnostic': True,
    'roi_head.objectness_factor': True,
    'roi_head.mask_head.class_agnostic': False,
    **{
        f'roi_head.loss_{name}.reduction': 'batch_mean'
        for name in ('mil', 'refine', 'mask', 'correlation')
    },
}
CHUNKS = {'roi_head.chunk_size': 7, 'backbone.with_cp': True}
MODELS = {
    'default': {},
    'default, chunks': CHUNKS,
    'released': RELEASED,
    'released, chunks': {**RELEASED, **CHUNKS},
    'cascade': {'learning': 'cascade'},
    'without moving boxes': {'roi_head.bbox_head.with_reg': False},
    'self-training': {'roi_head.miner': dict(type='SelfTrainingMiner', _delete_=True)},
}


def build(changes: dict) -> nn.Module:
    cfg = Config.fromfile(ROOT / 'configs/pdsl/_base_/pdsl_tiny.py')
    small = {'roi_head.mask_head.conv_out_channels': 8, 'roi_head.bbox_head.fc_channels': (32, 32)}
    cfg.merge_from_dict({f'model.{key}': value for key, value in {**small, **changes}.items()})
    cfg.model.cue, learning = None, cfg.model.get('learning', 'parallel')
    cfg.model.learning = 'cascade'  # builds without a cue
    torch.manual_seed(0)
    model = build_quietly(cfg.model, 'mmdet')
    model.cue, model.learning = boxes_as_masks, learning
    return model.train()


def boxes_as_masks(image: np.ndarray, boxes: np.ndarray, metainfo: dict) -> np.ndarray:
    masks = np.zeros((len(boxes), *image.shape[:2]), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.round().astype(int)):
        mask[y1 : (y1 + 2 * y2) // 3, x1:x2] = True
    return masks


def image(rank: int, boxes: np.ndarray | None = None, tags: tuple = (1, 4)) -> dict:
    rng = np.random.RandomState(rank)
    if boxes is None:
        low = rng.uniform(0, SIZE - 16, (20, 2))
        boxes = np.concatenate((low, np.minimum(low + rng.uniform(8, 40, (20, 2)), SIZE)), 1)
    boxes = torch.tensor(np.asarray(boxes), dtype=torch.float32)
    proposals = InstanceData(bboxes=boxes, scores=torch.linspace(0, 1, len(boxes)))
    shape = (SIZE, SIZE)
    meta = dict(img_shape=shape, ori_shape=shape, scale_factor=(1.0, 1.0), tags=tags)
    pixels = torch.from_numpy(rng.randint(0, 256, (3, SIZE, SIZE)).astype(np.uint8))
    return dict(inputs=[pixels], data_samples=[DetDataSample(metainfo=meta, proposals=proposals)])


def gradients(model: nn.Module, data: dict) -> dict[str, Tensor | None]:
    """Gradients by the path of training: data preprocessor, losses, their sum, backward."""
    inside = getattr(model, 'module', model)
    inside.zero_grad(set_to_none=True)
    losses = model(**inside.data_preprocessor(data, True), mode='loss')
    inside.parse_losses(losses)[0].backward()
    return {
        name: None if parameter.grad is None else parameter.grad.clone()
        for name, parameter in inside.named_parameters()
        if parameter.requires_grad
    }


def mean(first: dict, second: dict) -> dict[str, Tensor | None]:
    """Mean of two images' gradients; None where neither or only one has a gradient."""
    return {
        name: None if grad is None or second[name] is None else (grad + second[name]) / 2
        for name, grad in first.items()
    }


def main(world: int, rank: int, folder: str) -> None:
    init_default_scope('mmdet')
    torch.set_num_threads(1)
    if world > 1:
        torch.distributed.init_process_group(
            'gloo', init_method=f'file://{folder}/meeting', rank=rank, world_size=world
        )
    found = {}
    for name, changes in MODELS.items():
        model = build(changes)
        if world > 1:
            model = MMDistributedDataParallel(model, broadcast_buffers=False)
        for case, images in CASES.items():
            if world > 1:
                found[name, case] = gradients(model, image(rank, **images[rank]))
            else:
                of_each = (gradients(model, image(i, **each)) for i, each in enumerate(images))
                found[name, case] = mean(*of_each)
    torch.save(found, Path(folder) / f'{world}_{rank}.pt')


if __name__ == '__main__':
    main(int(sys.argv[1]), int(os.environ.get('RANK', 0)), sys.argv[2])
