"""Features of proposals, and the boxes and masks that are predicted from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi
from mmengine.structures import InstanceData
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .detections import detections, known_tags
from .losses import image_level_scores, wsddn_scores
from .pooled_linear import pooled_linear


class ProposalRoIHead(StandardRoIHead):
    """Predict boxes and masks of given proposals; :class:`PDSLRoIHead` adds the losses.

    Arguments that are not named here are mmdet's.

    Args:
        objectness_factor: Whether RoI features are multiplied by 1 + the proposal's score, as in
            the released code.
        chunk_size: Number of RoIs whose features are held at a time; the backward pass pools them,
            and computes their masks, again. 0 holds all at once.
    """

    def __init__(
        self, *args, objectness_factor: bool = False, chunk_size: int = 0, **kwargs
    ) -> None:
        super().__init__(*args, **kwargs)
        self.objectness_factor = objectness_factor
        self.chunk_size = chunk_size

    @property
    def num_classes(self) -> int:
        """Return n_c, the background not counted."""
        return self.bbox_head.num_classes

    # ------------------------------------------------------------------------------- features

    def _in_chunks(
        self, function: Callable[..., tuple[Tensor, ...]], *rows: Tensor
    ) -> list[Tensor]:
        """Apply ``function`` to tensors with one row for each RoI, in bounded memory."""
        if not self.chunk_size or len(rows[0]) <= self.chunk_size:
            return list(function(*rows))
        parts = []
        for chunk in zip(*(row.split(self.chunk_size) for row in rows)):
            if torch.is_grad_enabled():
                parts.append(checkpoint(function, *chunk, use_reentrant=False))
            else:
                parts.append(function(*chunk))
        return [torch.cat(outputs) for outputs in zip(*parts)]

    def proposal_features(self, x: Sequence[Tensor], proposals: Sequence[InstanceData]) -> Tensor:
        """Return the features (N, D) of all proposals of a batch."""
        rois = bbox2roi([each.bboxes for each in proposals])
        rows: tuple[Tensor, ...] = (rois,)
        if self.objectness_factor:
            rows += (1 + torch.cat([each.scores for each in proposals]),)

        def pool(maps: Sequence[Tensor], rois: Tensor, factor: Tensor | None = None) -> Tensor:
            pooled = self.bbox_roi_extractor(maps, rois)
            if factor is not None:
                pooled = pooled * factor[:, None, None, None]
            return pooled.flatten(1)

        maps = x[: self.bbox_roi_extractor.num_inputs]
        if not self.chunk_size or len(rois) <= self.chunk_size or not len(self.bbox_head.fcs):
            return self.bbox_head.extract(pool(maps, *rows))
        first = self.bbox_head.fcs[0]
        size = self.chunk_size
        features = pooled_linear(pool, maps, rows, first.weight, first.bias, size)
        return self.bbox_head.after_first(features)

    def stream_scores(self, features: Tensor, sizes: Sequence[int]) -> list[Tensor]:
        """Return S^0 (n, n_c) of each image, given features (N, D) and numbers of proposals."""
        streams = (part.split(list(sizes)) for part in self.bbox_head.streams(features))
        return [wsddn_scores(*pair) for pair in zip(*streams)]

    def _mask_features(self, x: Sequence[Tensor], rois: Tensor) -> Tensor:
        return self.mask_roi_extractor(x[: self.mask_roi_extractor.num_inputs], rois)

    # ------------------------------------------------------------------------------- prediction

    def score_proposals(
        self, x: Sequence[Tensor], proposals: Sequence[InstanceData]
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Average the predictions of the refinement heads for each image, before NMS.

        Returns:
            Probabilities (n, n_c + 1), the last class being the background; boxes (n, n_c, 4), XYXY
            in pixels of the input, not clipped; and y (n_c,) of Eq. 2, the scores of the classes
            for the whole image.
        """
        sizes = [len(each) for each in proposals]
        features = self.proposal_features(x, proposals)
        scores = self.stream_scores(features, sizes)
        boxes = [each.bboxes for each in proposals]
        return [
            (*self.bbox_head(*each), image_level_scores(each[2]))
            for each in zip(boxes, features.split(sizes), scores)
        ]

    def class_logits(self, x: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Return the mean logits (k, n_c) of the refinement heads for boxes (k, 4) of one image."""
        proposals = InstanceData(bboxes=boxes, scores=boxes.new_zeros(len(boxes)))
        features = self.proposal_features(x, [proposals])
        refined = [logits[:, :-1] for logits, _ in self.bbox_head.refine(features)]
        refined = refined or [self.bbox_head.streams(features)[0]]
        return torch.stack(refined).mean(0)

    def predict_bbox(
        self,
        x: Sequence[Tensor],
        batch_img_metas: Sequence[dict],
        rpn_results_list: Sequence[InstanceData],
        rcnn_test_cfg: dict,
        rescale: bool = False,
    ) -> list[InstanceData]:
        """Apply NMS to :meth:`score_proposals`; see mmdet's method.

        The metainfo of each image's result has ``image_scores``, y (n_c,) of Eq. 2. With
        ``tags_only`` in ``test_cfg.rcnn``, only classes of the image's metainfo ``tags`` are
        detected, and the best box of each of them is always kept: see :func:`detections`.
        """
        results = []
        scored = self.score_proposals(x, rpn_results_list)
        for (probs, boxes, image_scores), meta in zip(scored, batch_img_metas):
            tags = known_tags(meta, rcnn_test_cfg)
            result = detections(probs, boxes, meta['img_shape'], rcnn_test_cfg, tags)
            result.set_metainfo(dict(image_scores=image_scores.detach()))
            if rescale and len(result):
                result.bboxes = result.bboxes / result.bboxes.new_tensor(
                    meta['scale_factor']
                ).repeat(2)
            results.append(result)
        return results

    def _mask_forward(self, x: Sequence[Tensor], rois: Tensor, **kwargs) -> dict[str, Tensor]:
        def predict(rois: Tensor) -> tuple[Tensor]:
            return (self.mask_head.predict_logits(self._mask_features(x, rois)),)

        return {'mask_preds': self._in_chunks(predict, rois)[0]}

    def forward(
        self,
        x: Sequence[Tensor],
        rpn_results_list: Sequence[InstanceData],
        batch_data_samples: SampleList | None = None,
    ) -> tuple[Tensor, ...]:
        """Return probabilities and boxes of all proposals, and the masks of the first 100."""
        probs, boxes, _ = map(torch.cat, zip(*self.score_proposals(x, rpn_results_list)))
        if not self.with_mask:
            return probs, boxes
        rois = bbox2roi([each.bboxes for each in rpn_results_list])[:100]
        return probs, boxes, self._mask_forward(x, rois)['mask_preds']
