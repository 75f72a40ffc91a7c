"""Detection and segmentation of proposals, learnt from an image's tags (paper, section 3)."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import torch
from mmdet.models.layers import multiclass_nms
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi, bbox_overlaps
from mmengine.logging import print_log
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from projects.common.errors import InputError

from ..cues.roi_targets import crop_masks, threshold_in_roi
from .losses import (
    CLAMP,
    REDUCTIONS,
    classification_loss,
    correlation_loss,
    image_level_scores,
    instance_activation,
    mask_loss,
    mil_loss,
    reduce_images,
    regression_loss,
    wsddn_scores,
)
from .pooled_linear import pooled_linear
from .pseudo_labels import (
    Assignment,
    PseudoGroundTruth,
    assign,
    mine_pseudo_ground_truth,
    sample_seeds,
)

#: Masks (s, H, W) for the s seeds of an image, given its index in the batch, the seeds' boxes
#: (s, 4) and their classes (s,).
PseudoMasks = Callable[[int, Tensor, Tensor], Tensor]

_FROZEN_AFTER = 100  # iterations at the clamp until it is reported
_LOSSES = ('mil', 'refinement', 'mask', 'correlation')


@MODELS.register_module()
class PDSLRoIHead(StandardRoIHead):
    """The detection branch, the segmentation branch and their correlation.

    The defaults are the paper's, but for how losses are reduced, in which they are the released
    code's; "released" says what reproduces the rest of it, "paper" the paper's sums. Arguments
    that are not named here are mmdet's. Tags stand in the data sample's metainfo, ``tags``: the
    classes that are in the image. Neither boxes nor masks of a data sample are read.

    Args:
        num_seeds: n_seed, seeds of each pseudo ground truth (1, 10, 50 and 100 in Table 1).
        iou_thr: Least overlap of a foreground proposal with its pseudo ground truth.
        reduction: See :func:`~.losses.reduce_images`; paper 'sum', with which the paper's
            learning rate of 0.01 diverges at the second iteration. Released 'batch_mean', which is
            'mean' where each process has one image.
        smooth_l1_beta: Where the box loss becomes linear; released 0, which is L1.
        weighted_regression: Weigh the box loss by y; released True (ResNet-101: False).
        objectness_factor: Multiply RoI features by 1 + the proposal's score; released True.
        soft_masks: Class-specific heads learn the probabilities of the head before; released
            False: those probabilities, thresholded at 0.5.
        weighted_masks: Weigh the class-specific masks' loss by y; released False.
        correlation: L_ACL, on or off.
        correlation_target: Whose score a mask's activation should have: 'proposal', its own, or
            'pseudo_gt', its pseudo ground truth's; released 'pseudo_gt'.
        correlation_average: Divide L_ACL by the number of the 'foreground' proposals, over which
            the masks' losses are means as well, or of all 'proposals'; paper 'proposals', beside
            sums of the masks' losses.
        correlation_agnostic: Also for M^0; released True.
        loss_weights: Factors of 'mil', 'refinement', 'mask' and 'correlation'; 1 by default.
        chunk_size: RoIs whose features are held at a time; the backward pass pools them, and
            computes their masks, again. 0 for all at once.

    Raises:
        ValueError: An argument has none of the values above.
    """

    def __init__(
        self,
        *args,
        num_seeds: int = 10,
        iou_thr: float = 0.5,
        reduction: str = 'mean',
        smooth_l1_beta: float = 1.0,
        weighted_regression: bool = True,
        objectness_factor: bool = False,
        soft_masks: bool = True,
        weighted_masks: bool = True,
        correlation: bool = True,
        correlation_target: str = 'proposal',
        correlation_average: str = 'foreground',
        correlation_agnostic: bool = False,
        loss_weights: Mapping[str, float] | None = None,
        chunk_size: int = 0,
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        _check('reduction', reduction, REDUCTIONS)
        _check('correlation_target', correlation_target, ('proposal', 'pseudo_gt'))
        _check('correlation_average', correlation_average, ('proposals', 'foreground'))
        for name in loss_weights or {}:
            _check('loss_weights', name, _LOSSES)
        if num_seeds < 1:
            raise InputError(f'roi_head.num_seeds: {num_seeds}; expected 1 or more')
        self.num_seeds = num_seeds
        self.iou_thr = iou_thr
        self.reduction = reduction
        self.smooth_l1_beta = smooth_l1_beta
        self.weighted_regression = weighted_regression
        self.objectness_factor = objectness_factor
        self.soft_masks = soft_masks
        self.weighted_masks = weighted_masks
        self.correlation = correlation
        self.correlation_target = correlation_target
        self.correlation_average = correlation_average
        self.correlation_agnostic = correlation_agnostic
        self.loss_weights = {**dict.fromkeys(_LOSSES, 1.0), **(loss_weights or {})}
        self.chunk_size = chunk_size
        # see tools/preflight.py
        self.mined_losses = {
            r'refine\d|correlation\d': 'scores of the model are its labels and weights',
            r'mask\d': 'the model chooses the boxes, and a mask head learns from the one before',
        }
        self.late_losses = {r'mask[1-9]': 'what the head before says is its label'}
        self.warnings: Counter[str] = Counter()
        self._frozen = 0

    def init_assigner_sampler(self) -> None:
        """Neither: pseudo ground truth is assigned to all proposals."""

    @property
    def num_classes(self) -> int:
        """n_c, the background not counted."""
        return self.bbox_head.num_classes

    # ------------------------------------------------------------------------------- features

    def _in_chunks(
        self, function: Callable[..., tuple[Tensor, ...]], *rows: Tensor
    ) -> list[Tensor]:
        """``function`` of tensors with one row for each RoI, in bounded memory."""
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
        """Features (N, D) of all proposals of a batch."""
        rois = bbox2roi([each.bboxes for each in proposals])
        factor = rois.new_ones(len(rois))
        if self.objectness_factor:
            factor = 1 + torch.cat([each.scores for each in proposals])

        def pool(maps: Sequence[Tensor], rois: Tensor, factor: Tensor) -> Tensor:
            pooled = self.bbox_roi_extractor(maps, rois)
            return (pooled * factor[:, None, None, None]).flatten(1)

        maps = x[: self.bbox_roi_extractor.num_inputs]
        if not self.chunk_size or len(rois) <= self.chunk_size or not len(self.bbox_head.fcs):
            return self.bbox_head.extract(pool(maps, rois, factor))
        first = self.bbox_head.fcs[0]
        size = self.chunk_size
        features = pooled_linear(pool, maps, (rois, factor), first.weight, first.bias, size)
        return self.bbox_head.after_first(features)

    def _mask_features(self, x: Sequence[Tensor], rois: Tensor) -> Tensor:
        return self.mask_roi_extractor(x[: self.mask_roi_extractor.num_inputs], rois)

    # ----------------------------------------------------------------------------------- loss

    def loss(
        self,
        x: Sequence[Tensor],
        rpn_results_list: Sequence[InstanceData],
        batch_data_samples: SampleList,
        pseudo_masks: PseudoMasks | None = None,
    ) -> dict[str, Tensor]:
        """Eq. 1.

        Args:
            x: Feature maps (B, C, h, w).
            rpn_results_list: Of each image, proposals with ``bboxes`` (n, 4), XYXY in pixels of
                the input, and ``scores`` (n,) where ``objectness_factor`` asks for them.
            batch_data_samples: Metainfo ``tags`` of each image.
            pseudo_masks: Masks of seeds; needed where there is a mask head.

        Returns:
            ``loss_mil``, ``loss_refine{r}_cls``, ``loss_refine{r}_reg``, ``loss_mask{m}`` and
            ``loss_correlation{m}``, those that this head has.

        Raises:
            ValueError: Tags are absent or no classes of this head, or masks have no
                ``pseudo_masks``.
        """
        proposals = [each.bboxes for each in rpn_results_list]
        sizes = [len(boxes) for boxes in proposals]
        tags = [self._tags(sample, x[0].device) for sample in batch_data_samples]
        self._count_warnings(proposals, tags)

        features = self.proposal_features(x, rpn_results_list)
        streams = (part.split(sizes) for part in self.bbox_head.streams(features))
        scores = [wsddn_scores(*pair) for pair in zip(*streams)]
        image_scores = [image_level_scores(each) for each in scores]
        losses = {'loss_mil': self._mil_loss(scores, image_scores, tags)}

        previous = list(zip(scores, proposals))
        for r, (logits, deltas) in enumerate(self.bbox_head.refine(features), 1):
            logits = logits.split(sizes)
            deltas = [None] * len(sizes) if deltas is None else deltas.split(sizes)
            found = [self._assign(*each) for each in zip(previous, proposals, tags, image_scores)]
            losses.update(self._refinement_loss(r, proposals, logits, deltas, found))
            boxes = [self.bbox_head.decode(*pair) for pair in zip(proposals, deltas)]
            previous = list(zip([each.softmax(1) for each in logits], boxes))

        if self.with_mask:
            if pseudo_masks is None:
                raise InputError('roi_head.loss: no pseudo_masks, which the mask head learns from')
            found = [self._assign(*each) for each in zip(previous, proposals, tags, image_scores)]
            detections = [each[0].detach() for each in previous]
            losses.update(self._mask_losses(x, proposals, detections, found, pseudo_masks))
        return losses

    def _tags(self, sample, device: torch.device) -> Tensor:
        where = f'data sample of {sample.metainfo.get("img_path", "an image")}'
        if 'tags' not in sample.metainfo:
            raise InputError(f"{where}: no 'tags' in its metainfo; expected the image's classes")
        tags = sorted({int(tag) for tag in sample.metainfo['tags']})
        if tags and not 0 <= tags[0] <= tags[-1] < self.num_classes:
            raise InputError(f'{where}: tags {tags}; expected 0 to {self.num_classes - 1}')
        return torch.tensor(tags, dtype=torch.long, device=device)

    def _mil_loss(
        self, scores: Sequence[Tensor], image_scores: Sequence[Tensor], tags: Sequence[Tensor]
    ) -> Tensor:
        sums, clamped, wrong = [], 0.0, False
        for each, y, present in zip(scores, image_scores, tags):
            if not len(each):  # an image without proposals says nothing
                sums.append(each.sum())
                continue
            target = torch.zeros_like(y).scatter_(0, present, 1)
            of_class = mil_loss(y, target)
            sums.append(of_class.sum())
            total = each.detach().sum(0)
            at_clamp = of_class.detach()[(total <= CLAMP) | (total >= 1 - CLAMP)]
            clamped += float(at_clamp.sum())
            wrong |= bool((at_clamp > 1).any())  # 13.8 where it is wrong, 1e-6 where right
        all_images = float(sum(each.detach() for each in sums))
        if clamped < 0.99 * all_images and all_images > 1e-3:
            self._frozen = 0
        elif wrong:  # an image of which all is right tells neither way
            self._count_frozen()
        loss = reduce_images(sums, [self.num_classes] * len(sums), self.reduction)
        return self.loss_weights['mil'] * loss

    def _count_frozen(self) -> None:
        """Reports once that the clamp of Eq. 2's y leaves the loss without a gradient."""
        self._frozen += 1
        if self._frozen == _FROZEN_AFTER and not self.warnings['frozen loss']:
            self.warnings['frozen loss'] += 1
            print_log(
                f'loss_mil has had next to no gradient for {_FROZEN_AFTER} iterations: the '
                f'image-level scores of the wrong classes are at their limits of {CLAMP} and 1 - '
                f'{CLAMP}, where they are clamped. It will hardly recover: start again with a '
                'lower learning rate, a warm-up, gradient clipping (optim_wrapper.clip_grad), '
                'more proposals for each image, or a pretrained backbone.',
                logger='current',
                level=logging.WARNING,
            )

    def _assign(
        self,
        previous: tuple[Tensor, Tensor],
        proposals: Tensor,
        tags: Tensor,
        image_scores: Tensor,
    ) -> tuple[PseudoGroundTruth, Assignment]:
        truth = mine_pseudo_ground_truth(*previous, tags, image_scores)
        return truth, assign(proposals, truth, self.num_classes, self.iou_thr)

    def _refinement_loss(
        self,
        r: int,
        proposals: Sequence[Tensor],
        logits: Sequence[Tensor],
        deltas: Sequence[Tensor | None],
        found: Sequence[tuple[PseudoGroundTruth, Assignment]],
    ) -> dict[str, Tensor]:
        """L_OR^r of Eq. 3."""
        sums_cls, counts_cls, sums_reg = [], [], []
        for boxes, scores, moves, (truth, given) in zip(proposals, logits, deltas, found):
            sums_cls.append(classification_loss(scores, given.labels, given.weights).sum())
            counts_cls.append((given.weights > 1e-12).sum())
            if moves is None:
                continue
            rows = given.foreground
            moves = moves.unflatten(1, (self.num_classes, 4))[rows, given.labels[rows]]
            target = self.bbox_head.bbox_coder.encode(boxes[rows], truth.boxes[given.matched[rows]])
            weights = given.weights[rows] if self.weighted_regression else None
            sums_reg.append(regression_loss(moves, target, weights, self.smooth_l1_beta).sum())
        factor = self.loss_weights['refinement']
        losses = {f'loss_refine{r}_cls': factor * self._reduce(sums_cls, counts_cls)}
        if sums_reg:
            counts = [len(boxes) for boxes in proposals]
            losses[f'loss_refine{r}_reg'] = factor * self._reduce(sums_reg, counts)
        return losses

    def _reduce(self, sums: Sequence[Tensor], counts: Sequence[float | Tensor]) -> Tensor:
        return reduce_images(sums, counts, self.reduction)

    def _mask_losses(
        self,
        x: Sequence[Tensor],
        proposals: Sequence[Tensor],
        scores: Sequence[Tensor],
        found: Sequence[tuple[PseudoGroundTruth, Assignment]],
        pseudo_masks: PseudoMasks,
    ) -> dict[str, Tensor]:
        """L_IS of Eq. 5 and L_CL of Eq. 6, of the foreground proposals."""
        rows = [given.foreground for _, given in found]
        sizes = [len(each) for each in rows]
        for count, (truth, _) in zip(sizes, found):
            if len(truth.labels) and not count:
                self._warn('images without foreground', 'their masks are not learnt from')
        boxes = [each[index] for each, index in zip(proposals, rows)]
        labels = torch.cat([given.labels[index] for (_, given), index in zip(found, rows)])
        weights = torch.cat([given.weights[index] for (_, given), index in zip(found, rows)])
        if self.correlation_target == 'proposal':
            wanted = torch.cat(
                [each[index, given.labels[index]]
                 for each, index, (_, given) in zip(scores, rows, found)]
            )  # fmt: skip
        else:
            wanted = torch.cat(
                [truth.scores[given.matched[index]]
                 for index, (truth, given) in zip(rows, found)]
            )  # fmt: skip

        def select(rois: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
            return tuple(self.mask_head.select(self._mask_features(x, rois), labels))

        heads = self._in_chunks(select, bbox2roi(boxes), labels)
        size = heads[0].shape[-1]
        target = torch.cat(
            [
                self._cue_targets(index, *each, size, pseudo_masks)
                for index, each in enumerate(zip(proposals, found))
            ]
        )
        losses = {}
        before = target
        for m, logits in enumerate(heads):
            weighted = None
            if m:
                target = before if self.soft_masks else threshold_in_roi(before)
                weighted = weights if self.weighted_masks else None
            before = logits.detach().sigmoid()
            sums = [part.sum() for part in mask_loss(logits, target, weighted).split(sizes)]
            loss = self._reduce(sums, [count * size**2 for count in sizes])
            losses[f'loss_mask{m}'] = self.loss_weights['mask'] * loss
            if self.correlation and (m or self.correlation_agnostic):
                distance = correlation_loss(instance_activation(logits.sigmoid()), wanted)
                over = sizes
                if self.correlation_average == 'proposals':
                    over = [len(each) for each in proposals]
                # Eq. 8 is a mean over an image's proposals, whatever the other losses are
                mean = 'batch_mean' if self.reduction == 'batch_mean' else 'mean'
                loss = reduce_images([part.sum() for part in distance.split(sizes)], over, mean)
                losses[f'loss_correlation{m}'] = self.loss_weights['correlation'] * loss
        return losses

    def _cue_targets(
        self,
        index: int,
        proposals: Tensor,
        found: tuple[PseudoGroundTruth, Assignment],
        size: int,
        pseudo_masks: PseudoMasks,
    ) -> Tensor:
        """M-hat^0 of an image's foreground proposals (m, size, size): of their nearest seeds."""
        _, given = found
        if not len(given.foreground):
            return proposals.new_zeros(0, size, size)
        # a proposal that two pseudo ground truths chose needs one mask
        seeds = sample_seeds(given, self.num_seeds).unique()
        masks = pseudo_masks(index, proposals[seeds], given.labels[seeds])
        boxes = proposals[given.foreground]
        nearest = bbox_overlaps(proposals[seeds], boxes).argmax(0)
        return crop_masks(masks.to(boxes.device), nearest, boxes, size).to(proposals.dtype)

    def _count_warnings(self, proposals: Sequence[Tensor], tags: Sequence[Tensor]) -> None:
        for boxes, present in zip(proposals, tags):
            if not len(boxes):
                self._warn('images without proposals', 'they are not learnt from')
            if not len(present):
                self._warn('images without tags', 'they say that no class is there')
            flat = ((boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1])).any()
            if bool(flat):
                self._warn('images with proposals without area', 'these count as background')

    def _warn(self, what: str, consequence: str) -> None:
        """A line at the 1st, 10th, 100th, ... time."""
        self.warnings[what] += 1
        count = str(self.warnings[what])
        if count.rstrip('0') == '1':
            print_log(
                f'{what}: {count} so far; {consequence}', logger='current', level=logging.WARNING
            )

    # ------------------------------------------------------------------------------- prediction

    def score_proposals(
        self, x: Sequence[Tensor], proposals: Sequence[InstanceData]
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Of each image, what all refinement heads say together, before NMS.

        Returns:
            Probabilities (n, n_c + 1), the last of the background; boxes (n, n_c, 4), XYXY in
            pixels of the input, not clipped; and y (n_c,) of Eq. 2: which classes are there.
        """
        sizes = [len(each) for each in proposals]
        features = self.proposal_features(x, proposals)
        streams = (part.split(sizes) for part in self.bbox_head.streams(features))
        scores = [wsddn_scores(*pair) for pair in zip(*streams)]
        boxes = [each.bboxes for each in proposals]
        return [
            (*self.bbox_head(*each), image_level_scores(each[2]))
            for each in zip(boxes, features.split(sizes), scores)
        ]

    def class_logits(self, x: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Logits (k, n_c) of boxes (k, 4) of one image, mean over the refinement heads."""
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
        """NMS of :meth:`score_proposals`; see mmdet's method.

        The metainfo of each image's result has ``image_scores``, y (n_c,) of Eq. 2. With
        ``tags_only`` in ``test_cfg.rcnn``, only classes of the image's metainfo ``tags`` are
        found, and the best box of each of them always: see :func:`detections`.
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
        """Probabilities and boxes of all proposals, and the masks of the first 100."""
        probs, boxes, _ = map(torch.cat, zip(*self.score_proposals(x, rpn_results_list)))
        if not self.with_mask:
            return probs, boxes
        rois = bbox2roi([each.bboxes for each in rpn_results_list])[:100]
        return probs, boxes, self._mask_forward(x, rois)['mask_preds']


def known_tags(meta: Mapping, test_cfg: Mapping) -> Sequence[int] | None:
    """Return an image's tags where ``test_cfg`` asks to find nothing else (``tags_only``).

    Raises:
        ValueError: They are not in the metainfo.
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
    """Return what remains of an image's proposals: clipped, above a score, after NMS by class.

    Args:
        probs: (n, n_c + 1), the last of the background.
        boxes: (n, n_c, 4), XYXY in pixels.
        shape: Height and width of the image, in pixels.
        test_cfg: ``score_thr``, ``nms`` and ``max_per_img``.
        tags: Classes that are in the image. Others are left out before anything else, and the best
            box of each of these is there whatever its score and however many there are; None where
            they are not known.

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
        # above every other score and threshold; the first of its class it is already
        ranks[rows, known] += 2 * (best >= 0)
    found, labels, rows = multiclass_nms(
        boxes.flatten(1),
        ranks,
        test_cfg['score_thr'],
        test_cfg['nms'],
        max(test_cfg['max_per_img'], len(tags or ())),
        return_inds=True,
    )
    scores = probs[:, :-1].flatten()[rows]
    order = scores.argsort(descending=True, stable=True)
    return InstanceData(bboxes=found[order, :4], scores=scores[order], labels=labels[order])


def _check(name: str, value: str, expected: Sequence[str]) -> None:
    if value not in expected:
        raise InputError(f'roi_head.{name}: {value!r}; expected one of {tuple(expected)}')
