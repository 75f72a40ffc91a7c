"""Select the detections among an image's proposals: known tags, score threshold, NMS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from mmdet.models.layers import multiclass_nms
from mmengine.structures import InstanceData
from torch import Tensor

from projects.common.errors import InputError
from projects.common.operators import nms_config


def known_tags(meta: Mapping, test_cfg: Mapping) -> Sequence[int] | None:
    """Return an image's tags if ``test_cfg`` restricts detections to them (``tags_only``).

    Raises:
        ValueError: The tags are not in the metainfo.
    """
    if not test_cfg.get('tags_only', False):
        return None
    if 'tags' not in meta:
        raise InputError(
            f"{meta.get('img_path', 'an image')}: test_cfg.rcnn.tags_only without 'tags' in its "
            "metainfo; add it to PackDetInputs' meta_keys"
        )
    return sorted({int(tag) for tag in meta['tags']})


def detections(
    probs: Tensor,
    boxes: Tensor,
    shape: Sequence[int],
    test_cfg: Mapping,
    tags: Sequence[int] | None = None,
) -> InstanceData:
    """Return an image's proposals after clipping, a score threshold and NMS by class.

    Args:
        probs: (n, n_c + 1), the last class being the background.
        boxes: (n, n_c, 4), XYXY in pixels.
        shape: Height and width of the image, in pixels.
        test_cfg: ``score_thr``, ``nms`` and ``max_per_img``.
        tags: Classes that are in the image, or None if they are not known. Other classes are left
            out first. The best box of each of these is kept, whatever its score and however many
            there are.

    Returns:
        ``bboxes`` (d, 4), ``scores`` (d,) and ``labels`` (d,), best first.
    """
    if not len(boxes):
        none = boxes.new_zeros(0)
        return InstanceData(bboxes=none.view(0, 4), scores=none, labels=none.long())
    height, width = shape[:2]
    low, high = boxes.new_zeros(4), boxes.new_tensor([width, height, width, height])
    boxes = boxes.minimum(high).maximum(low)
    empty = (boxes[..., 2:] <= boxes[..., :2]).any(-1)
    probs = torch.cat((probs[:, :-1].masked_fill(empty, -1), probs[:, -1:]), 1)
    ranks = probs
    if tags is not None:
        known = torch.as_tensor(tags, dtype=torch.long, device=probs.device)
        best, rows = probs[:, known].max(0)
        ranks = torch.full_like(probs, -1)
        ranks[:, known] = probs[:, known]
        # above every other score and threshold; it is already the first of its class
        ranks[rows, known] += 2 * (best >= 0)
    found, labels, rows = multiclass_nms(
        boxes.flatten(1),
        ranks,
        test_cfg['score_thr'],
        nms_config(test_cfg['nms'], boxes),
        max(test_cfg['max_per_img'], len(tags or ())),
        return_inds=True,
    )
    scores = probs[:, :-1].flatten()[rows]
    order = scores.argsort(descending=True, stable=True)
    return InstanceData(bboxes=found[order, :4], scores=scores[order], labels=labels[order])
