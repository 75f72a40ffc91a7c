"""Export of a model's instances on its training images as COCO json, for a supervised stage."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import ConcatDataset
from mmengine.registry import DATASETS
from mmengine.structures import InstanceData
from torch.utils.data import Dataset

from projects.common.errors import InputError
from projects.common.files.atomic import (
    locked,
    open_atomically,
    write_atomically,
)
from projects.common.inferencer import inner_pipeline
from projects.common.prediction_dump import encode_mask

from .datasets import BaseTagDataset, LoadStoredProposals
from .proposals.images import of_this_rank

__all__ = [
    'LabelParts',
    'Summary',
    'check_proposals',
    'common_folder',
    'image_names',
    'image_record',
    'select_pseudo_labels',
    'tagged_images',
]


# -------------------------------------------------------------------------------------- images


def tagged_images(cfg: Config, tta: bool = False, keep_missing: bool = False) -> Dataset:
    """Return the config's training dataset with the preprocessing of the test pipeline.

    Nothing is augmented. Proposals are read from the training proposals, and as many are used as in
    testing. A ``ConcatDataset`` is kept; wrappers that repeat or resample images are removed, so
    that each image occurs once. The metainfo of each image has its ``tags``.

    Args:
        cfg: Config of the model.
        tta: Use all views of the config's ``tta_pipeline``.
        keep_missing: Keep images whose files do not exist.

    Raises:
        ValueError: The training or test pipeline loads no stored proposals, or there is no
            ``tta_pipeline``.
    """
    if tta and 'tta_pipeline' not in cfg:
        raise InputError("--tta: the config has no 'tta_pipeline'")
    tested = cfg.tta_pipeline if tta else inner_pipeline(cfg.test_dataloader.dataset)
    dataset = _as_tested(cfg.train_dataloader.dataset, tested, keep_missing)
    return DATASETS.build(dataset)


def _as_tested(dataset: Mapping, test_pipeline: Sequence[Mapping], keep_missing: bool) -> dict:
    dataset = dict(dataset)
    if 'datasets' in dataset:
        parts = dataset['datasets']
        dataset['datasets'] = [_as_tested(each, test_pipeline, keep_missing) for each in parts]
        dataset.pop('pipeline', None)
        return dataset
    if 'dataset' in dataset:
        return _as_tested(dataset['dataset'], test_pipeline, keep_missing)
    loaders = [step for step in dataset['pipeline'] if _is(step, 'LoadStoredProposals')]
    if len(loaders) != 1 or not any(_is(step, 'LoadStoredProposals') for step in test_pipeline):
        raise InputError(
            f'{dataset["type"]}: expected one LoadStoredProposals in the pipelines of training '
            f'and testing, found {len(loaders)} in training'
        )
    if keep_missing and issubclass(DATASETS.get(dataset['type']), BaseTagDataset):
        dataset['keep_missing'] = True
    return dict(dataset, pipeline=_with_tags(test_pipeline, loaders[0]['folder']))


def _with_tags(pipeline: Sequence[Mapping], folder: str) -> list[dict]:
    """Return steps that load no annotations, read proposals from a folder and pack the tags."""
    steps = []
    for step in pipeline:
        step = dict(step)
        if _is(step, 'LoadAnnotations'):
            continue  # only tags are available
        if _is(step, 'LoadStoredProposals'):
            step['folder'] = folder
        if _is(step, 'TestTimeAug'):
            variants = [_with_tags(each, folder) for each in step['transforms']]
            step['transforms'] = [each for each in variants if each]
        if _is(step, 'PackDetInputs'):
            keys = step.get('meta_keys', ('img_path', 'ori_shape', 'img_shape', 'scale_factor'))
            step['meta_keys'] = (*(key for key in keys if key != 'instances'), 'tags')
        steps.append(step)
    return steps


def _is(step: Mapping, name: str) -> bool:
    return step['type'].split('.')[-1] == name


def image_names(dataset: Any, root: str | os.PathLike) -> list[str]:
    """Return the file name of each image of a dataset, relative to a folder.

    Names are those of the dataset: an image that is a link, or that lies in a linked folder, keeps
    its name.

    Raises:
        ValueError: An image is not below ``root``.
    """
    root = os.path.abspath(root)
    real_root = os.path.realpath(root)
    names = []
    for index in range(len(dataset)):
        path = os.path.abspath(dataset.get_data_info(index)['img_path'])
        name = os.path.relpath(path, root)
        if name.startswith('../'):  # root and image may be given through different links
            folder, file = os.path.split(path)
            name = os.path.join(os.path.relpath(os.path.realpath(folder), real_root), file)
        if name.startswith('../'):
            raise InputError(f'image {path}: not below {root}')
        names.append(os.path.normpath(name))
    return names


def check_proposals(dataset: Any, skip_damaged: bool = False) -> None:
    """Check that the stores of a dataset's pipelines list all of its images.

    Args:
        dataset: The dataset.
        skip_damaged: Let a store lack images that cannot be read, of which it can have none.

    Raises:
        ValueError: A store lacks an image.
    """
    if isinstance(dataset, ConcatDataset):
        for each in dataset.datasets:
            check_proposals(each, skip_damaged)
        return
    loaders = [t for t in dataset.pipeline.transforms if isinstance(t, LoadStoredProposals)]
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        for loader in loaders:
            loader.check(info['img_path'], info.get('img_id'), skip_damaged)


def common_folder(dataset: Any) -> str:
    """Return the deepest folder that contains all images of a dataset."""
    common: str | None = None
    for index in range(len(dataset)):
        folder = os.path.dirname(os.path.abspath(dataset.get_data_info(index)['img_path']))
        common = folder if common is None else os.path.commonpath([common, folder])
    return common or os.getcwd()


# --------------------------------------------------------------------------------------- labels


def select_pseudo_labels(
    instances: InstanceData, tags: Sequence[int], score_thr: float, at_least_one: bool = True
) -> np.ndarray:
    """Return which of an image's instances become labels.

    Args:
        instances: ``bboxes`` (n, 4) XYXY in pixels, ``labels`` (n,), ``scores`` (n,) in descending
            order, and optionally ``masks`` (n, H, W).
        tags: Classes that are in the image. Instances of other classes are known to be wrong.
        score_thr: Least score.
        at_least_one: Keep the best instance of every tag, whatever its score.

    Returns:
        Indices in ascending order. Boxes with a side below one pixel and empty masks, from which no
        detector can learn, are excluded.
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


