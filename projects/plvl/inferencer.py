"""One object for use: pictures and sentences in, boxes and masks out."""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose
from mmengine.infer import BaseInferencer
from mmengine.logging import print_log
from mmengine.registry import MODELS, DefaultScope
from PIL import Image, ImageOps
from rich.progress import track
from torch import nn

from projects.common.build import build_quietly
from projects.common.config_index import find_config, list_models
from projects.common.config_text import config_of_checkpoint
from projects.common.convert import describe_mismatch, read_weights
from projects.common.prediction_dump import encode_mask

from .datasets.annotations import image_problem
from .visualization import draw_data_sample

__all__ = ['GroundingInferencer']

ImageInput = str | os.PathLike | np.ndarray | Image.Image
META_KEYS = ('img_path', 'ori_shape', 'img_shape', 'scale_factor')
SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
SENTENCES_AT_ONCE = 16
_URL = re.compile(r'[A-Za-z][A-Za-z0-9+.-]*://')


class GroundingInferencer(BaseInferencer):
    """Finds and cuts out what a sentence names, as ``mmdet.apis.DetInferencer`` finds classes.

    Args:
        model: A config file, a name of :func:`projects.common.list_models`, or a config; None
            takes the config that our training leaves in the checkpoint.
        weights: A checkpoint file. Without one the model is random, which only serves to try
            things out; a warning says so.
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

    def __init__(
        self,
        model: str | os.PathLike | Config | ConfigDict | None = None,
        weights: str | os.PathLike | None = None,
        device: str | torch.device | None = None,
        show_progress: bool = True,
        trust_checkpoint: bool = False,
    ) -> None:
        self._weights: dict[str, torch.Tensor] | None = None
        self._names: dict[str, str] = {}  # name of an output -> picture
        rest: dict = {}
        if weights is not None:
            _refuse_url('weights', weights, 'the checkpoint')
            self._weights, rest = read_weights(weights, trust_checkpoint)
        if model is None and weights is None:
            raise ValueError('GroundingInferencer: neither a model nor weights are given')
        if model is None:
            cfg = config_of_checkpoint(rest, os.fspath(weights))
        elif isinstance(model, (Config, ConfigDict)):
            cfg = copy.deepcopy(model)
        else:
            _refuse_url('model', model, 'the config')
            cfg = Config.fromfile(find_config(model))
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmdet')):
            super().__init__(
                cfg, weights, device, scope=cfg.get('default_scope'), show_progress=show_progress
            )
        self._weights = None

    @staticmethod
    def list_models(patterns: str = '*') -> list[str]:
        """Names of the configs that ``model`` may be, by shell-style wildcards."""
        return list_models(patterns)

    # ---------------------------------------------------------------------------- building

    def _init_model(
        self, cfg: Config, weights: str | os.PathLike | None, device: str | torch.device
    ) -> nn.Module:
        model_cfg = copy.deepcopy(cfg.model)
        if weights is None:
            print_log('GroundingInferencer: no weights are given, the model is random', 'current')
            model = MODELS.build(model_cfg)
        else:
            encoder = model_cfg.get('text_encoder', {})
            if not Path(encoder.get('pretrained') or '').is_dir():
                encoder['pretrained'] = None  # a hub id: the checkpoint has BERT's weights
            model = build_quietly(model_cfg, cfg.get('default_scope', 'mmdet'))
            _load_weights(model, self._weights, f'weights {os.fspath(weights)}')
        if getattr(model.text_encoder, 'tokenizer', None) is None:
            raise ValueError(
                f'weights {weights}: hold no vocabulary, and neither text_encoder.vocab_file nor '
                '.pretrained of the config name one'
            )
        model.cfg = cfg
        return model.to(device).eval()

    def _init_pipeline(self, cfg: Config) -> Compose:
        """The test pipeline without annotations; the picture is given, not loaded."""
        steps = []
        loader = dict(type='LoadImageFromFile')
        for step in _test_pipeline(cfg.test_dataloader.dataset):
            name = step['type'].split('.')[-1]
            if name == 'LoadImageFromFile':
                loader = step
            elif name == 'PackDetInputs':
                steps.append({**step, 'meta_keys': META_KEYS})
            elif not (name.startswith('Load') and name.endswith('Annotations')):
                steps.append(step)
        self._file_loader = Compose([loader])
        self._array_loader = Compose([dict(type='mmdet.LoadImageFromNDArray')])
        return Compose(steps)

    def _init_collate(self, cfg: Config) -> None:
        return None  # see _collate

    def _init_visualizer(self, cfg: Config) -> None:
        return None  # pictures are drawn by projects.plvl.visualization

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
            raise ValueError(f'batch_size={batch_size}: expected at least 1')
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
                    drawn = None
                    if return_vis or (out_dir and not no_save_vis):
                        drawn = draw_data_sample(picture[..., ::-1], sample)
                    if out_dir and not no_save_vis:
                        path = Path(out_dir, 'vis', f'{name}_{len(of_image)}.jpg')
                        mmcv.imwrite(drawn[..., ::-1], str(path))
                    if print_result:
                        print(json.dumps(prediction, ensure_ascii=False))
                    of_image.append(prediction)
                    results['predictions'].append(sample if return_datasamples else prediction)
                    if return_vis:
                        results['visualization'].append(drawn)
                if out_dir and not no_save_pred:
                    path = Path(out_dir, 'preds', f'{name}.json')
                    path.parent.mkdir(parents=True, exist_ok=True)
                    lines = (json.dumps(entry, ensure_ascii=False) for entry in of_image)
                    path.write_text('[\n' + ',\n'.join(lines) + '\n]\n', encoding='utf-8')
        return results

    def _inputs_to_list(self, inputs: Any) -> list:
        if isinstance(inputs, (list, tuple)):
            return list(inputs)
        if isinstance(inputs, (str, os.PathLike)) and Path(inputs).is_dir():
            files = sorted(p for p in Path(inputs).iterdir() if p.suffix.lower() in SUFFIXES)
            if not files:
                raise ValueError(f'image folder {inputs}: holds no picture ({", ".join(SUFFIXES)})')
            return files
        return [inputs]

    def _load(self, image: ImageInput) -> tuple[np.ndarray, dict]:
        """The picture in BGR and what the pipeline makes of it."""
        if isinstance(image, (str, os.PathLike)):
            image = os.fspath(image)
            _refuse_url('image', image, 'the picture')
            if not os.path.isfile(image):
                raise FileNotFoundError(f'image {image}: no such file')
            try:
                results = self._file_loader(dict(img_path=image))
            except Exception as error:
                reason = image_problem(image)
                if reason is None:
                    raise
                raise ValueError(f'image {image}: not readable ({reason})') from error
        else:
            if isinstance(image, Image.Image):
                image = np.asarray(ImageOps.exif_transpose(image).convert('RGB'))[..., ::-1]
            if not isinstance(image, np.ndarray):
                raise ValueError(
                    f'image of type {type(image).__name__}: expected a path, an array or a PIL '
                    'image'
                )
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
                raise ValueError(
                    f'image of shape {image.shape} and type {image.dtype}: expected (H, W, 3) uint8'
                )
            results = self._array_loader(dict(img=np.ascontiguousarray(image)))
        picture = results['img']
        return picture, self.pipeline(results)

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

    def _output_name(self, image: ImageInput) -> str:
        """A file name of its own for each picture; the same again for the same path."""
        is_path = isinstance(image, (str, os.PathLike))
        source = os.path.abspath(image) if is_path else f'array {len(self._names)}'
        stem = Path(image).stem if is_path else 'image'
        number, name = 1, stem
        while self._names.setdefault(name, source) != source:
            number += 1
            name = f'{stem}_{number}'
        return name

    def visualize(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError('call the inferencer with return_vis=True')

    def postprocess(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError('call the inferencer')


def _load_weights(model: nn.Module, weights: dict[str, torch.Tensor], what: str) -> None:
    """Loads weights that are exactly the model's; the vocabulary alone may be absent."""

    def tensors(state: dict) -> dict:
        return {key: value for key, value in state.items() if not key.endswith('_extra_state')}

    if any(key.startswith('visumodel.') for key in weights):
        problem = 'a released checkpoint; tools/model_converters/plvl.py makes it ours'
    else:
        shapes = {key: value.shape for key, value in tensors(model.state_dict()).items()}
        problem = describe_mismatch(tensors(weights), shapes)
    if problem:
        raise ValueError(f'{what}: not of this model: {problem}')
    model.load_state_dict(weights, strict=False)


