"""Learn detection and segmentation of proposals from an image's tags (paper, section 3)."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from mmdet.structures import DetDataSample, SampleList
from mmdet.structures.bbox import bbox2roi
from mmengine.logging import print_log
from mmengine.registry import MODELS, TASK_UTILS
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from projects.common.errors import InputError
from projects.common.speed.transfer import to_device

from .cue_targets import PseudoMasks, select_seeds, start_targets
from .pseudo_labels import ImagePredictions, PseudoLabels, find_foreground
from .roi_prediction import ProposalRoIHead


@MODELS.register_module()
class PDSLRoIHead(ProposalRoIHead):
    """Learn the detection branch, the segmentation branch and their correlation.

    The defaults are the paper's, except that losses are means, as in the released code. A data
    sample's metainfo names the classes that are in the image, ``tags``. Boxes and masks of a data
    sample are not read. Arguments that are not named here are those of :class:`ProposalRoIHead`.

    Args:
        loss_mil: L_OM of Eq. 2, called as :class:`MILLoss` is. None leaves this term out, as it
            does for the other losses.
        loss_refine: L_OR^r of Eq. 3, called as :class:`RefinementLoss` is.
        loss_mask: L_IS of Eq. 5, called as :class:`PseudoMaskLoss` is.
        loss_correlation: L_CL of Eq. 6, called as :class:`InstanceCorrelationLoss` is.
        miner: Turns the predictions of a head into pseudo ground truth, as :class:`TopBoxMiner`
            does.
        assigner: Assigns pseudo ground truth to proposals, as :class:`OverlapAssigner` does.
        num_seeds: n_seed, seeds of each pseudo ground truth (1, 10, 50 and 100 in Table 1).

    Raises:
        ValueError: ``num_seeds`` is below 1, or an argument belongs to one of the losses or to the
            assigner.
    """

    # see tools/preflight.py
    mined_losses = {
        r'refine\d|correlation\d': 'scores of the model are its labels and weights',
        r'mask\d': 'the model chooses the boxes, and a mask head learns from the one before',
    }
    late_losses = {r'mask[1-9]': 'what the head before says is its label'}
    # Former arguments, and the arguments of the head's parts that replace them.
    moved_arguments = {
        'iou_thr': 'assigner.iou_thr',
        'reduction': 'loss_mil.reduction, and those of loss_refine, loss_mask and loss_correlation',
        'smooth_l1_beta': 'loss_refine.smooth_l1_beta',
        'weighted_regression': 'loss_refine.weighted_regression',
        'soft_masks': 'loss_mask.soft_targets',
        'weighted_masks': 'loss_mask.weighted',
        'correlation': 'loss_correlation, where None leaves the term out',
        'correlation_target': 'loss_correlation.target',
        'correlation_average': 'loss_correlation.average',
        'correlation_agnostic': 'loss_correlation.agnostic',
        'loss_weights': 'loss_mil.loss_weight, and those of the other losses',
    }

    def __init__(
        self,
        *args,
        loss_mil: dict | None = dict(type='MILLoss'),  # noqa: B006
        loss_refine: dict | None = dict(type='RefinementLoss'),  # noqa: B006
        loss_mask: dict | None = dict(type='PseudoMaskLoss'),  # noqa: B006
        loss_correlation: dict | None = dict(type='InstanceCorrelationLoss'),  # noqa: B006
        miner: dict = dict(type='TopBoxMiner'),  # noqa: B006
        assigner: dict = dict(type='OverlapAssigner'),  # noqa: B006
        num_seeds: int = 10,
        **kwargs,
    ) -> None:
        for name in sorted(kwargs.keys() & self.moved_arguments):
            raise InputError(
                f'roi_head.{name}: this argument is now roi_head.{self.moved_arguments[name]}'
            )
        super().__init__(*args, **kwargs)
        if num_seeds < 1:
            raise InputError(f'roi_head.num_seeds: {num_seeds}; expected 1 or more')
        self.loss_mil = _build(loss_mil)
        self.loss_refine = _build(loss_refine)
        self.loss_mask = _build(loss_mask)
        self.loss_correlation = _build(loss_correlation)
        self.miner = TASK_UTILS.build(miner)
        self.assigner = TASK_UTILS.build(assigner)
        self.num_seeds = num_seeds
        self.warnings: Counter[str] = Counter()

    def init_assigner_sampler(self) -> None:
        """Do nothing: pseudo ground truth is assigned to all proposals."""

    def loss(
        self,
        x: Sequence[Tensor],
        rpn_results_list: Sequence[InstanceData],
        batch_data_samples: SampleList,
        pseudo_masks: PseudoMasks | None = None,
    ) -> dict[str, Tensor]:
        """Compute the terms of L = L_OD + L_IS + L_CL (Eq. 1).

        Args:
            x: Feature maps (B, C, h, w).
            rpn_results_list: Proposals of each image with ``bboxes`` (n, 4), XYXY in pixels of the
                input, and ``scores`` (n,) if there is an ``objectness_factor``.
            batch_data_samples: Metainfo ``tags`` of each image.
            pseudo_masks: Masks of seeds; needed for ``loss_mask``.

        Returns:
            ``loss_mil``, ``loss_refine{r}_cls``, ``loss_refine{r}_reg``, ``loss_mask{m}`` and
            ``loss_correlation{m}``, for the losses and heads that there are.

        Raises:
            ValueError: Tags are missing or are not classes of this head, or ``pseudo_masks`` is
                missing although there is a ``loss_mask``.
        """
        tags = [
            to_device(_tags(sample, self.num_classes), x[0].device) for sample in batch_data_samples
        ]
        features = self.proposal_features(x, rpn_results_list)
        sizes = [len(each.bboxes) for each in rpn_results_list]
        scores = self.stream_scores(features, sizes)
        refined = self.bbox_head.refine(features)
        stages = self.stage_predictions(rpn_results_list, tags, scores, refined)
        learns_masks = self.with_mask and not (
            self.loss_mask is None and self.loss_correlation is None
        )
        labels = self._labels(stages, learns_masks)
        losses = self._detection_losses(scores, tags, refined, labels)  # L_OD
        if learns_masks:
            cue = self._start_cue(labels[-1], pseudo_masks)
            logits = self._mask_logits(x, labels[-1])
            losses |= self._segmentation_losses(logits, labels[-1], cue)  # L_IS
            losses |= self._correlation_losses(logits, labels[-1])  # L_CL
        return losses

    def label(self, image: ImagePredictions) -> PseudoLabels:
        """Return the labels that the predictions of a head give to an image."""
        truth = self.miner(image)
        return PseudoLabels(image, truth, self.assigner(image.proposals, truth, self.num_classes))

    # -------------------------------------------------------------------------- the three terms

    def _labels(
        self, stages: Sequence[Sequence[ImagePredictions]], learns_masks: bool
    ) -> list[list[PseudoLabels]]:
        """Return the labels that each head gives, the last one's if masks are learnt."""
        images, last = stages[0], stages[-1:] if learns_masks else []
        stages = [*(stages[:-1] if self.loss_refine is not None else ()), *last]
        labels = [[self.label(image) for image in of_stage] for of_stage in stages]
        flat = [_any_flat(image.proposals) for image in images]
        found = find_foreground([each.assignment for of in labels for each in of], *flat)
        self._count_warnings(images, found)
        return labels

    def _detection_losses(
        self,
        scores: Sequence[Tensor],
        tags: Sequence[Tensor],
        refined: Sequence[tuple[Tensor, Tensor | None]],
        labels: Sequence[Sequence[PseudoLabels]],
    ) -> dict[str, Tensor]:
        """Compute the terms of L_OD (Eq. 4)."""
        losses = {}
        if self.loss_mil is not None:
            losses['loss_mil'] = self.loss_mil(scores, tags)
        if self.loss_refine is None:
            return losses
        sizes = [len(each) for each in scores]
        targets = self._box_targets(labels[: len(refined)]) if self.bbox_head.with_reg else None
        for r, (logits, deltas) in enumerate(refined):
            terms = self.loss_refine(
                logits.split(sizes),
                None if deltas is None else deltas.split(sizes),
                labels[r],
                None if targets is None else targets[r],
            )
            losses.update({f'loss_refine{r + 1}_{name}': loss for name, loss in terms.items()})
        return losses

    def _box_targets(self, labels: Sequence[Sequence[PseudoLabels]]) -> list[list[Tensor]]:
        """Encode the pseudo ground truth of the foreground proposals of each image: (m, 4)."""
        flat = [each for of_head in labels for each in of_head]
        if not flat:
            return []
        pairs = ((each.foreground_proposals, each.matched_boxes) for each in flat)
        encoded = self.bbox_head.bbox_coder.encode(*map(torch.cat, zip(*pairs)))
        parts = iter(encoded.split([len(each.foreground) for each in flat]))
        return [[next(parts) for _ in of_head] for of_head in labels]

    @torch.compiler.disable
    def _start_cue(
        self, labels: Sequence[PseudoLabels], pseudo_masks: PseudoMasks | None
    ) -> Callable[[], list[Tensor]]:
        """Choose the seeds, and start to make M-hat^0 (m, s, s) of each image where it can be."""
        if self.loss_mask is None:
            return list
        if pseudo_masks is None:
            raise InputError('roi_head.loss: no pseudo_masks, which the mask head learns from')
        size = _pair(self.mask_roi_extractor.roi_layers[0].output_size)[0] * 2
        seeds = select_seeds(labels, self.num_seeds)
        return start_targets(seeds, pseudo_masks, size)

    def _segmentation_losses(
        self,
        logits: Sequence[Tensor],
        labels: Sequence[PseudoLabels],
        cue: Callable[[], list[Tensor]],
    ) -> dict[str, Tensor]:
        """Compute the terms of L_IS (Eq. 5)."""
        if self.loss_mask is None:
            return {}
        target = _wait_for(cue, logits[0])
        terms = self.loss_mask(logits, target, labels)
        return {f'loss_mask{m}': loss for m, loss in terms.items()}

    def _correlation_losses(
        self, logits: Sequence[Tensor], labels: Sequence[PseudoLabels]
    ) -> dict[str, Tensor]:
        """Compute the terms of L_CL (Eq. 6)."""
        if self.loss_correlation is None:
            return {}
        terms = self.loss_correlation(logits, labels)
        return {f'loss_correlation{m}': loss for m, loss in terms.items()}

    def _mask_logits(self, x: Sequence[Tensor], labels: Sequence[PseudoLabels]) -> list[Tensor]:
        """Return the logits (m, s, s) of M^0 to M^n_m for the foreground proposals of a batch."""
        for each in labels:
            if len(each.truth.labels) and not len(each.foreground):
                self._warn('images without foreground', 'their masks are not learnt from')

        def select(rois: Tensor, classes: Tensor) -> tuple[Tensor, ...]:
            return tuple(self.mask_head.select(self._mask_features(x, rois), classes))

        rois = bbox2roi([each.foreground_proposals for each in labels])
        return self._in_chunks(select, rois, torch.cat([each.foreground_labels for each in labels]))

    # ----------------------------------------------------------------------- inputs, warnings

    def _count_warnings(self, images: Sequence[ImagePredictions], flat: Sequence[int]) -> None:
        for image, has_flat in zip(images, flat):
            if not len(image.proposals):
                self._warn('images without proposals', 'they are not learnt from')
            if not len(image.tags):
                self._warn('images without tags', 'they say that no class is there')
            if has_flat:
                self._warn('images with proposals without area', 'these count as background')

    def _warn(self, what: str, consequence: str) -> None:
        """Log a line at the 1st, 10th, 100th, ... time."""
        self.warnings[what] += 1
        count = str(self.warnings[what])
        if count.rstrip('0') == '1':
            print_log(
                f'{what}: {count} so far; {consequence}', logger='current', level=logging.WARNING
            )


def _build(loss: dict | None) -> nn.Module | None:
    return None if loss is None else MODELS.build(loss)


@torch.compiler.disable
def _wait_for(cue: Callable[[], list[Tensor]], like: Tensor) -> Tensor:
    return to_device(torch.cat(cue()), like.device).to(like)


def _any_flat(boxes: Tensor) -> Tensor:
    return ((boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1])).any()


def _tags(sample: DetDataSample, num_classes: int) -> Tensor:
    """Return the classes (k,) that are in the image of a data sample."""
    where = f'data sample of {sample.metainfo.get("img_path", "an image")}'
    if 'tags' not in sample.metainfo:
        raise InputError(f"{where}: no 'tags' in its metainfo; expected the image's classes")
    tags = sorted({int(tag) for tag in sample.metainfo['tags']})
    if tags and not 0 <= tags[0] <= tags[-1] < num_classes:
        raise InputError(f'{where}: tags {tags}; expected 0 to {num_classes - 1}')
    return torch.tensor(tags, dtype=torch.long)
