"""Inferencer for instance segmentation that generates proposals on the fly."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose
from mmengine.registry import DATASETS
from torch import nn

from projects.common.errors import InputError
from projects.common.files.annotation_files import json_bytes
from projects.common.files.skipped import SkippedImages
from projects.common.hooks.progress import track
from projects.common.inferencer import ImageInferencer, ImageInput
from projects.common.prediction_dump import encode_mask
from projects.common.weights.sources import forget_source

from . import register  # noqa: F401
from .datasets import LoadStoredProposals, ProjectProposals
from .models import PDSL, use_no_cue
from .proposals import selective_search, tidy
from .visualization import InstanceVisualizer

__all__ = ['WeakInstanceInferencer']

Proposals = np.ndarray | torch.Tensor
SCORE_THR = 0.3
"""Least score of the instances to draw, unless the weights are calibrated."""


class WeakInstanceInferencer(ImageInferencer):
    """Find instances with a model trained from tags, like ``mmdet.apis.DetInferencer``.

    Args:
        model: A config file, a name from :func:`projects.common.list_models`, or a config; None
            uses the config that our training stores in the checkpoint.
        weights: A checkpoint file, the folder of a published model (``publish_model.py``), or the
            Hugging Face hub id of one. Without weights the model is randomly initialised, which is
            only useful for trying things out, and a warning is issued.
        device: A device such as 'cpu' or 'cuda:0'; None selects the fastest one available.
        show_progress: Whether to show a progress bar if there are several batches.
        trust_checkpoint: Unpickle the checkpoint without restrictions, which runs any code in it.
        proposal_options: Arguments of :func:`~projects.pdsl.proposals.selective_search` for images
            that come without proposals. The arguments used for the training proposals work best. By
            default, the fast strategies are used, and as many of the first proposals are kept as
            the config's test pipeline loads.

    Raises:
        FileNotFoundError: The config or checkpoint does not exist.
        ValueError: The weights do not match the model, or it is not a :class:`~.models.PDSL`.

    Examples:
        >>> inferencer = WeakInstanceInferencer(weights='best.pth')        # doctest: +SKIP
        >>> result = inferencer('street.jpg', out_dir='out')               # doctest: +SKIP
        >>> result['predictions'][0]['classes'][0]                         # doctest: +SKIP
        'bicycle'
    """

    visualizer_type = InstanceVisualizer
    calibration_kind = 'instances'

    def __init__(
        self,
        model: str | os.PathLike | Config | ConfigDict | None = None,
        weights: str | os.PathLike | None = None,
        device: str | torch.device | None = None,
        show_progress: bool = True,
        trust_checkpoint: bool = False,
        proposal_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.proposal_options = dict(proposal_options or {})
        super().__init__(model, weights, device, show_progress, trust_checkpoint)
        self.classes = self._find_classes(self.cfg)
        self.visualizer.dataset_meta = dict(classes=self.classes)

    # ---------------------------------------------------------------------------- building

    def prepare_model(self, model: ConfigDict, weights: str | os.PathLike) -> None:
        """Remove what only training uses: the bottom-up cue, and weights that the file replaces."""
        use_no_cue(model)
        forget_source(model.get('backbone') or {}, self._weights.get('backbone._extra_state'))

    def check_model(self, model: nn.Module, weights: str | os.PathLike | None) -> None:
        """Raise ``ValueError`` if the model is not a :class:`PDSL`."""
        if not isinstance(model, PDSL):
            raise InputError(
                f'model: its config builds {type(model).__name__}; expected PDSL, which takes '
                "proposals (mmdet's own models go with mmdet.apis.DetInferencer)"
            )

    def _init_pipeline(self, cfg: Config) -> Compose:
        """Build the test pipeline, replacing stored proposals by those of the given image."""
        pipeline = super()._init_pipeline(cfg)
        loaders = [t for t in pipeline.transforms if isinstance(t, LoadStoredProposals)]
        if not any(isinstance(t, ProjectProposals) for t in pipeline.transforms):
            raise InputError('test pipeline: no ProjectProposals, which brings proposals into it')
        self.max_proposals = loaders[0].max_proposals if loaders else None
        steps = [t for t in pipeline.transforms if t not in loaders]
        pipeline.transforms = [self._add_proposals, *steps]
        return pipeline

    def _find_classes(self, cfg: Config) -> tuple[str, ...]:
        """Return class names from the checkpoint, or else from the config's dataset."""
        count = self.model.roi_head.num_classes
        dataset = cfg.test_dataloader.dataset
        of_class = getattr(DATASETS.get(dataset.get('type', '')), 'METAINFO', {})
        of_config = dataset.get('metainfo') or {}
        for meta in (self.checkpoint_meta.get('dataset_meta') or {}, of_config, of_class):
            meta = {key.lower(): value for key, value in meta.items()}
            if len(meta.get('classes') or ()) == count:
                return tuple(meta['classes'])
        return tuple(f'class {index}' for index in range(count))

    # --------------------------------------------------------------------------- proposals

    def _add_proposals(self, results: dict) -> dict:
        """Add the keys that :class:`~.datasets.LoadStoredProposals` would load."""
        given = results.pop('given_proposals', None)
        if isinstance(given, LoadStoredProposals):
            if results.get('img_path') is None:
                raise InputError(
                    f'proposals {given.folder}: found by the name of the image, which an array '
                    'has not; give its boxes'
                )
            return given.transform(results)
        if given is None:
            found = selective_search(
                results['img'], **{'max_proposals': self.max_proposals, **self.proposal_options}
            )
            boxes, scores = tidy(found, None)
        else:
            array = given.detach().cpu().numpy() if isinstance(given, torch.Tensor) else given
            array = np.asarray(array, dtype=np.float32)
            if array.size and (array.ndim != 2 or array.shape[1] not in (4, 5)):
                raise InputError(
                    f'proposals of shape {array.shape}: expected (n, 4) XYXY in pixels of the '
                    'image, or (n, 5) with scores'
                )
            own_scores = array[:, 4] if array.size and array.shape[1] == 5 else None
            boxes, scores = tidy(array[:, :4] if array.size else np.zeros((0, 4)), own_scores)
        results['ori_proposals'], results['ori_proposals_scores'] = boxes, scores
        return results

    # --------------------------------------------------------------------------- inference

    @property
    def score_thr(self) -> float:
        """Return the threshold of the calibration, or 0.3 without one."""
        return SCORE_THR if self.calibration is None else self.calibration.threshold

    def __call__(
        self,
        inputs: ImageInput | Sequence[ImageInput],
        proposals: Proposals | Sequence[Proposals] | str | os.PathLike | None = None,
        batch_size: int = 1,
        return_vis: bool = False,
        return_datasamples: bool = False,
        out_dir: str | os.PathLike = '',
        no_save_vis: bool = False,
        no_save_pred: bool = False,
        pred_score_thr: float | None = None,
        print_result: bool = False,
        skip_damaged: bool = False,
        skipped_file: str | os.PathLike | None = None,
    ) -> dict[str, list]:
        """Find instances in images.

        Args:
            inputs: One image or a list of images: paths, a folder, arrays (H, W, 3) uint8 in BGR as
                OpenCV reads them, or PIL images.
            proposals: Where the proposals come from. None runs Selective Search. For one image,
                pass its boxes (n, 4), XYXY in pixels, or (n, 5) with scores; for a list of images,
                pass a list with one entry per image, None for those that need proposals.
                Alternatively, pass the folder of a :class:`~projects.pdsl.proposals.ProposalStore`
                that contains all images.
            batch_size: Number of images per batch.
            return_vis: Return drawings (h, w, 3), uint8 RGB; small images are enlarged.
            return_datasamples: Return ``DetDataSample`` objects instead of plain values.
            out_dir: Folder to write to: ``preds/<image>.json`` and ``vis/<image>.jpg``.
            no_save_vis: Do not write drawings.
            no_save_pred: Do not write JSON files.
            pred_score_thr: Least score of the instances to draw; None takes :attr:`score_thr`.
            print_result: Print the predictions.
            skip_damaged: Leave out image files that cannot be read, with a warning that counts
                them by reason, instead of raising an error.
            skipped_file: File to list them in, each with a tab and the reason.

        Returns:
            A dict with 'predictions', one per image: ``image`` (path or None), ``image_scores``
            (the score of each class being present, from 0 to 1) and, for each instance in
            descending order of score, ``labels`` (class indices), ``classes`` (class names),
            ``scores`` from 0 to 1, ``bboxes`` [x1, y1, x2, y2] in pixels and, if the model has
            masks, ``masks`` as COCO run-length encodings. If the weights are calibrated, ``scores``
            are the probabilities that an instance is right, and ``raw_scores`` the model's own
            scores. The dict also has 'visualization', the drawings if requested.

        Raises:
            FileNotFoundError: An image does not exist.
            ValueError: An image cannot be read, or the proposals do not match the images.
        """
        pred_score_thr = self.score_thr if pred_score_thr is None else pred_score_thr
        images = self._inputs_to_list(inputs)
        given = self._proposals_of_images(proposals, len(images), isinstance(inputs, (list, tuple)))
        for image, loader in zip(images, given):
            if isinstance(loader, LoadStoredProposals) and isinstance(image, (str, os.PathLike)):
                loader.check(os.fspath(image), skip_damaged=skip_damaged)
        if batch_size < 1:
            raise InputError(f'batch_size={batch_size}: expected at least 1')
        results: dict[str, list] = {'predictions': [], 'visualization': []}
        pairs = list(zip(images, given, strict=True))
        chunks = [pairs[i : i + batch_size] for i in range(0, len(pairs), batch_size)]
        show = self.show_progress and len(chunks) > 1
        with SkippedImages(skip_damaged, skipped_file) as skipped:
            for chunk in track(chunks, 'inference', 'batch', show):
                loaded = []
                for image, boxes in chunk:
                    with skipped.skipping([image]):
                        loaded.append((image, *self._load(image, given_proposals=boxes)))
                if not loaded:
                    continue
                samples = self.forward(
                    dict(
                        inputs=[packed['inputs'] for *_, packed in loaded],
                        data_samples=[packed['data_samples'] for *_, packed in loaded],
                    )
                )
                self._calibrate(samples)
                for (image, picture, _), sample in zip(loaded, samples, strict=True):
                    prediction = self.pred2dict(sample)
                    name = self._output_name(image) if out_dir else ''
                    if return_vis or (out_dir and not no_save_vis):
                        drawn = self.visualizer.draw(
                            picture[..., ::-1], sample, pred_score_thr=pred_score_thr
                        )
                        if return_vis:
                            results['visualization'].append(drawn)
                        if out_dir and not no_save_vis:
                            mmcv.imwrite(drawn[..., ::-1], str(Path(out_dir, 'vis', f'{name}.jpg')))
                    if out_dir and not no_save_pred:
                        path = Path(out_dir, 'preds', f'{name}.json')
                        path.parent.mkdir(parents=True, exist_ok=True)
                        path.write_bytes(json_bytes(prediction))
                    if print_result:
                        print(json_bytes(prediction).decode())
                    results['predictions'].append(sample if return_datasamples else prediction)
        return results

    def _proposals_of_images(self, proposals: Any, count: int, several: bool) -> list:
        """Return one entry per image with its proposals, its store, or None if it has neither."""
        if proposals is None:
            return [None] * count
        if isinstance(proposals, (str, os.PathLike)):
            return [LoadStoredProposals(os.fspath(proposals), self.max_proposals)] * count
        if not several and count == 1:
            return [proposals]
        if not isinstance(proposals, (list, tuple)) or len(proposals) != count:
            length = len(proposals) if hasattr(proposals, '__len__') else 'one'
            raise InputError(
                f'proposals: {length} entries for {count} images; expected a list with the '
                'boxes of each'
            )
        return list(proposals)

    def pred2dict(self, sample: DetDataSample) -> dict[str, Any]:
        """Return the instances of an image as plain values, for JSON."""
        found = sample.pred_instances
        labels = found.labels.tolist()
        prediction = dict(
            image=sample.get('img_path'),
            image_scores=found.metainfo['image_scores'].tolist(),
            labels=labels,
            classes=[self.classes[label] for label in labels],
            scores=found.scores.tolist(),
            bboxes=found.bboxes.tolist(),
        )
        if self.calibration is not None:
            prediction['raw_scores'] = found.raw_scores.tolist()
        if 'masks' in found:
            prediction['masks'] = [encode_mask(mask) for mask in found.masks.cpu().numpy()]
        return prediction
