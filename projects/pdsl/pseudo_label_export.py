"""A model's instances on its training pictures as COCO json, for a second, supervised stage."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS
from mmengine.structures import InstanceData
from torch.utils.data import Dataset

from projects.common.inferencer import inner_pipeline
from projects.common.prediction_dump import encode_mask

__all__ = ['coco_json', 'select_pseudo_labels', 'tagged_pictures']


def tagged_pictures(cfg: Config) -> Dataset:
    """The config's training data set, its pictures as the test pipeline shows them.

    Nothing is augmented, and proposals come from where training takes them, as many as in
    testing. A ``ConcatDataset`` stays one; wrappers that repeat or resample pictures are taken off,
    so that each picture comes once.

    Raises:
        ValueError: The pipeline of training or of testing loads no stored proposals.
    """
    tested = inner_pipeline(cfg.test_dataloader.dataset)
    return DATASETS.build(_as_tested(cfg.train_dataloader.dataset, tested))


def _as_tested(dataset: Mapping, test_pipeline: Sequence[Mapping]) -> dict:
    dataset = dict(dataset)
    if 'datasets' in dataset:
        dataset['datasets'] = [_as_tested(each, test_pipeline) for each in dataset['datasets']]
        dataset.pop('pipeline', None)
        return dataset
    if 'dataset' in dataset:
        return _as_tested(dataset['dataset'], test_pipeline)
    loaders = [step for step in dataset['pipeline'] if _is(step, 'LoadStoredProposals')]
    if len(loaders) != 1 or not any(_is(step, 'LoadStoredProposals') for step in test_pipeline):
        raise ValueError(
            f'{dataset["type"]}: expected one LoadStoredProposals in the pipelines of training '
            f'and testing, found {len(loaders)} in training'
        )
    steps = []
    for step in test_pipeline:
        step = dict(step)
        if _is(step, 'LoadAnnotations'):
            continue  # tags are all that there is
        if _is(step, 'LoadStoredProposals'):
            step['folder'] = loaders[0]['folder']
        if _is(step, 'PackDetInputs'):
            step['meta_keys'] = ('img_path', 'ori_shape', 'img_shape', 'scale_factor')
        steps.append(step)
    return dict(dataset, pipeline=steps)


def _is(step: Mapping, name: str) -> bool:
    return step['type'].split('.')[-1] == name


def select_pseudo_labels(
    instances: InstanceData, tags: Sequence[int], score_thr: float, at_least_one: bool = True
) -> np.ndarray:
    """Which of a picture's instances become labels.

    Args:
        instances: ``bboxes`` (n, 4) XYXY in pixels, ``labels`` (n,), ``scores`` (n,), best first,
            and ``masks`` (n, H, W), which may be absent.
        tags: Classes that are in the picture. Instances of others are known to be wrong.
        score_thr: Least score.
        at_least_one: Keep the best instance of every tag, whatever its score.

    Returns:
        Indices, rising. Boxes with a side below one pixel and empty masks, which no detector can
        learn from, are not among them.
    """
    labels, scores = instances.labels.cpu().numpy(), instances.scores.cpu().numpy()
    boxes = instances.bboxes.cpu().numpy()
    usable = np.isin(labels, list(tags)) & ((boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= 1)
    if 'masks' in instances:
        usable &= instances.masks.flatten(1).any(1).cpu().numpy()
    keep = usable & (scores >= score_thr)
    if at_least_one:
        for tag in tags:
            keep[np.flatnonzero(usable & (labels == tag))[:1]] = True
    return np.flatnonzero(keep)


def coco_json(
    pictures: Iterable[tuple[Mapping[str, Any], InstanceData]],
    classes: Sequence[str],
    image_root: str | os.PathLike,
) -> dict[str, list]:
    """COCO instances.

    Args:
        pictures: Of each its ``img_id``, ``img_path`` and ``ori_shape``, and its labels: ``bboxes``
            (n, 4) XYXY in pixels, ``labels`` (n,), ``scores`` (n,) and ``masks`` (n, H, W), which
            may be absent. Pictures without labels stay in. Ids stay as they are where all are
            different integers.
        classes: Names of the classes; categories are numbered from 1 in their order.
        image_root: Folder that ``file_name`` is relative to.

    Returns:
        ``images``, ``annotations`` (each with the ``score`` that the model gave) and
        ``categories``, all plain values.

    Raises:
        ValueError: A picture is not below ``image_root``.
    """
    root = Path(image_root).resolve()
    images: list[dict] = []
    annotations: list[dict] = []
    ids = []
    for meta, instances in pictures:
        path = Path(meta['img_path']).resolve()
        if root not in path.parents:
            raise ValueError(f'picture {meta["img_path"]}: not below {image_root}')
        height, width = meta['ori_shape'][:2]
        image = dict(
            id=len(images) + 1,
            file_name=path.relative_to(root).as_posix(),
            height=int(height),
            width=int(width),
        )
        images.append(image)
        ids.append(meta['img_id'])
        boxes = instances.bboxes.cpu().numpy().astype(float)
        for row, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
            annotation = dict(
                id=len(annotations) + 1,
                image_id=image['id'],
                category_id=int(instances.labels[row]) + 1,
                bbox=[round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)],
                area=(x2 - x1) * (y2 - y1),
                iscrowd=0,
                score=float(instances.scores[row]),
            )
            if 'masks' in instances:
                mask = instances.masks[row].cpu().numpy()
                annotation.update(segmentation=encode_mask(mask), area=float(mask.sum()))
            annotations.append(annotation)
    if all(isinstance(each, int) for each in ids) and len(set(ids)) == len(ids):
        for image, own in zip(images, ids):
            image['id'] = own
        for annotation in annotations:
            annotation['image_id'] = ids[annotation['image_id'] - 1]
    categories = [dict(id=index, name=name) for index, name in enumerate(classes, 1)]
    return dict(images=images, annotations=annotations, categories=categories)
