"""ONNX export of PDSL: a network that scores proposals, and one that segments detections."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from projects.common.deployment.export import differences, export_graph
from projects.common.deployment.images import resize, stack_rgb
from projects.common.deployment.network import Network
from projects.common.deployment.pixels import Normalization
from projects.common.deployment.sidecar import network_path, write_sidecar
from projects.common.deployment.variants import convert
from projects.common.errors import InputError
from projects.common.roi_pool import onnx_translations

from .models import PDSL
from .models.losses import CLAMP, wsddn_scores
from .models.mask_head import select_class

__all__ = ['DetectionGraph', 'MaskGraph', 'compare', 'export_onnx']


class DetectionGraph(nn.Module):
    """Wrap backbone and detection branch, from pixels, as a function of tensors.

    Args:
        model: The detector.

    Raises:
        InputError: The model has no or several levels of feature maps for RoIs.
    """

    def __init__(self, model: PDSL) -> None:
        super().__init__()
        head = model.roi_head
        for name in ('bbox_roi_extractor', 'mask_roi_extractor'):
            extractor = getattr(head, name, None)
            if extractor is not None and extractor.num_inputs != 1:
                raise InputError(
                    f'roi_head.{name}: {extractor.num_inputs} feature maps; only models of one '
                    'can be exported'
                )
        self.model = model
        self.normalization = Normalization(model.data_preprocessor)

    @property
    def input_names(self) -> list[str]:
        """Return the names of the arguments of :meth:`forward`."""
        names = ['image', 'rois']
        return names + (['scores'] if self.model.roi_head.objectness_factor else [])

    @property
    def output_names(self) -> list[str]:
        """Return the names of the outputs of :meth:`forward`, in order."""
        names = ['probs', 'boxes', 'image_scores']
        return names + (['features'] if self.model.roi_head.with_mask else [])

    def forward(
        self, image: Tensor, rois: Tensor, scores: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Score proposals, before NMS.

        Args:
            image: (B, 3, H, W) float, RGB from 0 to 255. Padding has the color ``mean``.
            rois: (N, 5) float, index of the image and XYXY in pixels of it, of all images.
            scores: (N,) float, scores of the proposals if the model reads them.

        Returns:
            Probabilities (N, n_c + 1), the last of the background; boxes (N, n_c, 4), XYXY in
            pixels, not clipped; y (B, n_c) of Eq. 2, the scores of the classes for the images; and
            feature maps (B, C, h, w) for :class:`MaskGraph` if the model predicts masks.
        """
        head = self.model.roi_head
        features = self.model.backbone(self.normalization(image))
        if self.model.with_neck:
            features = self.model.neck(features)
        pooled = head.bbox_roi_extractor.roi_layers[0](features[0], rois)
        if scores is not None:
            pooled = pooled * (1 + scores)[:, None, None, None]
        proposals = head.bbox_head.extract(pooled)
        classification, detection = head.bbox_head.streams(proposals)
        of_image, image_scores = _scores_by_image(classification, detection, rois[:, 0], image)
        probs, boxes = head.bbox_head(rois[:, 1:], proposals, of_image)
        outputs = (probs, boxes, image_scores)
        return (*outputs, features[0]) if head.with_mask else outputs


