"""Scenes of photographed things, which ``make quickstart DATA=photos`` trains on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from projects.common.scenes import write_collages
from tools.misc.fetch_cutouts import fetch

__all__ = ['SOURCE', 'write_photo_scenes']

SOURCE = Path('work_dirs/quickstart/photos')
MIN_CUTOUTS = 4  # names with fewer leave too little to learn from when one is held out


def write_photo_scenes(out: Path, **numbers: int) -> dict[str, Any]:
    """Fetch cut-outs and photographs, and write scenes of them.

    Args:
        out: Folder of the scenes.
        numbers: Number of scenes of every split; see :func:`write_collages`.

    Returns:
        The manifest of the scenes.
    """
    fetch(SOURCE)
    summary = write_collages(
        out,
        SOURCE / 'cutouts',
        SOURCE / 'backgrounds',
        min_cutouts=MIN_CUTOUTS,
        image_size=128,
        workers=2,
        **numbers,
    )
    held = sum(map(len, summary['held_out_cutouts'].values()))
    total = sum(summary['names'].values())
    print(
        f'     {len(summary["names"])} names; {held} of {total} objects are held out of training',
        flush=True,
    )
    return summary
