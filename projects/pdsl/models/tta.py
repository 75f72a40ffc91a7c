"""Testing over scales and flips (paper, section 4.3)."""

from __future__ import annotations

from collections.abc import Sequence
from operator import add

import torch
from mmdet.structures import DetDataSample, SampleList
from mmdet.structures.bbox import bbox2roi, bbox_flip
from mmengine.model import BaseTTAModel
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor

from projects.common.errors import InputError

from .detections import detections, known_tags


@MODELS.register_module()
class PDSLTTAModel(BaseTTAModel):
    """Average the predictions of all views of an image for each proposal, before NMS.

    A detection's masks are the average over the views as well: of their probabilities. Views are
    resized and flipped, not cropped, and all of them carry the same proposals in the same order:
    ``ProjectProposals(min_side=0, deduplicate=False)``. Their metainfo needs ``flip``,
    ``flip_direction``, ``scale_factor``, ``img_shape`` and ``ori_shape``.

    Examples:
        A config has ``tta_model = dict(type='PDSLTTAModel')`` and a ``tta_pipeline`` with
        mmdet's ``TestTimeAug``.
    """

    @torch.no_grad()
    def test_step(self, data: dict) -> SampleList:
        """Predict instances from several views of each image.

        Args:
            data: ``inputs`` and ``data_samples``, each a list of views of lists of images.

        Returns:
            Of each image, ``pred_instances`` in pixels of the original.

        Raises:
            ValueError: The views of an image have different numbers of proposals.
        """
        model, head = self.module, self.module.roi_head
        views = [
            model.data_preprocessor({key: value[i] for key, value in data.items()}, False)
            for i in range(len(data['inputs']))
        ]
        totals: list[tuple[Tensor, Tensor, Tensor]] = []
        for view in views:
            samples = view['data_samples']
            proposals = [sample.proposals for sample in samples]
            scored = head.score_proposals(model.extract_feat(view['inputs']), proposals)
            for i, ((probs, boxes, image_scores), sample) in enumerate(zip(scored, samples)):
                boxes = _to_original(boxes, sample.metainfo)
                if len(totals) < len(samples):
                    totals.append((probs, boxes, image_scores))
                elif len(probs) != len(totals[i][0]):
                    raise InputError(
                        f'views of {sample.metainfo.get("img_path", "an image")}: '
                        f'{len(totals[i][0])} and {len(probs)} proposals; expected the same in '
                        'all: ProjectProposals(min_side=0, deduplicate=False)'
                    )
                else:
                    totals[i] = tuple(map(add, totals[i], (probs, boxes, image_scores)))
        samples, results = views[0]['data_samples'], []
        for total, sample in zip(totals, samples):
            probs, boxes, image_scores = (each / len(views) for each in total)
            tags = known_tags(sample.metainfo, head.test_cfg)
            result = detections(probs, boxes, sample.metainfo['ori_shape'], head.test_cfg, tags)
            result.set_metainfo(dict(image_scores=image_scores))
            results.append(result)
        if head.with_mask:
            self._predict_masks(views, results)
        for sample, result in zip(samples, results):
            sample.pred_instances = result
        return samples

    def _predict_masks(self, views: Sequence[dict], results: Sequence[InstanceData]) -> None:
        head = self.module.roi_head
        sizes = [len(result) for result in results]
        total = None
        for view in views if sum(sizes) else ():
            metas = [sample.metainfo for sample in view['data_samples']]
            rois = bbox2roi([_to_view(each.bboxes, meta) for each, meta in zip(results, metas)])
            x = self.module.extract_feat(view['inputs'])
            masks = head._mask_forward(x, rois)['mask_preds'].sigmoid().split(sizes)
            masks = torch.cat(
                [mask.flip(_axes(meta)) if _axes(meta) else mask
                 for mask, meta in zip(masks, metas)]
            )  # fmt: skip
            total = masks if total is None else total + masks
        logits = [None] * len(sizes)
        if total is not None:
            logits = (total / len(views)).logit(eps=1e-6).split(sizes)
        metas = [
            dict(ori_shape=sample.metainfo['ori_shape'], scale_factor=(1.0, 1.0))
            for sample in views[0]['data_samples']
        ]
        head.mask_head.predict_by_feat(logits, results, metas, head.test_cfg, rescale=True)

    def merge_preds(self, data_samples_list: list[list[DetDataSample]]) -> None:
        """Raise ``NotImplementedError``: averaging comes before NMS."""
        raise NotImplementedError('PDSLTTAModel averages before NMS; call test_step')


def _axes(meta: dict) -> list[int]:
    """Return the axes of a mask (n, c, h, w) that a view has mirrored."""
    if not meta.get('flip'):
        return []
    return {'horizontal': [3], 'vertical': [2], 'diagonal': [2, 3]}[meta['flip_direction']]


def _to_original(boxes: Tensor, meta: dict) -> Tensor:
    """Convert boxes (n, ..., 4) of a view to pixels of the original."""
    if meta.get('flip'):
        boxes = bbox_flip(boxes, meta['img_shape'], meta['flip_direction'])
    return boxes / boxes.new_tensor(meta['scale_factor']).repeat(2)


def _to_view(boxes: Tensor, meta: dict) -> Tensor:
    """Convert boxes (n, 4) of the original to pixels of a view."""
    boxes = boxes * boxes.new_tensor(meta['scale_factor']).repeat(2)
    if meta.get('flip'):
        boxes = bbox_flip(boxes, meta['img_shape'], meta['flip_direction'])
    return boxes