def _scores_by_image(
    classification: Tensor, detection: Tensor, index: Tensor, images: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute S^0 (N, n_c) and y (B, n_c) of images whose proposals are in one batch.

    The softmax over the proposals of an image is one over all proposals, of which those of other
    images do not count.
    """
    inside = index == torch.arange(images.shape[0], device=index.device)[:, None]  # (B, N)
    others = torch.where(inside, 0.0, -1e30)[..., None]
    softmax = (detection + others).softmax(1) * inside[..., None]
    scores = wsddn_scores(classification, torch.zeros_like(detection[:1]))  # of the classes alone
    scores = scores * softmax  # (B, N, n_c)
    return scores.sum(0), scores.sum(1).clamp(CLAMP, 1 - CLAMP)


class MaskGraph(nn.Module):
    """Wrap the segmentation branch as a function of tensors.

    Args:
        model: The detector, which predicts masks.
    """

    input_names = ('features', 'rois', 'labels')

    def __init__(self, model: PDSL) -> None:
        super().__init__()
        self.pool = model.roi_head.mask_roi_extractor.roi_layers[0]
        self.head = model.roi_head.mask_head

    def forward(self, features: Tensor, rois: Tensor, labels: Tensor) -> Tensor:
        """Compute the mask logits (M, 2 s, 2 s) of detections.

        Args:
            features: (B, C, h, w), of :class:`DetectionGraph`.
            rois: (M, 5) float, index of the image and XYXY in pixels of it.
            labels: (M,) int64, classes.
        """
        return select_class(self.head.predict_logits(self.pool(features, rois)), labels)


def _example_rois(size: tuple[int, int], count: int, batch: int, seed: int = 0) -> Tensor:
    """Generate random boxes (count, 5) of 8 pixels and more for ``batch`` images together."""
    generator = torch.Generator().manual_seed(seed)
    limits = torch.tensor([size[1], size[0]], dtype=torch.float32)
    ends = torch.rand((count, 2, 2), generator=generator).sort(1).values * (limits - 8)
    boxes = torch.cat([ends[:, 0], ends[:, 1] + 8], dim=1)
    index = torch.arange(count) * batch // count
    return torch.cat([index[:, None].float(), boxes], dim=1)


def example_inputs(
    graph: DetectionGraph, size: tuple[int, int], batch: int, count: int, seed: int = 0
) -> dict[str, Tensor]:
    """Generate noise images of (H, W) and ``count`` random boxes in all of them together."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand((batch, 3, *size), generator=generator) * 255
    rois = _example_rois(size, count, batch, seed)
    scores = torch.rand(len(rois), generator=generator)
    return dict(zip(graph.input_names, (image, rois, scores)))


def export_onnx(
    model: PDSL,
    path: str | os.PathLike,
    image_size: tuple[int, int],
    opset: int = 18,
    steps: Sequence[Mapping[str, Any]] = (),
    dtype: str = 'fp32',
    classes: Sequence[str] = (),
    proposals: Mapping[str, Any] | None = None,
) -> None:
    """Export both networks for any number and size of images, and any number of proposals.

    ``<stem>.detect.onnx`` and ``<stem>.masks.onnx`` are the networks. NMS is done between them, by
    :class:`~projects.pdsl.onnx_runner.ONNXInstanceSegmenter`, which needs ``<stem>.json``.

    Args:
        model: The model, on the CPU.
        path: Name that the names of the files are made of, ending in ``.onnx``.
        image_size: (H, W) of the example that is traced, in pixels.
        opset: ONNX opset.
        steps: Steps of the test pipeline (:func:`~projects.common.deployment.pixels.resize_steps`).
        dtype: See :func:`projects.common.deployment.variants.convert`.
        classes: Names of the classes.
        proposals: ``max_proposals``, ``min_side`` and ``deduplicate`` of the test pipeline.

    Raises:
        ImportError: The exporter is not installed.
        InputError: The model cannot be exported.
    """
    graph = DetectionGraph(model).eval()
    test_cfg = _test_cfg(model)
    divisor = model.data_preprocessor.pad_size_divisor
    size = _padded(image_size, divisor)
    batch, count = torch.export.Dim('batch'), torch.export.Dim('proposals')
    height, width = (divisor * torch.export.Dim(name) for name in ('rows', 'columns'))
    if divisor == 1:
        height, width = torch.export.Dim('height'), torch.export.Dim('width')
    files = {'detect': network_path(path, 'detect')}
    inputs = example_inputs(graph, size, batch=2, count=6)
    export_graph(
        graph,
        inputs,
        graph.output_names,
        files['detect'],
        {'image': {0: batch, 2: height, 3: width}, 'rois': {0: count}, 'scores': {0: count}},
        opset,
        onnx_translations(),
    )
    if model.roi_head.with_mask:
        files['masks'] = network_path(path, 'masks')
        with torch.no_grad():
            features = graph(*inputs.values())[-1]
        detections = torch.export.Dim('detections')
        free = {0: batch, 2: torch.export.Dim('map_rows'), 3: torch.export.Dim('map_columns')}
        export_graph(
            MaskGraph(model).eval(),
            dict(zip(MaskGraph.input_names, (features, inputs['rois'], _labels(model, 6)))),
            ['mask_logits'],
            files['masks'],
            {'features': free, 'rois': {0: detections}, 'labels': {0: detections}},
            opset,
            onnx_translations(),
        )
    for file in files.values():
        convert(file, dtype)
    content = dict(
        project='pdsl', dtype=dtype, networks={name: each.name for name, each in files.items()},
        **graph.normalization.described(), resize=list(steps), pad_divisor=divisor,
        classes=list(classes), test_cfg=test_cfg, proposals=dict(proposals or {}),
    )  # fmt: skip
    write_sidecar(path, content)


def _padded(size: tuple[int, int], divisor: int) -> tuple[int, int]:
    """Return the next multiples of ``divisor``."""
    return -(-size[0] // divisor) * divisor, -(-size[1] // divisor) * divisor


def _labels(model: PDSL, count: int) -> Tensor:
    return torch.arange(count) % model.roi_head.num_classes


def _test_cfg(model: PDSL) -> dict[str, Any]:
    """Return what the runner needs of ``test_cfg.rcnn``.

    Raises:
        InputError: It asks for something else than plain NMS.
    """
    cfg = model.roi_head.test_cfg
    if cfg.get('tags_only', False):
        raise InputError('test_cfg.rcnn.tags_only: an exported model cannot read tags')
    nms = dict(cfg['nms'])
    if nms.pop('type', 'nms') != 'nms' or set(nms) - {'iou_threshold', 'split_thr'}:
        raise InputError(
            f"test_cfg.rcnn.nms: {dict(cfg['nms'])}; expected type 'nms' with iou_threshold"
        )
    return dict(
        score_thr=cfg['score_thr'], iou_threshold=nms['iou_threshold'],
        max_per_img=cfg['max_per_img'], mask_thr=cfg.get('mask_thr_binary', 0.5),
    )  # fmt: skip


@torch.no_grad()
def compare(
    model: PDSL,
    path: str | os.PathLike,
    image_size: tuple[int, int],
    batches: Sequence[int] = (1, 3),
    images: Sequence[np.ndarray] = (),
    steps: Sequence[Mapping[str, Any]] = (),
) -> dict[str, float]:
    """Compute the largest differences between the model and its export in onnxruntime.

    The proposals are random boxes, 50 for each image.

    Args:
        model: The model, on the CPU.
        path: Path given to :func:`export_onnx`.
        image_size: (H, W) of noise, in pixels.
        batches: Batch sizes of noise to test if there are no images.
        images: Images (H, W, 3) uint8 in BGR.
        steps: Steps of the test pipeline.

    Returns:
        The largest absolute difference of each output, by name. Boxes and masks have pixels and
        logits as units.

    Raises:
        ImportError: onnxruntime is not installed.
    """
    graph = DetectionGraph(model).eval()
    divisor = model.data_preprocessor.pad_size_divisor
    fill = graph.normalization.described()['mean']
    cases = []
    if images:
        for seed, image in enumerate(images):
            resized = resize(image, steps)
            case = example_inputs(graph, (resized.shape[0], resized.shape[1]), 1, 50, seed)
            pixels = torch.from_numpy(stack_rgb([resized], divisor, fill))
            cases.append({**case, 'image': pixels})
    else:
        size = _padded(image_size, divisor)
        for seed, batch in enumerate(batches):
            grown = (size[0] + seed * divisor, size[1])
            cases.append(example_inputs(graph, grown, batch, 50 * batch, seed))
    threads = torch.get_num_threads()
    found = differences(graph, Network(network_path(path, 'detect'), threads), cases)
    if model.roi_head.with_mask:
        masks = [
            dict(zip(
                MaskGraph.input_names,
                (graph(*case.values())[-1], case['rois'][:10], _labels(model, 10)),
            ))
            for case in cases
        ]  # fmt: skip
        network = Network(network_path(path, 'masks'), threads)
        found |= differences(MaskGraph(model).eval(), network, masks)
    return found
