"""One object for use: pictures and sentences in, boxes and masks out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.logging import print_log
from rich.progress import track
from torch import nn

from projects.common.errors import InputError
from projects.common.inferencer import ImageInferencer, ImageInput, write_predictions
from projects.common.prediction_dump import encode_mask

from . import register  # noqa: F401
from .visualization import draw_data_sample

__all__ = ['GroundingInferencer']

SENTENCES_AT_ONCE = 16


class GroundingInferencer(ImageInferencer):
    """Finds and cuts out what a sentence names, as ``mmdet.apis.DetInferencer`` finds classes.

    Args:
        model: A config file, a name of :func:`projects.common.list_models`, or a config; None
            takes the config that our training leaves in the checkpoint.
        weights: A checkpoint file, the folder of a published model (``publish_model.py``) or the
            Hugging Face hub id of one. Without weights the model is random, which only serves to
            try things out; a warning says so.
        device: Such as 'cpu' or 'cuda:0'; None takes the fastest that is there.
        show_progress: Whether to show a progress bar where there are several batches.
        trust_checkpoint: Unpickle the checkpoint freely, which runs any code in it.

    Raises:
        FileNotFoundError: There is no such config or checkpoint.
        ValueError: The weights are not this model's, or neither they nor the config bring a
            vocabulary.

    Examples:
        >>> inferencer = GroundingInferencer(weights='best.pth')           # doctest: +SKIP
        >>> result = inferencer('street.jpg', ['the red car', 'left man'],
        ...                     out_dir='out')                             # doctest: +SKIP
        >>> result['predictions'][1]['bbox']                               # doctest: +SKIP
        [12.5, 80.1, 96.0, 301.7]
    """

    def prepare_model(self, model: ConfigDict, weights: str | os.PathLike) -> None:
        """Takes the path of BERT's weights out, which the checkpoint has."""
        encoder = model.get('text_encoder', {})
        if not Path(encoder.get('pretrained') or '').is_dir():
            encoder['pretrained'] = None  # a hub id: the checkpoint has BERT's weights
        if encoder.get('vocab_file') and not Path(encoder['vocab_file']).is_file():
            encoder['vocab_file'] = None  # a path of another machine: check_model looks for tokens

    def check_model(self, model: nn.Module, weights: str | os.PathLike | None) -> None:
        """Raises ``ValueError`` for a model without a vocabulary."""
        if getattr(model.text_encoder, 'tokenizer', None) is None:
            raise InputError(
                f'weights {weights}: hold no vocabulary, and neither text_encoder.vocab_file nor '
                '.pretrained of the config name one'
            )

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels to which pictures are stretched."""
        _, packed = self._load(np.zeros((8, 8, 3), np.uint8))
        return tuple(packed['inputs'].shape[1:])

    # --------------------------------------------------------------------------- inference

    def __call__(
        self,
        inputs: ImageInput | Sequence[ImageInput],
        sentences: str | Sequence[str] | Sequence[Sequence[str]],
        batch_size: int = 1,
        return_vis: bool = False,
        return_datasamples: bool = False,
        out_dir: str | os.PathLike = '',
        no_save_vis: bool = False,
        no_save_pred: bool = False,
        print_result: bool = False,
    ) -> dict[str, list]:
        """Grounds sentences in pictures.

        Args:
            inputs: One picture or a list of them: paths, a folder, arrays (H, W, 3) uint8 in BGR
                as OpenCV reads them, or PIL images.
            sentences: For a picture or a folder, a sentence or a list of them. For a list of
                pictures, one sentence for all of them, or a list with an entry for each picture:
                a sentence or a list.
                Several sentences about a picture share what depends on the picture alone.
            batch_size: Pictures at once.
            return_vis: Return drawn pictures, (H, W, 3) uint8, RGB.
            return_datasamples: Return ``DetDataSample`` s in place of plain values.
            out_dir: Folder to write to: ``preds/<picture>.json`` with the list of a picture's
                predictions, ``vis/<picture>_<number>.jpg`` with mask, box and score map of each.
            no_save_vis: Write no pictures.
            no_save_pred: Write no JSON.
            print_result: Print the predictions.

        Returns:
            'predictions', one for each sentence in order: ``image`` (path or None), ``sentence``,
            and what the model predicts of ``bbox`` [x1, y1, x2, y2] in pixels, ``score`` from 0
            to 1 and ``mask``, a COCO run-length encoding; 'visualization', the pictures if asked
            for.

        Raises:
            FileNotFoundError: There is no such picture.
            ValueError: A picture cannot be read, or the sentences do not fit the pictures.
        """
        images = self._inputs_to_list(inputs)
        for_all = not isinstance(inputs, (list, tuple))
        per_image = _sentences_of_images(sentences, len(images), for_all)
        if batch_size < 1:
            raise InputError(f'batch_size={batch_size}: expected at least 1')
        results: dict[str, list] = {'predictions': [], 'visualization': []}
        names = [self._output_name(image) for image in images] if out_dir else [''] * len(images)
        chunks = list(_chunks(list(zip(images, names)), per_image, batch_size))
        written: dict[str, list[dict]] = {name: [] for name in names}
        show_progress = self.show_progress and len(chunks) > 1
        for chunk in track(chunks, description='Inference') if show_progress else chunks:
            loaded = [(name, *self._load(image), texts) for (image, name), texts in chunk]
            samples = iter(self.forward(self._collate(loaded)))
            for name, picture, _, texts in loaded:
                of_image = written[name]
                for sample in (next(samples) for _ in texts):
                    prediction = self.pred2dict(sample)
                    if return_vis or (out_dir and not no_save_vis):
                        drawn = draw_data_sample(picture[..., ::-1], sample)
                        if return_vis:
                            results['visualization'].append(drawn)
                        if out_dir and not no_save_vis:
                            path = Path(out_dir, 'vis', f'{name}_{len(of_image)}.jpg')
                            mmcv.imwrite(drawn[..., ::-1], str(path))
                    if print_result:
                        print(json.dumps(prediction, ensure_ascii=False))
                    of_image.append(prediction)
                    results['predictions'].append(sample if return_datasamples else prediction)
                if out_dir and not no_save_pred:
                    write_predictions(Path(out_dir, 'preds', f'{name}.json'), of_image)
        return results

    def _collate(self, loaded: list[tuple]) -> dict[str, list]:
        """A batch with an entry for each sentence; those of a picture share its tensor."""
        batch: dict[str, list] = {'inputs': [], 'data_samples': []}
        for _, _, packed, texts in loaded:
            self._warn_of_long(texts)
            for text in texts:
                sample = packed['data_samples'].clone()
                sample.set_metainfo(dict(text=text))
                batch['inputs'].append(packed['inputs'])
                batch['data_samples'].append(sample)
        return batch

    def _warn_of_long(self, texts: Sequence[str]) -> None:
        encoder = self.model.text_encoder
        longest = encoder.max_tokens
        for text, mask in zip(texts, encoder.tokenizer(texts, longest + 1)[1], strict=True):
            if mask.all():
                print_log(
                    f'GroundingInferencer: the model reads {longest - 2} word pieces, the rest of '
                    f'this sentence is cut off: {text!r}',
                    'current',
                )

    def pred2dict(self, sample: DetDataSample) -> dict[str, Any]:
        """A prediction as plain values, for JSON."""
        prediction: dict[str, Any] = dict(image=sample.get('img_path'), sentence=sample.text)
        instance = sample.pred_instances
        if 'bboxes' in instance:
            prediction['bbox'] = instance.bboxes[0].tolist()
        prediction['score'] = float(instance.scores[0])
        if 'masks' in instance:
            prediction['mask'] = encode_mask(instance.masks[0].cpu().numpy())
        return prediction


def _sentences_of_images(sentences: Any, count: int, for_all: bool) -> list[list[str]]:
    """The sentences of each of ``count`` pictures; a flat list may be ``for_all`` of them."""
    if isinstance(sentences, str):
        per_image = [[sentences]] * count
    elif for_all:
        per_image = [list(sentences)] * count
    elif len(sentences) == count:
        per_image = [[entry] if isinstance(entry, str) else list(entry) for entry in sentences]
    else:
        raise InputError(
            f'{len(sentences)} sentences for {count} pictures: expected one for all, or a '
            'list with a sentence (or a list of them) for each picture'
        )
    for i, texts in enumerate(per_image):
        if not texts:
            raise InputError(f'picture {i}: no sentence')
        for text in texts:
            if not isinstance(text, str) or not text.strip():
                raise InputError(f'picture {i}: sentence {text!r}: expected words')
    return per_image


def _chunks(
    images: list, per_image: list[list[str]], batch_size: int
) -> Iterator[list[tuple[Any, list[str]]]]:
    """Batches of pictures with their sentences, a bounded number of sentences at once."""
    most = max(batch_size, SENTENCES_AT_ONCE)
    chunk: list[tuple[Any, list[str]]] = []
    count = 0
    for image, texts in zip(images, per_image, strict=True):
        for start in range(0, len(texts), most):
            part = texts[start : start + most]
            if chunk and (len(chunk) == batch_size or count + len(part) > most):
                yield chunk
                chunk, count = [], 0
            chunk.append((image, part))
            count += len(part)
    if chunk:
        yield chunk