def _refuse_url(field: str, value: str | os.PathLike, what: str) -> None:
    if _URL.match(os.fspath(value)):
        raise ValueError(f'{field} {value}: URLs are not read; download {what} and give its path')


def _test_pipeline(dataset: ConfigDict) -> list[dict]:
    """The pipeline of a dataset config, of the first one inside where it wraps others."""
    while dataset.get('pipeline') is None:
        inner = dataset.get('dataset') or (dataset.get('datasets') or [None])[0]
        if inner is None:
            raise ValueError('test_dataloader.dataset: neither it nor one inside has a pipeline')
        dataset = inner
    return dataset.pipeline


def _sentences_of_images(sentences: Any, count: int, for_all: bool) -> list[list[str]]:
    """The sentences of each of ``count`` pictures; a flat list may be ``for_all`` of them."""
    if isinstance(sentences, str):
        per_image = [[sentences]] * count
    elif for_all:
        per_image = [list(sentences)] * count
    elif len(sentences) == count:
        per_image = [[entry] if isinstance(entry, str) else list(entry) for entry in sentences]
    else:
        raise ValueError(
            f'{len(sentences)} sentences for {count} pictures: expected one for all, or a '
            'list with a sentence (or a list of them) for each picture'
        )
    for i, texts in enumerate(per_image):
        if not texts:
            raise ValueError(f'picture {i}: no sentence')
        for text in texts:
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f'picture {i}: sentence {text!r}: expected words')
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
