"""Inference with a grounding model: boxes and masks for images and sentences."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.logging import print_log
from torch import nn

from projects.common.errors import InputError
from projects.common.files.annotation_files import json_bytes
from projects.common.files.skipped import SkippedImages
from projects.common.hooks.progress import track
from projects.common.inferencer import ImageInferencer, ImageInput, write_predictions
from projects.common.prediction_dump import encode_mask
from projects.common.weights.sources import forget_source, use_stored_arguments

from . import register  # noqa: F401
from .visualization import GroundingVisualizer

__all__ = ['GroundingInferencer']

SENTENCES_AT_ONCE = 16


class GroundingInferencer(ImageInferencer):
    """Localize and segment the objects that sentences refer to.

    The interface follows ``mmdet.apis.DetInferencer``, with sentences in place of classes.

    Args:
        model: A config file, a name from :func:`projects.common.list_models`, or a config. None
            uses the config that training with this project stores in the checkpoint.
        weights: A checkpoint file, the directory of a published model (``publish_model.py``) or
            the Hugging Face Hub id of one. Without weights the model is random, which is only
            useful for trying things out; a warning says so.
        device: For example 'cpu' or 'cuda:0'. None uses the fastest available device.
        show_progress: Whether to show a progress bar when there are several batches.
        trust_checkpoint: Unpickle the checkpoint without restrictions, which runs any code in it.

    Raises:
        FileNotFoundError: If the config or the checkpoint does not exist.
        ValueError: If the weights do not belong to this model, or neither they nor the config
            provide a vocabulary.

    Examples:
        >>> inferencer = GroundingInferencer(weights='best.pth')           # doctest: +SKIP
        >>> result = inferencer('street.jpg', ['the red car', 'left man'],
        ...                     out_dir='out')                             # doctest: +SKIP
        >>> result['predictions'][1]['bbox']                               # doctest: +SKIP
        [12.5, 80.1, 96.0, 301.7]
    """

    visualizer_type = GroundingVisualizer
    calibration_kind = 'grounding'

    def prepare_model(self, model: ConfigDict, weights: str | os.PathLike) -> None:
        """Remove the sources of weights, because the checkpoint contains them."""
        inner = model.get('backbone', {}).get('backbone') or {}  # of a LanguageFreeBackbone
        forget_source(inner, self._weights.get('backbone.backbone._extra_state'))
        encoder = model.get('text_encoder', {})
        if use_stored_arguments(encoder, self._weights.get('text_encoder._extra_state')):
            return
        if not Path(encoder.get('pretrained') or '').is_dir():
            encoder['pretrained'] = None  # a hub id: the checkpoint contains BERT
        if encoder.get('vocab_file') and not Path(encoder['vocab_file']).is_file():
            encoder['vocab_file'] = None  # from another machine; check_model checks for a tokenizer

    def check_model(self, model: nn.Module, weights: str | os.PathLike | None) -> None:
        """Raise ``ValueError`` if the model has no vocabulary."""
        if not hasattr(model, 'text_encoder'):
            raise InputError(
                f'GroundingInferencer: model.type={type(model).__name__}: expected a detector of '
                'this project, such as PLVL; tools/test.py runs others'
            )
        if getattr(model.text_encoder, 'tokenizer', None) is None:
            raise InputError(
                f'weights {weights}: hold no vocabulary, and neither text_encoder.vocab_file nor '
                '.pretrained of the config name one'
            )

    @property
    def image_size(self) -> tuple[int, int]:
        """Return the size (H, W) in pixels to which images are stretched."""
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
        skip_damaged: bool = False,
        skipped_file: str | os.PathLike | None = None,
    ) -> dict[str, list]:
        """Ground sentences in images.

        Args:
            inputs: One image or a list of images: paths, a directory, arrays (H, W, 3) uint8 in BGR
                order as read by OpenCV, or PIL images.
            sentences: For one image or a directory, a sentence or a list of sentences. For a list
                of images, one sentence for all of them, or a list with one entry per image, which
                is a sentence or a list of sentences. Computation that depends only on the image is
                shared by its sentences.
            batch_size: Number of images processed at once.
            return_vis: Return the drawn images, (H, W, 3) uint8, RGB.
            return_datasamples: Return ``DetDataSample`` objects instead of plain values.
            out_dir: Directory to write to: ``preds/<image>.json`` lists the predictions for an
                image, ``vis/<image>_<number>.jpg`` shows the mask, box and score map of each
                prediction.
            no_save_vis: Do not write images.
            no_save_pred: Do not write JSON files.
            print_result: Print the predictions.
            skip_damaged: Leave out image files that cannot be read, with a warning that counts
                them by reason, instead of raising an error.
            skipped_file: File to list them in, each with a tab and the reason.

        Returns:
            A dict with two lists. 'predictions' has one entry per sentence, in order: ``image``
            (path or None), ``sentence``, ``score`` from 0 to 1 and, depending on the model,
            ``bbox`` [x1, y1, x2, y2] in pixels and ``mask``, a COCO run-length encoding. If the
            weights are calibrated, ``score`` is the probability that the prediction is right,
            ``raw_score`` the model's own score, and ``accepted`` whether the probability reaches
            the threshold of the calibration. For a
            :class:`GeneralizedPLVL`, ``score`` is the presence, ``found`` tells whether anything
            in the image fits the sentence, ``bboxes`` and ``scores`` list its objects, best first,
            and ``mask`` has all of them; if nothing fits, the lists are empty and there is no mask.
            'visualization' holds the drawn images if requested.

        Raises:
            FileNotFoundError: If an image does not exist.
            ValueError: If an image cannot be read, or the sentences do not match the images.
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
        show = self.show_progress and len(chunks) > 1
        with SkippedImages(skip_damaged, skipped_file) as skipped:
            for chunk in track(chunks, 'inference', 'batch', show):
                loaded = []
                for (image, name), texts in chunk:
                    with skipped.skipping([image]):
                        loaded.append((name, *self._load(image), texts))
                if not loaded:
                    continue
                found = self.forward(self._collate(loaded))
                self._calibrate(found)
                samples = iter(found)
                for name, picture, _, texts in loaded:
                    of_image = written[name]
                    for sample in (next(samples) for _ in texts):
                        prediction = self.pred2dict(sample)
                        if return_vis or (out_dir and not no_save_vis):
                            drawn = self.visualizer.draw(picture[..., ::-1], sample)
                            if return_vis:
                                results['visualization'].append(drawn)
                            if out_dir and not no_save_vis:
                                path = Path(out_dir, 'vis', f'{name}_{len(of_image)}.jpg')
                                mmcv.imwrite(drawn[..., ::-1], str(path))
                        if print_result:
                            print(json_bytes(prediction).decode())
                        of_image.append(prediction)
                        results['predictions'].append(sample if return_datasamples else prediction)
                    if out_dir and not no_save_pred:
                        write_predictions(Path(out_dir, 'preds', f'{name}.json'), of_image)
        return results

    def _collate(self, loaded: list[tuple]) -> dict[str, list]:
        """Build a batch with one entry per sentence; sentences of one image share its tensor."""
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
        for text in texts:
            if encoder.too_long(text):
                print_log(
                    f'GroundingInferencer: the model reads {encoder.max_tokens - 2} word pieces, '
                    f'the rest of this sentence is cut off: {text!r}',
                    'current',
                )

    def pred2dict(self, sample: DetDataSample) -> dict[str, Any]:
        """Convert a prediction to plain values for JSON."""
        prediction: dict[str, Any] = dict(image=sample.get('img_path'), sentence=sample.text)
        instance = sample.pred_instances
        if 'pred_presence' in sample:
            return {**prediction, **_any_number(sample)}
        if 'bboxes' in instance:
            prediction['bbox'] = instance.bboxes[0].tolist()
        prediction['score'] = float(instance.scores[0])
        if self.calibration is not None:
            prediction['raw_score'] = float(instance.raw_scores[0])
            prediction['accepted'] = prediction['score'] >= self.calibration.threshold
        if 'masks' in instance:
            prediction['mask'] = encode_mask(instance.masks[0].cpu().numpy())
        return prediction


