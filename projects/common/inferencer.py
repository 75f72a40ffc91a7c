"""The base of all inferencers: configs, weights, images and names of output files."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose
from mmengine.infer import BaseInferencer
from mmengine.logging import print_log
from mmengine.registry import VISUALIZERS, DefaultScope
from mmengine.visualization import Visualizer
from PIL import Image
from torch import nn

from .build import build_quietly
from .calibration import Calibration
from .config_index import find_config, list_models
from .config_text import config_of_checkpoint
from .errors import InputError
from .files.annotation_files import json_bytes
from .files.image_reader import MAX_PIXELS, decode_image, decode_pil, read_content
from .files.images import images_in
from .speed.products import fast_products
from .weights.convert import read_weights
from .weights.loading import load_weights
from .weights.published import find_published, read_published
from .weights.semantics import check_semantics

__all__ = [
    'ImageInferencer',
    'ImageInput',
    'inner_pipeline',
    'refuse_url',
    'write_predictions',
]

ImageInput = str | os.PathLike | bytes | np.ndarray | Image.Image
_URL = re.compile(r'[A-Za-z][A-Za-z0-9+.-]*://')


class ImageInferencer(BaseInferencer):
    """Run a trained model on images, as a base class like ``mmdet.apis.DetInferencer``.

    Subclasses implement ``__call__``, and override :meth:`prepare_model` and :meth:`check_model` if
    their models need more than weights.

    Args:
        model: A config file, a name from :func:`projects.common.list_models`, or a config. None
            uses the config that our training stores in the checkpoint.
        weights: A checkpoint file, the folder of a published model (``publish_model.py``) or its
            Hugging Face Hub id. Without weights, the model is random, which is only useful for
            trying things out; a warning says so.
        device: A device such as 'cpu' or 'cuda:0'. None selects the fastest available device.
        show_progress: Whether to show a progress bar if there are several batches.
        trust_checkpoint: Unpickle the checkpoint without restrictions, which runs any code in it.

    Raises:
        FileNotFoundError: The config or checkpoint does not exist.
        ValueError: The weights do not belong to this model.
    """

    META_KEYS: Sequence[str] = ('img_path', 'ori_shape', 'img_shape', 'scale_factor')
    """Meta keys of an image that data samples carry."""

    visualizer_type: type[Visualizer] | None = None
    """Class of the visualizer. The config's is used if it is of this class."""

    max_pixels = MAX_PIXELS
    """Images with more pixels are rejected before they are decoded."""

    calibration_kind: str | None = None
    """Kind of the calibration that this inferencer applies; see :data:`.calibration.KINDS`."""

    calibration: Calibration | None = None
    """Calibration of the scores; ``tools/analysis_tools/calibrate.py`` stores it with weights."""

    def __init__(
        self,
        model: str | os.PathLike | Config | ConfigDict | None = None,
        weights: str | os.PathLike | None = None,
        device: str | torch.device | None = None,
        show_progress: bool = True,
        trust_checkpoint: bool = False,
    ) -> None:
        self._weights: dict[str, torch.Tensor] = {}  # those of the file, during the build
        self._names: dict[str, str] = {}  # output name -> image
        self.checkpoint_meta: dict = {}  # as stored by training: classes, config, iteration
        if weights is not None:
            refuse_url('weights', weights, 'the checkpoint')
            published = find_published(weights)
            if published is not None:
                self._weights, self.checkpoint_meta = read_published(published)
            else:
                self._weights, rest = read_weights(weights, trust_checkpoint)
                self.checkpoint_meta = rest.get('meta') or {}
        stored = self.checkpoint_meta.get('calibration')
        if stored is not None and self.calibration_kind is not None:
            where = f'weights {weights}'
            self.calibration = Calibration.from_dict(stored, where, self.calibration_kind)
        if model is None:
            if weights is None:
                raise InputError(f'{type(self).__name__}: neither a model nor weights are given')
            cfg = config_of_checkpoint(dict(meta=self.checkpoint_meta), os.fspath(weights))
        elif isinstance(model, (Config, ConfigDict)):
            cfg = copy.deepcopy(model)
        else:
            refuse_url('model', model, 'the config')
            cfg = Config.fromfile(find_config(model))
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmdet')):
            super().__init__(
                cfg, weights, device, scope=cfg.get('default_scope'), show_progress=show_progress
            )
        self._weights = {}

    @staticmethod
    def list_models(patterns: str = '*') -> list[str]:
        """Return the config names accepted as ``model``, filtered by shell-style wildcards."""
        return list_models(patterns)

    # ---------------------------------------------------------------------------- building

    def prepare_model(self, model: ConfigDict, weights: str | os.PathLike) -> None:
        """Adapt the model config, in place, to the weights that will be loaded."""

    def is_pretrained(self, model: ConfigDict) -> bool:
        """Return whether a model can be used as its config makes it, without a checkpoint."""
        return False

    def check_model(self, model: nn.Module, weights: str | os.PathLike | None) -> None:
        """Raise ``ValueError`` if a model lacks something that inference needs."""

    def _init_model(
        self, cfg: Config, weights: str | os.PathLike | None, device: str | torch.device
    ) -> nn.Module:
        model_cfg = copy.deepcopy(cfg.model)
        if weights is None:
            if not self.is_pretrained(model_cfg):
                print_log(
                    f'{type(self).__name__}: no weights are given, the model is random', 'current'
                )
        else:
            self.prepare_model(model_cfg, weights)
        model = build_quietly(model_cfg, cfg.get('default_scope', 'mmdet'))
        if weights is not None:
            load_weights(model, self._weights, os.fspath(weights))
            content = dict(meta=self.checkpoint_meta)
            check_semantics(content, model_cfg, cfg.get('default_scope', 'mmdet'), weights)
        self.check_model(model, weights)
        model.cfg = cfg
        return model.to(device).eval()

    def _init_pipeline(self, cfg: Config) -> Compose:
        """Return the test pipeline without annotations, for images that are already loaded."""
        steps = []
        loader = dict(type='LoadImageFromFile')
        for step in inner_pipeline(cfg.test_dataloader.dataset):
            name = step['type'].split('.')[-1]
            if name == 'LoadImageFromFile':
                loader = step
            elif name == 'PackDetInputs':
                steps.append({**step, 'meta_keys': self.META_KEYS})
            elif not (name.startswith('Load') and name.endswith('Annotations')):
                steps.append(step)
        self._file_loader = Compose([loader])
        options = dict(to_float32=self._file_loader.transforms[0].to_float32)
        self._array_loader = Compose([dict(type='mmdet.LoadImageFromNDArray', **options)])
        return Compose(steps)

    def _init_collate(self, cfg: Config) -> None:
        return None  # subclasses build their batches

    def _init_visualizer(self, cfg: Config) -> Visualizer | None:
        """Build the config's visualizer, or the default one if the config has no suitable one."""
        default = self.visualizer_type
        if default is None:
            return None
        wanted = dict(cfg.get('visualizer') or {})
        cls = VISUALIZERS.get(wanted.pop('type', ''))
        if cls is None or not issubclass(cls, default):
            return default()
        return cls(**{**wanted, 'vis_backends': None})

    def forward(self, inputs: Any, **kwargs: Any) -> Any:
        """Run the model's ``test_step`` on a batch."""
        with fast_products():
            return super().forward(inputs, **kwargs)

    def _calibrate(self, samples: Iterable[Any]) -> None:
        """Replace the scores of predictions by probabilities, and keep them as ``raw_scores``."""
        if self.calibration is None:
            return
        for sample in samples:
            found = sample.pred_instances
            found.raw_scores = found.scores
            probabilities = self.calibration(found.scores.cpu().numpy())
            found.scores = torch.from_numpy(probabilities).to(found.raw_scores)

    # ---------------------------------------------------------------------------- images

    def _inputs_to_list(self, inputs: Any) -> list:
        """Convert an image, a list of images or a folder to a list."""
        if isinstance(inputs, (list, tuple)):
            return list(inputs)
        if isinstance(inputs, (str, os.PathLike)) and Path(inputs).is_dir():
            return images_in(inputs)
        return [inputs]

    def _load(self, image: ImageInput, **fields: Any) -> tuple[np.ndarray, dict]:
        """Return the image (H, W, 3) in BGR, and the pipeline's result for it and ``fields``."""
        path = None
        if isinstance(image, (str, os.PathLike)):
            path = os.fspath(image)
            refuse_url('image', path, 'the image')
            image = read_content(path)
        return self._load_content(image, path, **fields)

    def _load_content(
        self, image: bytes | np.ndarray | Image.Image, path: str | None, **fields: Any
    ) -> tuple[np.ndarray, dict]:
        """Do the same as :meth:`_load` for an image whose file, if any, has been read."""
        results = self._array_loader(dict(img=self._decode(image, path or 'given')))
        results['img_path'] = path
        picture = results['img']
        return picture, self.pipeline({**results, **fields})

    def _decode(self, image: bytes | np.ndarray | Image.Image, name: str) -> np.ndarray:
        """Return an image (H, W, 3) uint8 in BGR from a file's content, an array or PIL."""
        if isinstance(image, bytes):
            loader = self._file_loader.transforms[0]
            options = dict(backend=loader.imdecode_backend, flag=loader.color_type)
            return decode_image(image, name, max_pixels=self.max_pixels, **options)
        if isinstance(image, Image.Image):
            return decode_pil(image, name, self.max_pixels)
        if not isinstance(image, np.ndarray):
            raise InputError(
                f'image of type {type(image).__name__}: expected a path, bytes, an array or a PIL '
                'image'
            )
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise InputError(
                f'image of shape {image.shape} and type {image.dtype}: expected (H, W, 3) uint8'
            )
        return np.ascontiguousarray(image)

    # ----------------------------------------------------------------------------- outputs

    def _output_name(self, image: ImageInput) -> str:
        """Return a unique file name for each image, and the same name again for the same path."""
        source, stem = f'array {len(self._names)}', 'image'
        if isinstance(image, (str, os.PathLike)):
            source, stem = os.path.abspath(image), Path(image).stem
        number, name = 1, stem
        while self._names.setdefault(name, source) != source:
            number += 1
            name = f'{stem}_{number}'
        return name

    def visualize(self, *args: Any, **kwargs: Any) -> None:
        """Raise ``NotImplementedError``: visualization is not a separate step here."""
        raise NotImplementedError('call the inferencer with return_vis=True')

    def postprocess(self, *args: Any, **kwargs: Any) -> None:
        """Raise ``NotImplementedError``: postprocessing is not a separate step here."""
        raise NotImplementedError('call the inferencer')


def write_predictions(path: Path, predictions: Sequence[dict[str, Any]]) -> None:
    """Write a JSON file that holds a list with one prediction per line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b'[\n' + b',\n'.join(map(json_bytes, predictions)) + b'\n]\n')


def refuse_url(field: str, value: str | os.PathLike, what: str) -> None:
    """Raise ``ValueError`` for a URL, because nothing is downloaded."""
    if _URL.match(os.fspath(value)):
        raise InputError(f'{field} {value}: URLs are not read; download {what} and give its path')


def inner_pipeline(dataset: ConfigDict) -> list[dict]:
    """Return the pipeline of a dataset config, or of the first dataset inside a wrapper."""
    while dataset.get('pipeline') is None:
        inner = dataset.get('dataset') or (dataset.get('datasets') or [None])[0]
        if inner is None:
            raise InputError('test_dataloader.dataset: neither it nor one inside has a pipeline')
        dataset = inner
    return dataset.pipeline
