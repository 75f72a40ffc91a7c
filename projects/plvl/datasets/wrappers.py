"""Wrappers of what a reader yields: leak removal, numbering and shuffling of sentences."""

from __future__ import annotations

import copy
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mmengine.logging import print_log

from .image_identity import ImageKey
from .reference import Reference, Sentence

__all__ = ['exclude_images', 'number_equal_sentences', 'shuffle_sentences']


def exclude_images(
    references: Iterable[Reference], excluded: frozenset[ImageKey], counts: Counter[str]
) -> Iterator[Reference]:
    """Yield the references whose images are not excluded.

    Args:
        references: Checked references.
        excluded: Keys of the images to leave out.
        counts: Receives the number of sentences of each image path, including excluded images.
    """
    for reference in references:
        counts[reference.img_path] += len(reference.sentences)
        if excluded.isdisjoint(reference.image_keys):
            yield reference


def number_equal_sentences(samples: Iterable[dict], where: str) -> None:
    """Number sentences that share their text and all ids, which metrics would take for one.

    Args:
        samples: The samples of a dataset.
        where: The annotation file, for the log.
    """
    counts: Counter[tuple] = Counter()
    for sample in samples:
        key = tuple(sample[k] for k in ('img_path', 'ref_id', 'ann_id', 'sent_id', 'text'))
        counts[key] += 1
        if counts[key] > 1:
            sample['sent_id'] = f'{sample["sent_id"]}#{counts[key]}'
    if repeated := counts.total() - len(counts):
        print_log(
            f'{where}: {repeated} sentences have the ids and the text of an earlier one; each '
            'counts, and #2, #3, ... is appended to their sent_id',
            'current',
        )


def shuffle_sentences(references: Sequence[Reference], seed: int = 0) -> list[Reference]:
    """Replace each sentence by a random one about another object in the same image.

    Sentences whose image has none about another object are left out, and their number is logged.
    A sentence with which someone has also described the object itself does not count.

    Args:
        references: Checked references.
        seed: Seed of the choice.
    """
    by_image: dict[str, list[tuple[Any, Sentence]]] = defaultdict(list)
    for reference in references:
        pairs = [(_object_of(reference), sentence) for sentence in reference.sentences]
        by_image[reference.img_path] += pairs
    rng = random.Random(seed)
    shuffled = []
    for reference in references:
        own, pairs = _object_of(reference), by_image[reference.img_path]
        own_texts = {sentence.text.lower() for target, sentence in pairs if target == own}
        others = [
            sentence
            for target, sentence in pairs
            if target != own and sentence.text.lower() not in own_texts
        ]
        if others:
            shuffled.append(copy.copy(reference))
            shuffled[-1].sentences = [
                Sentence(other.text, sentence.sent_id, other.kind)
                for sentence in reference.sentences
                for other in [rng.choice(others)]
            ]
    total, kept = (sum(len(ref.sentences) for ref in refs) for refs in (references, shuffled))
    print_log(
        'sentence_shuffle: sentences replaced by ones about another object of the same image; '
        f'{total - kept} of {total} samples left out because their image has sentences about one '
        'object only',
        'current',
    )
    return shuffled


def _object_of(reference: Reference) -> Any:
    """Return what tells the objects of sentences apart: their ids, or else their boxes."""
    targets = reference.targets
    ids = tuple(tuple(t.bbox) if t.ann_id is None else t.ann_id for t in targets)
    return ids[0] if len(ids) == 1 else ids
