"""A promptable segmenter of transformers, such as SAM 2, as a cue."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
import transformers
from mmengine.registry import MODELS
from torch import Tensor
from transformers import AutoImageProcessor, AutoModelForMaskGeneration
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING

from projects.common.errors import InputError
from projects.common.weights.sources import build_model, find_folder

from .base import BottomUpCue, check_boxes, clip_to_pixels

__all__ = ['PromptedSegmenterCue']

_AT_ONCE = 32  # boxes whose masks are held in float32 at the size of the image


@MODELS.register_module()
class PromptedSegmenterCue(BottomUpCue):
    """Segment what a frozen SAM or SAM 2 finds for each box or for its center.

    The image is encoded once for all boxes. Masks are clipped to their boxes. Where the segmenter
    finds nothing within a box, the mask is the box. Such a segmenter was trained with masks, so
    what learns from it is no longer supervised by tags alone.

    The segmenter is no part of the detector: it is neither trained nor saved with it. Without
    :class:`CachedCue`, it runs on every view of an image.

    Args:
        pretrained: A folder, ``package:NAME/PATH`` for a folder in an installed package, or a
            Hugging Face Hub id, such as ``facebook/sam2.1-hiera-tiny``.
        config: Config for random weights, with its ``model_type``, instead of ``pretrained``.
        prompts: What the segmenter is asked with: 'box', 'point' (the center of the box), or both.
            For a point alone it gives several masks, of which the one with the best score is taken.
        device: Device of the segmenter. None is the GPU of the process if there is one.

    Raises:
        FileNotFoundError: The folder does not exist.
        InputError: The segmenter cannot be loaded, or ``prompts`` are neither.
    """

    def __init__(
        self,
        pretrained: str | None = None,
        config: Mapping[str, Any] | None = None,
        prompts: Sequence[str] = ('box',),
        device: str | None = None,
    ) -> None:
        if not prompts or not set(prompts) <= {'box', 'point'}:
            raise InputError(
                f"PromptedSegmenterCue: prompts={tuple(prompts)!r}, expected 'box', 'point' or both"
            )
        if device is None and torch.cuda.is_available():
            # The cue runs in another thread, whose current device is the first.
            device = f'cuda:{torch.cuda.current_device()}'
        self.device = torch.device(device or 'cpu')
        self.prompts = tuple(sorted(set(prompts)))
        model: Any = build_model('cue', pretrained, config, auto=AutoModelForMaskGeneration)
        self.model: Any = model.requires_grad_(False).eval().to(self.device)
        self.processor = _read_processor(pretrained, self.model)
        self._encoded: tuple[bytes, Any] | None = None

    def __deepcopy__(self, memo: dict) -> PromptedSegmenterCue:
        """Return the cue itself, which nothing changes; averaged models copy their parts."""
        return self

    @cached_property
    def _digest(self) -> str:
        """Return a digest of the weights and the settings of the image processor."""
        digest = hashlib.blake2b(self.processor.to_json_string().encode(), digest_size=16)
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()

    def fingerprint(self) -> str:
        """Return segmenter, prompts, library version, and a digest of weights and settings."""
        return (
            f'segmenter-1 {type(self.model).__name__} {self._digest} '
            f'prompts={"+".join(self.prompts)} transformers={transformers.__version__}'
        )

    @torch.inference_mode()
    def __call__(
        self,
        image: np.ndarray,
        boxes: np.ndarray,
        metainfo: Mapping[str, Any] | None = None,
    ) -> np.ndarray:
        """Compute one mask (n, H, W) per box; see :class:`BottomUpCue`."""
        boxes = check_boxes(boxes, image)
        height, width = image.shape[:2]
        masks = np.zeros((len(boxes), height, width), dtype=bool)
        limits = [clip_to_pixels(box, height, width) for box in boxes]
        inside = [
            i
            for i, (x1, y1, x2, y2) in enumerate(limits)
            if x2 > x1 and y2 > y1 and (boxes[i, 2:] > boxes[i, :2]).all()
        ]
        for start in range(0, len(inside), _AT_ONCE):
            chunk = inside[start : start + _AT_ONCE]
            for i, mask in zip(chunk, self._segment(image, boxes[chunk])):
                x1, y1, x2, y2 = limits[i]
                part = mask[y1:y2, x1:x2]
                masks[i, y1:y2, x1:x2] = part if part.any() else True
        return masks

    def _segment(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Return masks (n, H, W) of boxes (n, 4), n > 0, where the segmenter puts them."""
        embeddings, sizes, scaled = self._encode(image)
        scale = [scaled[1] / image.shape[1], scaled[0] / image.shape[0]] * 2
        corners = torch.from_numpy(boxes * scale).float().to(self.device)[None]
        given = {}
        if 'box' in self.prompts:
            given['input_boxes'] = corners
        if 'point' in self.prompts:
            center = corners.unflatten(-1, (2, 2)).mean(2, keepdim=True)  # (1, n, 1, 2)
            given['input_points'] = center
            given['input_labels'] = torch.ones_like(center[..., 0], dtype=torch.int64)
        found = self.model(
            image_embeddings=embeddings, multimask_output='box' not in self.prompts, **given
        )
        best = found.iou_scores.argmax(-1)  # (1, n), of the masks for each prompt
        chosen = found.pred_masks.gather(
            2, best[..., None, None, None].expand(-1, -1, 1, *found.pred_masks.shape[3:])
        )
        (masks,) = self.processor.post_process_masks(chosen, **sizes)  # (n, 1, H, W)
        return masks[:, 0].cpu().numpy()

    def _encode(
        self, image: np.ndarray
    ) -> tuple[Tensor | list[Tensor], dict[str, Any], tuple[int, ...]]:
        """Return the embedding of an image, what restores its size, and its resized size."""
        key = hashlib.blake2b(image.tobytes(), key=repr(image.shape).encode()).digest()
        if self._encoded is None or self._encoded[0] != key:
            rgb = torch.from_numpy(np.ascontiguousarray(image[..., ::-1])).permute(2, 0, 1)
            given = self.processor(images=[rgb.to(self.device)], return_tensors='pt')
            pixels = given['pixel_values'].to(self.device)
            # The processors of transformers 4.57 give the original size as the resized one.
            sides, scaled = image.shape[:2], tuple(pixels.shape[-2:])
            longest = self.processor.size.get('longest_edge')
            if longest:  # SAM pads to a square, SAM 2 stretches
                scaled = tuple(int(side * longest / max(sides) + 0.5) for side in sides)
            sizes = dict(
                original_sizes=[sides],
                reshaped_input_sizes=[scaled],
                pad_size=getattr(self.processor, 'pad_size', None),
            )
            self._encoded = key, (self.model.get_image_embeddings(pixels), sizes, scaled)
        return self._encoded[1]


def _read_processor(source: str | None, model: Any) -> Any:
    """Return the image processor of a folder, or one for the size of a model."""
    if source is not None:
        folder = find_folder('cue.pretrained', source)
        try:
            return AutoImageProcessor.from_pretrained(folder, use_fast=True)
        except (OSError, ValueError, KeyError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(
                f'cue.pretrained={source!r}: its image processor cannot be read ({reason}); '
                'expected a preprocessor_config.json'
            ) from None
    kind: Any = IMAGE_PROCESSOR_MAPPING[type(model.config)][1]
    side = model.config.prompt_encoder_config.image_size
    square = dict(height=side, width=side)
    size = dict(longest_edge=side) if 'longest_edge' in kind.size else square
    return kind(size=size, **(dict(pad_size=square) if kind.pad_size else {}))