def image_record(
    info: Mapping[str, Any], shape: Sequence[int], instances: InstanceData, name: str
) -> dict[str, Any]:
    """Return an image and its labels as plain values, with masks as run-length encodings.

    Args:
        info: Metainfo of the image: ``img_id`` and ``tags``.
        shape: Height and width of the image in pixels.
        instances: Labels of the image: ``bboxes`` (n, 4) XYXY in pixels, ``labels`` (n,),
            ``scores`` (n,) and optionally ``masks`` (n, H, W).
        name: File name of the image, from :func:`image_names`.

    Returns:
        A dict with ``id``, ``image`` and ``annotations`` as in COCO json, the latter without ids,
        and ``missing``, the number of tags without a label.
    """
    height, width = (int(side) for side in shape[:2])
    annotations = []
    labels = instances.labels.tolist()
    for row, (x1, y1, x2, y2) in enumerate(instances.bboxes.cpu().numpy().astype(float).tolist()):
        annotation = dict(
            category_id=labels[row] + 1,
            bbox=[round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)],
            area=(x2 - x1) * (y2 - y1),
            iscrowd=0,
            score=float(instances.scores[row]),
        )
        if 'masks' in instances:
            mask = instances.masks[row].cpu().numpy()
            annotation.update(segmentation=encode_mask(mask), area=float(mask.sum()))
        annotations.append(annotation)
    return dict(
        id=info['img_id'],
        image=dict(file_name=name, height=height, width=width),
        annotations=annotations,
        missing=len(set(info['tags']) - set(labels)),
    )


# ---------------------------------------------------------------------------------------- files


@dataclass
class Summary:
    """Hold statistics of a finished file.

    Attributes:
        pictures: Number of images.
        instances: Number of labels by class.
        missing: Number of image tags without a label.
        damaged: Number of images that were left out because they cannot be read.
    """

    pictures: int
    instances: Counter[int]
    missing: int
    damaged: int = 0


