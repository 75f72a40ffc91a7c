"""Florence-2, which writes boxes as text, as a grounder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from mmengine.registry import MODELS
from torch import Tensor
from transformers import AutoModelForImageTextToText

from projects.common.errors import InputError

from .zero_shot_grounder import ZeroShotGrounder

__all__ = ['FlorenceGrounder']

_TASKS = ('<CAPTION_TO_PHRASE_GROUNDING>', '<OPEN_VOCABULARY_DETECTION>')


@MODELS.register_module()
class FlorenceGrounder(ZeroShotGrounder):
    """Ground sentences with Florence-2 of transformers.

    The model writes any number of boxes, or none, without scores. All of them get the score 1, so
    the first box is the answer, and the order is that of the model.

    Args:
        pretrained: Weights that transformers reads without code of their own, such as
            ``florence-community/Florence-2-base``.
        config: See :class:`ZeroShotGrounder`.
        processor: See :class:`ZeroShotGrounder`.
        task: Florence-2's task: '<CAPTION_TO_PHRASE_GROUNDING>', which locates every phrase of a
            sentence, or '<OPEN_VOCABULARY_DETECTION>', which locates what the sentence names.
        num_beams: Beams of the search for the most probable text.
        max_new_tokens: Longest text that the model writes.
        kwargs: Other arguments of :class:`ZeroShotGrounder`, except for ``threshold``.

    Raises:
        FileNotFoundError: A folder does not exist.
        InputError: Model or processor cannot be loaded, or ``task`` is neither.
    """

    auto: ClassVar[Any] = AutoModelForImageTextToText

    def __init__(
        self,
        pretrained: str | None = None,
        config: Mapping[str, Any] | None = None,
        processor: str | None = None,
        task: str = _TASKS[0],
        num_beams: int = 3,
        max_new_tokens: int = 1024,
        **kwargs: Any,
    ) -> None:
        if task not in _TASKS:
            raise InputError(f'FlorenceGrounder: task={task!r}, expected one of {_TASKS}')
        super().__init__(pretrained, config, processor, threshold=0.0, **kwargs)
        kind = self.processor.tasks_answer_post_processing_type[task]
        if kind not in (self.processor.post_processor_config or {}):
            raise InputError(
                f'FlorenceGrounder: {processor or pretrained}: post_processor_config of the '
                f'processor has no {kind!r}, which task={task!r} needs'
            )
        self.task = task
        self.num_beams = num_beams
        self.max_new_tokens = max_new_tokens

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text with its task, the image and special tokens."""
        (asked,) = self.processor(text=[f'{self.task}{text}'])['input_ids']
        return len(asked) + self.processor.num_image_tokens + 2  # start and end

    def ground(self, image: np.ndarray, text: str) -> tuple[Tensor, Tensor]:
        """Compute boxes (n, 4) XYXY in pixels, in the order of the model, and ones (n,).

        Args:
            image: Image (H, W, 3) uint8, RGB.
            text: The sentence.
        """
        (ids,) = self.model.generate(
            **self._process(image, f'{self.task}{text}'),
            num_beams=self.num_beams,
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
        )
        written = self.processor.decode(ids, skip_special_tokens=False)
        found = self.processor.post_process_generation(
            text=written, task=self.task, image_size=(image.shape[1], image.shape[0])
        )[self.task]
        boxes = torch.tensor(found['bboxes'], dtype=torch.float32, device=ids.device).view(-1, 4)
        return boxes, boxes.new_ones(len(boxes))
