"""Zero-shot detectors of transformers as grounders: Grounding DINO, MM Grounding DINO, OWLv2."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from mmdet.structures import SampleList
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor
from torchvision.ops import nms
from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

from projects.common.errors import InputError
from projects.common.weights.sources import build_model, find_folder

__all__ = ['ZeroShotGrounder']


@MODELS.register_module()
class ZeroShotGrounder(BaseModel):
    """Ground sentences with a zero-shot detector of transformers, which is used as published.

    The sentence is the only class that the detector looks for. Its processor resizes and normalizes
    images and splits sentences into tokens, so the pipeline of the data must not resize. Images are
    processed one at a time: the results do not depend on the batch.

    The model is not trained here. Without a checkpoint (``tools/test.py CONFIG none``), it has the
    weights of ``pretrained``.

    Args:
        pretrained: A folder, ``package:NAME/PATH`` for a folder in an installed package, or a
            Hugging Face Hub id.
        config: Config for random weights, with its ``model_type``, instead of ``pretrained``.
        processor: A folder or hub id with the processor. None uses that of ``pretrained``.
        template: What the model is asked; ``{}`` stands for the sentence without a final period.
            Grounding DINO expects a period at the end.
        threshold: Boxes with a higher score count as returned.
        nms_iou: Remove a box if its IoU with one of a higher score is larger. None keeps all boxes,
            as transformers does.
        max_boxes: Keep at most this number of boxes.

    Raises:
        FileNotFoundError: A folder does not exist.
        InputError: Model or processor cannot be loaded, or ``template`` has no place for the
            sentence.
    """

    #: ``tools/test.py`` may run without a checkpoint.
    has_own_weights = True
    auto: ClassVar[Any] = AutoModelForZeroShotObjectDetection

    def __init__(
        self,
        pretrained: str | None = None,
        config: Mapping[str, Any] | None = None,
        processor: str | None = None,
        template: str = '{}',
        threshold: float = 0.25,
        nms_iou: float | None = None,
        max_boxes: int = 100,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        name = type(self).__name__
        if template.count('{}') != 1:
            raise InputError(f"{name}: template={template!r}, expected one '{{}}' for the sentence")
        if max_boxes < 1:
            raise InputError(f'{name}: max_boxes={max_boxes}, expected at least 1')
        self.template = template
        self.threshold = threshold
        self.nms_iou = nms_iou
        self.max_boxes = max_boxes
        self.model: Any = build_model('model', pretrained, config, auto=self.auto, whole=True)
        source = processor or pretrained
        if source is None:
            raise InputError('model.config: needs model.processor, a folder with a processor')
        self.processor = _read_processor(
            'model.processor' if processor else 'model.pretrained', source
        )
        self._has_warned = False

    def forward(
        self,
        inputs: Sequence[Tensor],
        data_samples: SampleList | None = None,
        mode: str = 'tensor',
    ) -> SampleList:
        """Add predictions to the samples; see :meth:`predict`.

        Raises:
            InputError: ``mode`` is not 'predict'.
        """
        if mode != 'predict' or data_samples is None:
            raise InputError(
                f"{type(self).__name__}: mode={mode!r}, expected 'predict' with data samples; "
                'the model is only tested here, so train it with transformers'
            )
        return self.predict(inputs, data_samples)

    @torch.no_grad()
    def predict(self, images: Sequence[Tensor], samples: SampleList) -> SampleList:
        """Add predictions in pixels of the image to the samples.

        Each sample gets ``pred_instances`` with ``bboxes`` (n, 4) XYXY, ``scores`` (n,) and
        ``labels`` (n,), the highest score first; ``pred_num_returned``, how many of them have a
        score above the threshold; ``pred_cut_off``, whether the sentence was too long for the
        model. The box with the highest score is kept even if it is below the threshold.

        Args:
            images: Images (3, H, W) uint8, BGR.
            samples: Samples with ``text`` and ``ori_shape`` in their metainfo.

        Raises:
            InputError: The pipeline has resized an image.
        """
        for image, sample in zip(images, samples, strict=True):
            shape = tuple(image.shape[1:])
            if shape != tuple(sample.ori_shape[:2]):
                raise InputError(
                    f'{type(self).__name__}: {sample.get("img_path")}: the pipeline resizes the '
                    f'image from {tuple(sample.ori_shape[:2])} to {shape} (height, width); '
                    "expected a pipeline without resizing, as the model's processor resizes"
                )
            text = self.template.replace('{}', sample.text.strip().removesuffix('.'))
            rgb = np.ascontiguousarray(image.flip(0).permute(1, 2, 0).cpu().numpy())
            boxes, scores = self.ground(rgb, text)
            order = scores.argsort(descending=True, stable=True)
            if self.nms_iou is not None:
                order = order[torch.isin(order, nms(boxes, scores, self.nms_iou))]
            order = order[: self.max_boxes]
            count = int((scores[order] > self.threshold).sum())
            order = order[: max(count, 1)]
            sample.pred_instances = InstanceData(
                bboxes=boxes[order], scores=scores[order], labels=torch.zeros_like(order)
            )
            sample.set_field(count, 'pred_num_returned', dtype=int)
            sample.set_field(self._is_cut_off(sample.text, text), 'pred_cut_off', dtype=bool)
        return list(samples)

    def ground(self, image: np.ndarray, text: str) -> tuple[Tensor, Tensor]:
        """Compute all boxes (n, 4) XYXY in pixels, in any order, and their scores (n,).

        Args:
            image: Image (H, W, 3) uint8, RGB.
            text: What the model is asked.
        """
        outputs = self.model(**self._process(image, text))
        post_process = self.processor.post_process_grounded_object_detection
        options: dict[str, Any] = dict(threshold=-1.0, target_sizes=[image.shape[:2]])
        if 'text_threshold' in inspect.signature(post_process).parameters:
            options['text_threshold'] = 1.0  # the phrase of each box is not needed
        (found,) = post_process(outputs, **options)
        return found['boxes'], found['scores']

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text, special ones included."""
        return len(self.processor.tokenizer(text, verbose=False)['input_ids'])

    @property
    def max_tokens(self) -> int:
        """Return the largest number of tokens of a sentence, special ones included."""
        config = self.model.config
        limits = [
            self.processor.tokenizer.model_max_length,
            getattr(config.text_config, 'max_position_embeddings', None),
            getattr(config, 'max_text_len', None),  # of Grounding DINO
        ]
        return min(limit for limit in limits if limit)

    def _process(self, image: np.ndarray, text: str) -> dict[str, Tensor]:
        """Return the model's inputs for one image (H, W, 3) and one text, cut off if needed."""
        given = self.processor(
            images=[image],
            text=[text],
            truncation=True,
            max_length=self.max_tokens,
            return_tensors='pt',
        )
        parameter = next(self.model.parameters())
        return {
            key: value.to(parameter.device, parameter.dtype if value.is_floating_point() else None)
            for key, value in given.items()
        }

    def _is_cut_off(self, sentence: str, text: str) -> bool:
        """Return whether the model has not read the whole text; warn about the first."""
        length = self.count_tokens(text)
        if length > self.max_tokens and not self._has_warned:
            self._has_warned = True
            print_log(
                f'{type(self).__name__}: the model reads {self.max_tokens} tokens, the rest of '
                f'this sentence is cut off: {sentence!r} ({length} tokens); of other sentences, '
                'only pred_cut_off in the predictions says so',
                'current',
                logging.WARNING,
            )
        return length > self.max_tokens


def _read_processor(field: str, source: str) -> Any:
    folder = find_folder(field, source)
    try:
        return AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f'{field}={source!r}: its processor cannot be read ({reason}); expected '
            'preprocessor_config.json and the files of a tokenizer'
        ) from None
