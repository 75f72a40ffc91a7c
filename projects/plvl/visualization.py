"""Visualization of groundings: input, ground truth, prediction and score map side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from mmengine.registry import VISUALIZERS

from projects.common.errors import InputError
from projects.common.visualization import (
    PRED_COLOR,
    TRUTH_COLOR,
    ArrayVisualizer,
    Panel,
    check_image,
    draw_objects,
    draw_page,
    resize_to,
)

from .evaluation.grounding_metric import box_iou, mask_areas
from .generalized_drawing import generalized_panels, is_generalized

if TYPE_CHECKING:
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

__all__ = ['GroundingVisualizer']


@VISUALIZERS.register_module()
class GroundingVisualizer(ArrayVisualizer):
    """Draw a grounding as a row of panels below its sentence, as in Figure 5 of the paper.

    The panels are the input, the ground truth, the prediction and the score map; those without data
    are left out. The object keeps its colors, and the rest of the image is dimmed.

    Args:
        name: Name of the instance.
        min_side: Smaller images are enlarged until their short side has this many pixels.
        max_side: Larger images are reduced until their long side has this many pixels.
        kwargs: Arguments of MMEngine's ``Visualizer``, such as ``vis_backends``.

    Example config::

        visualizer = dict(type='GroundingVisualizer')
    """

    def draw(
        self,
        image: np.ndarray | None,
        data_sample: DetDataSample,
        draw_gt: bool = True,
        draw_pred: bool = True,
        **kwargs: Any,
    ) -> np.ndarray:
        """Draw the grounding of one sentence.

        If both ground truth and prediction are drawn, the IoUs of box and mask are written above
        the prediction, or else the confidence of the prediction. The peak of the score map is
        marked. Predictions of :class:`GeneralizedPLVL` may have several boxes, or say that nothing
        fits.

        Args:
            image: The original image, (H, W, 3) uint8, RGB.
            data_sample: A sample with ``text`` and, if available, ``gt_instances`` and
                ``pred_instances`` in original pixels, ``with_mask`` and ``pred_score_map``, which
                has any size and is stretched over the image.
            draw_gt: Whether to draw the ground truth, if there is one.
            draw_pred: Whether to draw the prediction and the score map, if there are any.
            kwargs: Ignored; hooks for instances pass ``pred_score_thr``.

        Returns:
            The drawing, (h, w, 3) uint8, RGB.

        Raises:
            ValueError: ``image`` is not an (H, W, 3) uint8 array, or a mask differs from it in
                size.
        """
        image = check_image(image, type(self).__name__)
        small = resize_to(image, self.min_side, self.max_side)
        panels = [Panel(small, 'Input')]
        gt_box = gt_mask = None
        generalized = is_generalized(data_sample)
        if generalized:
            panels += generalized_panels(small, image, data_sample, draw_gt, draw_pred)
        elif draw_gt:
            gt_box, gt_mask, _ = self._object(data_sample.get('gt_instances'), image)
            if not data_sample.get('with_mask', True):
                gt_mask = None
            if gt_box is not None or gt_mask is not None:
                drawn = draw_objects(small, [gt_box], [gt_mask], [TRUTH_COLOR], shape=image.shape)
                panels.append(Panel(drawn, 'Ground truth'))
        if draw_pred and not generalized:
            box, mask, score = self._object(data_sample.get('pred_instances'), image)
            if box is not None or mask is not None:
                note = f'score {score:.2f}' if score is not None else ''
                ious = []
                if gt_box is not None and box is not None:
                    ious.append(f'box {box_iou(box, gt_box):.2f}')
                if gt_mask is not None and mask is not None:
                    inter, union = mask_areas(mask, gt_mask)
                    ious.append(f'mask {inter / union if union else 1.0:.2f}')
                if ious:
                    note = f'IoU: {", ".join(ious)}'
                drawn = draw_objects(small, [box], [mask], [PRED_COLOR], shape=image.shape)
                panels.append(Panel(drawn, 'Prediction', note))
        if draw_pred:
            scores = data_sample.get('pred_score_map')
            if scores is not None:
                scores = np.asarray(torch.as_tensor(scores).detach().float().cpu())
                drawn = _draw_score_map(small, scores)
                panels.append(Panel(drawn, 'Score map', f'peak {scores.max():.2f}'))
        return draw_page(panels, f'“{data_sample.text}”')

    def _object(
        self, instances: InstanceData | None, image: np.ndarray
    ) -> tuple[list[float] | None, np.ndarray | None, float | None]:
        """Return box, mask (H, W) and score of the best instance, each None if it has none."""
        if instances is None or len(instances) == 0:
            return None, None, None
        best, score, box, mask = 0, None, None, None
        if 'scores' in instances:
            best = int(instances.scores.argmax())
            score = float(instances.scores[best])
        if 'bboxes' in instances:
            boxes = getattr(instances.bboxes, 'tensor', instances.bboxes)  # mmdet's box structures
            box = boxes[best].tolist()
        if 'masks' in instances:
            masks = getattr(instances.masks, 'masks', instances.masks)  # mmdet's mask structures
            mask = np.asarray(torch.as_tensor(masks[best]).cpu())
            if mask.shape != image.shape[:2]:
                raise InputError(
                    f'{type(self).__name__}: mask of shape {mask.shape} on an image of '
                    f'{image.shape[:2]}'
                )
        return box, mask, score


def _draw_score_map(image: np.ndarray, score_map: np.ndarray) -> np.ndarray:
    """Blend a heat map over the grayscale image and mark its peak with a cross.

    A cell represents the centers that round to it (``center_heatmaps``), so it is drawn at its
    upper left corner, not at its middle.
    """
    height, width = image.shape[:2]
    scores = np.asarray(score_map, dtype=np.float32)
    row, column = np.unravel_index(int(scores.argmax()), scores.shape)
    low, high = float(scores.min()), float(scores.max())
    heat = (scores - low) / max(high - low, 1e-6)
    step_x, step_y = scores.shape[1] / width, scores.shape[0] / height
    heat = cv2.warpAffine(
        heat,
        np.array([[step_x, 0, step_x / 2], [0, step_y, step_y / 2]]),
        (width, height),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    ).clip(0, 1)
    colors = cv2.applyColorMap((255 * heat).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    grey = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    drawn = (0.45 * grey + 0.55 * colors).astype(np.uint8)
    centre = (round(column / step_x), round(row / step_y))
    arm = max(12, min(height, width) // 16)
    line = max(2, arm // 8)
    cv2.drawMarker(drawn, centre, (0, 0, 0), cv2.MARKER_CROSS, arm + 4, line + 2)
    cv2.drawMarker(drawn, centre, (255, 255, 255), cv2.MARKER_CROSS, arm, line)
    return drawn
