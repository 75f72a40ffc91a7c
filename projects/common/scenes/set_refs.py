"""Collect the sentences of scenes about any number of objects, in the layout of gRefCOCO."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from .scene import SceneSentence, SetSentence

__all__ = ['SetReferences', 'sentence_entries']


def sentence_entries(
    sentences: Sequence[SceneSentence | SetSentence], first_id: int
) -> list[dict[str, Any]]:
    """Return the ``sentences`` of a reference in the refer layout, with ids from ``first_id``."""
    return [
        {
            'tokens': sentence.text.split(),
            'raw': sentence.text,
            'sent': sentence.text,
            'sent_id': first_id + number,
            'kind': sentence.kind,
        }
        for number, sentence in enumerate(sentences)
    ]


class SetReferences:
    """Build the entries of ``grefs(scenes).json``: one for each set of objects of an image."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.kinds: Counter[str] = Counter()
        self.num_sentences = 0

    def add(
        self,
        split: str,
        file_name: str,
        image_id: int,
        ann_ids: Sequence[int],
        sentences: Iterable[SceneSentence | SetSentence],
    ) -> None:
        """Add the sentences of an image.

        Args:
            split: The split of the image.
            file_name: Its file name.
            image_id: Its id.
            ann_ids: Ids of its objects.
            sentences: Sentences about one of the objects, several or none.
        """
        groups: dict[tuple[int, ...], list[SceneSentence | SetSentence]] = {}
        for sentence in sentences:
            groups.setdefault(sentence.targets, []).append(sentence)
        for targets, group in groups.items():
            entries = sentence_entries(group, self.num_sentences)
            self.num_sentences += len(entries)
            self.kinds.update(sentence.kind for sentence in group)
            self.entries.append(
                {
                    'ref_id': len(self.entries),
                    'ann_id': [ann_ids[i] for i in targets] or [-1],
                    'no_target': not targets,
                    'image_id': image_id,
                    'split': split,
                    'file_name': file_name,
                    'sent_ids': [entry['sent_id'] for entry in entries],
                    'sentences': entries,
                }
            )
