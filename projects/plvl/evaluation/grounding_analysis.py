"""Failure analysis for grounding models: accuracy by size, length, direction words and category."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from scipy.stats import binomtest

from projects.common.errors import InputError

from ..datasets.dataset import GroundingDataset
from ..datasets.mixed import MixedGroundingDataset
from ..datasets.transforms import LoadGroundingAnnotations
from .grounding_metric import box_iou, mask_areas

__all__ = [
    'Group',
    'Record',
    'analyze',
    'match_predictions',
    'members_of_groups',
    'summarize',
    'worst_failures',
]

DIRECTIONS = {
    'left, right': ('left', 'right', 'leftmost', 'rightmost', 'l', 'r'),
    'top, bottom': (
        'top', 'bottom', 'upper', 'lower', 'above', 'below', 'under', 'over', 'topmost',
        'bottommost', 'up', 'down', 'highest', 'lowest',
    ),
    'middle': ('middle', 'center', 'centre', 'mid', 'between', 'centermost', 'middlemost'),
    'near, far': (
        'front', 'back', 'behind', 'closest', 'nearest', 'farthest', 'furthest', 'near', 'far',
        'foreground', 'background', 'next', 'beside',
    ),
    'order': (
        'first', 'second', 'third', 'fourth', 'fifth', 'last', '1st', '2nd', '3rd', '4th', '5th',
    ),
}  # fmt: skip
SIZE_EDGES = (2, 5, 10, 20, 40)  # percent of the image area
LENGTHS = ((1, 1), (2, 2), (3, 3), (4, 5), (6, 8), (9, 12), (13, None))  # in words
MOST_CATEGORIES = 15
DIRECTION_TITLE = 'Direction words'
KIND_TITLE = 'Kind of sentence'
OTHER = 'other'


@dataclass
class Record:
    """Hold one sentence with its ground truth, its prediction and their overlaps.

    Attributes:
        sample: The dataset sample.
        prediction: The matching entry of the prediction dump, the best box first.
        box_iou: IoU of the boxes, or None if the model predicts no boxes.
        mask_iou: IoU of the masks, or None if the model predicts no masks or the ground truth has
            none.
        size: Area of the ground-truth box in percent of the image.
        mask_areas: Pixels in the intersection and in the union of the masks, or None as for
            ``mask_iou``.
    """

    sample: dict
    prediction: dict
    box_iou: float | None
    mask_iou: float | None
    size: float
    mask_areas: tuple[int, int] | None = None

    @property
    def is_comparable(self) -> bool:
        """Return whether there are two boxes or two masks to compare."""
        return self.box_iou is not None or self.mask_iou is not None

    @property
    def iou(self) -> float:
        """Return the box IoU, or the mask IoU if there are no boxes.

        Raises:
            ValueError: If the record is not comparable.
        """
        found = self.box_iou if self.box_iou is not None else self.mask_iou
        if found is None:
            raise InputError(f'{self.sample["text"]!r}: neither two boxes nor two masks')
        return found

    @property
    def score(self) -> float:
        """Return the confidence of the prediction, from 0 to 1; 0 if there is none."""
        scores = self.prediction['pred_instances']['scores']
        return float(scores[0]) if scores else 0.0

    @property
    def words(self) -> list[str]:
        """Return the words of the sentence in lower case, without punctuation."""
        return re.findall(r"[\w']+", self.sample['text'].lower())


@dataclass(frozen=True)
class Group:
    """Hold the metrics of a group of sentences.

    Attributes:
        name: The property that the sentences share.
        count: Number of sentences.
        accuracy: Percentage of boxes with an IoU of at least 0.5, or of masks if there are no
            boxes.
        low: Lower end of the 95 % confidence interval of the accuracy (Wilson).
        high: Upper end of that interval.
        box_miou: Mean box IoU in percent, or None.
        mask_miou: Mean mask IoU in percent, or None.
    """

    name: str
    count: int
    accuracy: float
    low: float
    high: float
    box_miou: float | None
    mask_miou: float | None


# ------------------------------------------------------------------------------------ overlaps


def match_predictions(
    dataset: GroundingDataset | MixedGroundingDataset, predictions: Sequence[dict], what: str
) -> list[Record]:
    """Match predictions to the samples of a dataset, in the order of the dataset.

    Sentences without an overlap (a model without boxes and a sample without a mask) are left out.

    Args:
        dataset: The dataset that was tested. Its images are not read.
        predictions: The predictions written by ``tools/test.py --out``.
        what: Name of the predictions in error messages.

    Raises:
        ValueError: If a prediction matches no sample of the dataset, or a sample has no
            prediction.
    """
    if not isinstance(predictions, list) or not all(isinstance(p, dict) for p in predictions):
        raise InputError(f'{what}: expected a list of predictions, as tools/test.py --out writes')
    by_identity = {}
    for prediction in predictions:
        if 'pred_instances' not in prediction or 'text' not in prediction:
            raise InputError(
                f'{what}: an entry without pred_instances or text, expected what tools/test.py '
                '--out writes of a grounding model'
            )
        if 'pred_presence' in prediction:
            raise InputError(
                f'{what}: predictions of any number of objects, expected those of a model for one '
                'object for each sentence'
            )
        by_identity[_identity(prediction)] = prediction
    members = getattr(dataset, 'datasets', [dataset])
    files = ', '.join(dict.fromkeys(member.ann_file for member in members))
    load = LoadGroundingAnnotations()
    records = []
    for i in range(len(dataset)):
        sample = dataset.get_data_info(i)
        if len(sample['instances']) != 1:
            raise InputError(
                f'{files}: {sample["text"]!r}: found {len(sample["instances"])} objects, expected '
                "one (targets='single' of the data set leaves the others out)"
            )
        prediction = by_identity.pop(_identity(sample), None)
        if prediction is None:
            raise InputError(
                f'{what}: no prediction for {sample["text"]!r}, {sample["img_path"]}: it is not of '
                f'this data set ({files}, {len(dataset)} sentences)'
            )
        record = _measure(sample, prediction, load)
        if record.is_comparable:  # false for a model without boxes and a sample without a mask
            records.append(record)
    if by_identity:
        first = next(iter(by_identity.values()))
        raise InputError(
            f'{what}: {len(by_identity)} predictions are of no sample of this data set '
            f'({files}, {len(dataset)} sentences); first: {first["text"]!r}, '
            f'{first.get("img_path")}'
        )
    if not records:
        raise InputError(f'{what}: neither boxes nor masks that could be compared')
    return records


def _identity(sample: dict) -> tuple:
    name = os.path.basename(sample.get('img_path') or '')
    keys = ('img_id', 'ref_id', 'sent_id', 'ann_id', 'text', 'subset')
    return (name, *(sample.get(key) for key in keys))


def true_object(
    sample: dict, load: LoadGroundingAnnotations
) -> tuple[list[float], np.ndarray | None]:
    """Return the ground-truth box (XYXY) and mask (H, W), or None if the data has no mask."""
    shape = (sample['height'], sample['width'])
    loaded = load({**sample, 'ori_shape': shape})
    mask = loaded['gt_masks'].masks[0] if loaded['with_mask'] else None
    return loaded['gt_bboxes'].tensor[0].tolist(), mask


def predicted(prediction: dict) -> tuple[list[float] | None, np.ndarray | None]:
    """Return the predicted box (XYXY) and mask (H, W) of a dump entry, None for a missing one."""
    instance = prediction['pred_instances']
    box = instance['bboxes'][0] if instance.get('bboxes') else None
    mask = coco_mask.decode(instance['masks'][0]) if instance.get('masks') else None
    return box, mask


def _measure(sample: dict, prediction: dict, load: LoadGroundingAnnotations) -> Record:
    box, mask = true_object(sample, load)
    pred_box, pred_mask = predicted(prediction)
    found_nothing = prediction['pred_instances'].get('bboxes') == []
    overlap, areas = None, None
    if mask is not None and pred_mask is not None:
        areas = mask_areas(pred_mask, mask)
        overlap = areas[0] / areas[1] if areas[1] else 1.0
    return Record(
        sample=sample,
        prediction=prediction,
        box_iou=0.0 if found_nothing else None if pred_box is None else box_iou(pred_box, box),
        mask_iou=overlap,
        size=100 * (box[2] - box[0]) * (box[3] - box[1]) / (sample['height'] * sample['width']),
        mask_areas=areas,
    )


# -------------------------------------------------------------------------------------- groups


def _size_name(record: Record) -> list[str]:
    index = int(np.searchsorted(SIZE_EDGES, record.size, side='right'))
    return [_size_names()[index]]


def _size_names() -> list[str]:
    inner = [f'{low} to {high} %' for low, high in zip(SIZE_EDGES, SIZE_EDGES[1:])]
    return [f'below {SIZE_EDGES[0]} %', *inner, f'{SIZE_EDGES[-1]} % and more']


def _length_names() -> list[str]:
    return [
        f'{low} and more' if high is None else str(low) if low == high else f'{low} to {high}'
        for low, high in LENGTHS
    ]


def _length_name(record: Record) -> list[str]:
    count = max(1, len(record.words))
    for (low, high), name in zip(LENGTHS, _length_names(), strict=True):
        if count >= low and (high is None or count <= high):
            return [name]
    raise AssertionError(count)


def _direction_names(record: Record) -> list[str]:
    words = set(record.words)
    found = [name for name, members in DIRECTIONS.items() if not words.isdisjoint(members)]
    return found or ['none of these']


def _field_name(record: Record, field: str, kept: Sequence[str]) -> list[str]:
    value = str(record.sample.get(field))
    return [value if value in kept else OTHER]


def _groupings(records: Sequence[Record]) -> dict[str, tuple[Callable, list[str]]]:
    """Return for each title the function that names a record's groups, and all groups in order."""
    groupings: dict[str, tuple[Callable, list[str]]] = {
        'Object size (box, of the image)': (_size_name, _size_names()),
        'Sentence length (words)': (_length_name, _length_names()),
        DIRECTION_TITLE: (_direction_names, [*DIRECTIONS, 'none of these']),
    }
    for field, title in (('kind', KIND_TITLE), ('category', 'Category')):
        counts = Counter(
            str(record.sample.get(field)) for record in records if record.sample.get(field)
        )
        if len(counts) < 2:
            continue
        kept = [value for value, _ in counts.most_common(MOST_CATEGORIES)]
        groupings[title] = (partial(_field_name, field=field, kept=kept), [*kept, OTHER])
    return groupings


