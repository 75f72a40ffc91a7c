"""Published numbers of images, references and sentences in the datasets."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .reference import Reference

__all__ = ['COUNTED', 'PUBLISHED', 'compare', 'count', 'published_name', 'published_split']

COUNTED = ('images', 'references', 'sentences')

# Sentences per split are the counts of the dataset authors. Totals are from PLVL, section 4.1; its
# sentences are the sums over the splits, and its "objects" are called references here. Images and
# references of val are counted in the complete annotation files of those splits.
PUBLISHED: dict[str, dict[str, dict[str, int]]] = {
    'refcoco': dict(
        train=dict(sentences=120_624),
        val=dict(images=1_500, references=3_811, sentences=10_834),
        testA=dict(sentences=5_657),
        testB=dict(sentences=5_095),
        total=dict(images=19_994, references=50_000, sentences=142_210),
    ),
    'refcoco+': dict(
        train=dict(sentences=120_191),
        val=dict(sentences=10_758),
        testA=dict(sentences=5_726),
        testB=dict(sentences=4_889),
        total=dict(images=19_992, references=49_856, sentences=141_564),
    ),
    'refcocog-umd': dict(
        train=dict(sentences=80_512),
        val=dict(images=1_300, references=2_573, sentences=4_896),
        test=dict(sentences=9_602),
        total=dict(images=25_799, references=49_822, sentences=95_010),
    ),
}

# Names used by the directories, files and keys of other projects.
_NAMES = {
    'refcoco': 'refcoco',
    'refcoco-unc': 'refcoco',
    'unc': 'refcoco',
    'refcoco+': 'refcoco+',
    'refcoco+-unc': 'refcoco+',
    'refcocoplus': 'refcoco+',
    'refcocoplus-unc': 'refcoco+',
    'unc+': 'refcoco+',
    'refcocog-umd': 'refcocog-umd',
    'gref_umd': 'refcocog-umd',
}
_MIXED_KEY = re.compile(r'(train|val|testA|testB|test)_(refcoco(?:plus|\+|g)?)_(\w+)')


def published_name(name: str) -> str | None:
    """Return the key of :data:`PUBLISHED` for a dataset name in any format, or None."""
    return _NAMES.get(name)


def published_split(name: str | None, split: str) -> tuple[str | None, str]:
    """Return the dataset and split of a split name; SeqTR's mixed keys name both."""
    mixed = _MIXED_KEY.fullmatch(split)
    if mixed is None:
        return name, split
    return published_name(f'{mixed[2]}-{mixed[3]}'), mixed[1]


def count(references: list[Reference]) -> dict[str, int]:
    """Count the images, references and sentences returned by :func:`conversion.read_references`."""
    return dict(
        images=len({ref.image for ref in references}),
        references=len(references),
        sentences=sum(len(ref.sentences) for ref in references),
    )


def compare(where: str, found: Mapping[str, int], published: Mapping[str, int]) -> list[str]:
    """Return one line for each count that differs."""
    lines = []
    for what, expected in published.items():
        missing = expected - found[what]
        if missing:
            side = 'missing' if missing > 0 else 'too many'
            lines.append(
                f'{where}: {found[what]:,} of {expected:,} {what}: {abs(missing):,} {side}'
            )
    return lines