class LabelParts:
    """Write labels to one json file via parts that are kept in ``<file>.parts``.

    A part holds the images of a range of indices. An interrupted export continues with the missing
    parts, with any number of processes: each process handles every WORLD_SIZE-th part.

    Args:
        out: The json file.
        count: Number of images.
        settings: Everything that the labels depend on, by name.
        size: Number of images per part.

    Raises:
        ValueError: ``size`` is not positive, or parts with other settings already exist.
    """

    def __init__(
        self, out: str | os.PathLike, count: int, settings: Mapping[str, Any], size: int = 32
    ) -> None:
        if size < 1:
            raise InputError(f'images per part: found {size}, expected at least 1')
        self.out = Path(out)
        self.folder = self.out.with_name(f'{self.out.name}.parts')
        self.count, self.size = count, size
        wanted = json.loads(json.dumps(dict(settings, pictures=count, part=size)))
        note = self.folder / 'settings.json'
        if note.is_file():
            found = json.loads(note.read_text())
            changed = [key for key in wanted if found.get(key) != wanted[key]]
            if changed:
                raise InputError(
                    f'{self.folder}: begun with another {", ".join(changed)} '
                    f'({", ".join(str(found.get(key)) for key in changed)}, now '
                    f'{", ".join(str(wanted[key]) for key in changed)}); remove it to start again'
                )
        else:
            write_atomically(note, json.dumps(wanted).encode())

    def _path(self, part: int) -> Path:
        return self.folder / f'{part:06d}.json'

    def _parts(self) -> range:
        return range(-(-self.count // self.size))

    def missing(self) -> list[list[int]]:
        """Return the indices of images that this process still has to do, one list per part."""
        return [
            list(range(part * self.size, min((part + 1) * self.size, self.count)))
            for part in of_this_rank(self._parts())
            if not self._path(part).is_file()
        ]

    def write(self, first: int, records: Sequence[Mapping | None]) -> None:
        """Write the part that starts with image ``first``; None stands for a damaged image."""
        write_atomically(self._path(first // self.size), json.dumps(list(records)).encode())

    def merge(self, classes: Sequence[str]) -> Summary | None:
        """Write the json file and remove the parts, holding one part and all ids in memory.

        Image ids are kept if all are distinct integers; otherwise they count from 1. Categories are
        numbered from 1 in the order of ``classes``.

        Returns:
            Statistics of the file; None if parts are missing or another process was faster.
        """
        if not all(self._path(part).is_file() for part in self._parts()):
            return None
        try:
            with locked(self.folder / '.lock'):
                if not (self.folder / 'settings.json').is_file():
                    return None
                summary = self._merge(classes)
                (self.folder / 'settings.json').unlink()
        except FileNotFoundError:  # another process has removed the folder
            return None
        shutil.rmtree(self.folder, ignore_errors=True)
        return summary

    def _records(self) -> Iterator[dict]:
        for part in self._parts():
            yield from filter(None, json.loads(self._path(part).read_bytes()))

    def _merge(self, classes: Sequence[str]) -> Summary:
        summary = Summary(0, Counter(), 0)
        ids: set | None = set()
        for record in self._records():
            summary.pictures += 1
            summary.instances.update(each['category_id'] - 1 for each in record['annotations'])
            summary.missing += record['missing']
            new = record['id']
            if ids is not None and isinstance(new, int) and new not in ids:
                ids.add(new)
            else:
                ids = None
        summary.damaged = self.count - summary.pictures
        categories = [dict(id=index, name=name) for index, name in enumerate(classes, 1)]

        def image_id(number: int, record: Mapping) -> int:
            return number if ids is None else record['id']

        def images() -> Iterator[dict]:
            for number, record in enumerate(self._records(), 1):
                yield dict(id=image_id(number, record), **record['image'])

        def annotations() -> Iterator[dict]:
            count = 0
            for number, record in enumerate(self._records(), 1):
                for each in record['annotations']:
                    count += 1
                    yield dict(id=count, image_id=image_id(number, record), **each)

        with open_atomically(self.out) as file:
            # pycocotools 2.0.9 and 2.0.10 cannot evaluate against a file without `info`.
            file.write(b'{"info": {"description": "Pseudo labels of MMTriad"}')
            for name, rows in (('images', images()), ('annotations', annotations())):
                file.write(f', "{name}": ['.encode())
                for index, row in enumerate(rows):
                    file.write((',\n' if index else '').encode() + json.dumps(row).encode())
                file.write(b']')
            file.write(f', "categories": {json.dumps(categories)}}}'.encode())
        return summary