def analyze(records: Sequence[Record]) -> dict[str, list[Group]]:
    """Compute the metrics of every non-empty group of sentences, keyed by grouping.

    A sentence with direction words of two kinds counts in both groups.
    """
    return {
        title: [summarize(name, found) for name, found in members.items() if found]
        for title, members in members_of_groups(records).items()
    }


def members_of_groups(records: Sequence[Record]) -> dict[str, dict[str, list[Record]]]:
    """Return the sentences of every group, by the title of the grouping and the group's name."""
    result = {}
    for title, (names_of, order) in _groupings(records).items():
        members: dict[str, list[Record]] = {name: [] for name in order}
        for record in records:
            for name in names_of(record):
                members[name].append(record)
        result[title] = members
    return result


def summarize(name: str, records: Sequence[Record]) -> Group:
    """Compute the metrics of a group of at least one record with an overlap."""
    count = len(records)
    hits = sum(record.iou >= 0.5 for record in records)
    interval = binomtest(hits, count).proportion_ci(0.95, 'wilson')
    return Group(
        name=name,
        count=count,
        accuracy=100 * hits / count,
        low=100 * interval.low,
        high=100 * interval.high,
        box_miou=_mean(record.box_iou for record in records),
        mask_miou=_mean(record.mask_iou for record in records),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return 100 * math.fsum(known) / len(known) if known else None


def worst_failures(records: Sequence[Record], count: int) -> list[Record]:
    """Return sentences with an IoU below 0.5, least overlap first, then most confident first.

    Only the worst sentence of each object is returned.
    """
    failed = [record for record in records if record.iou < 0.5]
    failed.sort(key=lambda record: (round(record.iou, 2), -record.score))
    worst: dict[Any, Record] = {}
    for record in failed:
        sample = record.sample
        of_object = (sample['img_path'], *sample['instances'][0]['bbox'])
        worst.setdefault(of_object, record)
    return list(worst.values())[:count]
