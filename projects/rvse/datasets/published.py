"""Published numbers of images per split."""

from __future__ import annotations

import re

__all__ = ['PUBLISHED', 'compare_counts', 'published_name']

# Images per split: RVSE++, section 4.1 (29,000/1,000/1,000 and 113,287/5,000/5,000).
PUBLISHED: dict[str, dict[str, int]] = {
    'f30k': dict(train=29_000, dev=1_000, test=1_000),
    'coco': dict(train=113_287, dev=5_000, test=5_000),
}
_NAMES = ((re.compile('f30k|flickr30k'), 'f30k'), (re.compile('coco'), 'coco'))
_SPLITS = {'val': 'dev', 'testall': 'test'}


def published_name(path: str) -> str | None:
    """Return the key of :data:`PUBLISHED` matching the name of a file or folder, or None."""
    return next((name for pattern, name in _NAMES if pattern.search(path.lower())), None)


def compare_counts(name: str, counts: dict[str, int]) -> list[str]:
    """Return a message for each split whose number of images is not the published one.

    COCO's precomputed ``test`` holds the first 1,000 images of ``testall``. Flickr30K's val split
    and its ``dev`` file may hold 1,014, of which the first 1,000 are the published ones.

    Args:
        name: A key of :data:`PUBLISHED`.
        counts: Number of images per split, named as in any layout.
    """
    lines = []
    found = set()
    for split, count in counts.items():
        meant = _SPLITS.get(split, split)
        if meant not in PUBLISHED[name]:
            continue
        found.add(meant)
        allowed = {PUBLISHED[name][meant]}
        if (name, meant) == ('f30k', 'dev'):
            allowed.add(1_014)
        if (name, split) == ('coco', 'test') and 'testall' in counts:
            allowed = {1_000}
        if count not in allowed:
            expected = ' or '.join(f'{n:,}' for n in sorted(allowed))
            lines.append(f'{split}: {count:,} images, expected {expected}')
    lines += [
        f'{split}: no such split, expected {count:,} images'
        for split, count in PUBLISHED[name].items()
        if split not in found
    ]
    return lines
