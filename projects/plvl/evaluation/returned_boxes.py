"""How many boxes a grounder returns for a sentence about one object, and which of them is right.

A zero-shot detector may return all instances of a category where a sentence names one of them by
its position or its relation to others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from projects.common.errors import InputError

from ..datasets.transforms import LoadGroundingAnnotations
from .grounding_analysis import DIRECTION_TITLE, KIND_TITLE, Record, members_of_groups, true_object
from .grounding_metric import box_iou

__all__ = ['COLUMNS', 'Returned', 'count_returned', 'rows_of']

COLUMNS = (
    'sentences', 'boxes', 'none %', 'several %', 'right among them %', 'right one first %',
)  # fmt: skip


@dataclass(frozen=True)
class Returned:
    """Hold what is returned for a group of sentences. A box is right if its IoU is at least 0.5.

    Attributes:
        name: The property that the sentences share.
        count: Number of sentences.
        boxes: Mean number of boxes returned.
        nothing: Percentage of sentences for which no box is returned.
        several: Percentage of sentences for which several boxes are returned.
        among: Percentage of sentences with a right box among those returned.
        first: Percentage of sentences whose first box, the one with the highest score, is returned
            and right.
    """

    name: str
    count: int
    boxes: float
    nothing: float
    several: float
    among: float
    first: float


def count_returned(records: Sequence[Record]) -> dict[str, list[Returned]]:
    """Count returned boxes by kind of sentence if the data has kinds, or else by direction words.

    Args:
        records: Sentences with their predictions.

    Returns:
        The groups by the title of the grouping, after a group of all sentences. It is empty if no
        prediction says how many boxes were returned (``pred_num_returned``), as those of PLVL,
        which always predicts one.

    Raises:
        InputError: Only some predictions say it, or one has fewer boxes than it says.
    """
    known = ['pred_num_returned' in record.prediction for record in records]
    if not any(known):
        return {}
    if not all(known):
        lacking = records[known.index(False)].sample['text']
        raise InputError(f'predictions: no pred_num_returned for {lacking!r}, which others have')
    groups = members_of_groups(records)
    title = KIND_TITLE if KIND_TITLE in groups else DIRECTION_TITLE
    load = LoadGroundingAnnotations()
    right = {id(record): _right(record, load) for record in records}
    members = {'all sentences': list(records), **groups[title]}
    return {
        title: [
            _summarize(name, [right[id(record)] for record in group])
            for name, group in members.items()
            if group
        ]
    }


def _right(record: Record, load: LoadGroundingAnnotations) -> list[bool]:
    """Return for each returned box, highest score first, whether it is right."""
    count = record.prediction['pred_num_returned']
    boxes = record.prediction['pred_instances'].get('bboxes') or []
    if len(boxes) < count:
        raise InputError(
            f'predictions: {len(boxes)} boxes for {record.sample["text"]!r}, but '
            f'pred_num_returned is {count}'
        )
    truth, _ = true_object(record.sample, load)
    return [box_iou(box, truth) >= 0.5 for box in boxes[:count]]


def _summarize(name: str, right: Sequence[list[bool]]) -> Returned:
    def percent(values: Sequence[bool]) -> float:
        return 100 * sum(values) / len(values)

    return Returned(
        name=name,
        count=len(right),
        boxes=sum(map(len, right)) / len(right),
        nothing=percent([not boxes for boxes in right]),
        several=percent([len(boxes) > 1 for boxes in right]),
        among=percent([any(boxes) for boxes in right]),
        first=percent([any(boxes[:1]) for boxes in right]),
    )


def rows_of(groups: Sequence[Returned]) -> list[list[str]]:
    """Return a row of text for each group: its name and the values of :data:`COLUMNS`."""
    return [
        [
            group.name,
            f'{group.count:,}',
            f'{group.boxes:.2f}',
            *(f'{value:.1f}' for value in (group.nothing, group.several, group.among, group.first)),
        ]
        for group in groups
    ]