def _any_number(sample: DetDataSample) -> dict[str, Any]:
    """Return the prediction of a :class:`GeneralizedPLVL` as plain values."""
    instances, mask = sample.pred_instances, sample.get('pred_union_mask')
    values: dict[str, Any] = dict(score=float(sample.pred_presence))
    values['found'] = len(instances) > 0 if 'bboxes' in instances else bool(mask.any())
    if 'bboxes' in instances:
        values.update(bboxes=instances.bboxes.tolist(), scores=instances.scores.tolist())
    if mask is not None and mask.any():
        values['mask'] = encode_mask(mask[0].cpu().numpy())
    return values


def _sentences_of_images(sentences: Any, count: int, for_all: bool) -> list[list[str]]:
    """Return the sentences of each of ``count`` images; ``for_all`` applies a flat list to all."""
    if isinstance(sentences, str):
        per_image = [[sentences]] * count
    elif for_all:
        per_image = [list(sentences)] * count
    elif len(sentences) == count:
        per_image = [[entry] if isinstance(entry, str) else list(entry) for entry in sentences]
    else:
        raise InputError(
            f'{len(sentences)} sentences for {count} images: expected one for all, or a '
            'list with a sentence (or a list of them) for each image'
        )
    for i, texts in enumerate(per_image):
        if not texts:
            raise InputError(f'image {i}: no sentence')
        for text in texts:
            if not isinstance(text, str) or not text.strip():
                raise InputError(f'image {i}: sentence {text!r}: expected words')
    return per_image


def _chunks(
    images: list, per_image: list[list[str]], batch_size: int
) -> Iterator[list[tuple[Any, list[str]]]]:
    """Yield batches of images with their sentences, limiting the number of sentences per batch."""
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
