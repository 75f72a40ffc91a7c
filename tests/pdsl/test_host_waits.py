"""How often the host waits for a GPU in a step, counted on the CPU.

The inputs are tensors that take themselves for a GPU's: whatever is computed of them counts the
calls for which the host would wait, until a copy to the host is made.
"""

import traceback
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

import projects.pdsl.register  # noqa: F401
from projects.common.build import build_quietly

init_default_scope('mmdet')
SIZE = 64
TO_HOST = ('cpu', 'numpy')
WAITING = {
    *TO_HOST, 'item', 'tolist', '__bool__', '__int__', '__float__', '__index__', '__iter__',
    'nonzero', 'unique', 'masked_select', 'new_tensor',
}  # fmt: skip
waits: Counter[str] = Counter()


class OnGPU(torch.Tensor):
    """A tensor whose reads by the host are counted, with the line of the project that reads."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        name = getattr(func, '__name__', '')
        by_mask = name == '__getitem__' and any(
            isinstance(each, torch.Tensor) and each.dtype == torch.bool
            for each in (args[1] if isinstance(args[1], tuple) else (args[1],))
        )
        if name in WAITING - {'__iter__'} or by_mask:
            stack = traceback.extract_stack()
            here = next((f for f in reversed(stack) if '/projects/' in f.filename), stack[-2])
            waits[f'{Path(here.filename).name}:{here.lineno} {name}'] += 1
        result = super().__torch_function__(func, types, args, kwargs or {})
        return result.as_subclass(torch.Tensor) if name in TO_HOST[:1] else result


def whole_boxes(image, boxes, metainfo):
    assert type(boxes) is np.ndarray
    masks = np.zeros((len(boxes), *image.shape[:2]), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int)):
        mask[y1:y2, x1:x2] = True
    return masks


def sample(seed):
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(30, 2, generator=generator) * 30
    boxes = torch.cat((low, low + 8 + torch.rand(30, 2, generator=generator) * 24), 1)
    proposals = InstanceData(
        bboxes=boxes.as_subclass(OnGPU),
        scores=torch.rand(30, generator=generator).as_subclass(OnGPU),
    )
    meta = dict(img_shape=(SIZE, SIZE), ori_shape=(SIZE, SIZE), scale_factor=(1.0, 1.0))
    return DetDataSample(metainfo=dict(meta, tags=(1, 4)), proposals=proposals)


RELEASED = {
    'loss_mil.reduction': 'batch_mean',
    'loss_refine.reduction': 'batch_mean',
    'loss_mask.reduction': 'batch_mean',
    'loss_mask.soft_targets': False,
    'loss_correlation.reduction': 'batch_mean',
    'loss_correlation.target': 'pseudo_gt',
    'objectness_factor': True,
    'mask_head.class_agnostic': False,
}


@pytest.mark.parametrize('changes', [{}, RELEASED], ids=['default', 'released'])
@pytest.mark.parametrize('images', [1, 3])
def test_seven_waits_whatever_the_batch(repo_root, images, changes):
    """One for counts, one for seeds, one for pictures, four for the constants of mmdet's coder."""
    cfg = Config.fromfile(repo_root / 'configs/pdsl/_base_/pdsl_tiny.py')
    more = {'bbox_head.num_refinements': 4, 'mask_head.num_specific': 4, **changes}
    cfg.merge_from_dict({f'model.roi_head.{key}': value for key, value in more.items()})
    cfg.model.update(cue=None, learning='cascade')
    torch.manual_seed(0)
    model = build_quietly(cfg.model, 'mmdet').train()
    model.cue, model.learning = whole_boxes, 'parallel'
    inputs = torch.randn(images, 3, SIZE, SIZE).as_subclass(OnGPU)
    for _ in range(2):
        waits.clear()
        losses = model.loss(inputs, [sample(i) for i in range(images)])
        assert sum(waits.values()) == 7, waits
        assert sum(count for name, count in waits.items() if 'new_tensor' in name) == 4
    assert all(type(loss) is OnGPU and torch.isfinite(loss) for loss in losses.values())
    assert losses['loss_mask0'] > 0
