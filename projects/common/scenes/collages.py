"""Generate a data set of cut-outs that are pasted on photographs."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .collage import collage_vocabulary, make_collage
from .cutouts import (
    Cutout,
    find_backgrounds,
    find_cutouts,
    frequent,
    hold_out,
    hold_out_cutouts,
    read_cutout,
)
from .scene import Scene
from .writer import ALL_SPLITS, check_arguments, write_scenes

__all__ = ['CollageScenes', 'write_collages']

VERSION = 1  # increment for every change that affects the generated data


@dataclass(frozen=True)
class CollageScenes:
    """Generate scenes of cut-outs, which are bit-for-bit reproducible.

    Attributes:
        cutouts: Of every split, the cut-outs that its scenes are made of, by name.
        backgrounds: Of every split, the photographs.
        adjectives: Columns of adjectives in the table of cut-outs.
        image_size: Side of the images in pixels.
        seed: Seed of the data set.
    """

    cutouts: Mapping[str, dict[str, list[Cutout]]]
    backgrounds: Mapping[str, list[str]]
    adjectives: tuple[str, ...]
    image_size: int
    seed: int

    def scene(self, split: str, index: int) -> Scene:
        """Generate a scene of a split."""
        rng = np.random.default_rng([self.seed, ALL_SPLITS.index(split), index])
        return make_collage(
            rng,
            self.cutouts[split],
            self.backgrounds[split],
            self.image_size,
            collage_vocabulary(self.adjectives),
        )


def write_collages(
    out_dir: str | os.PathLike[str],
    cutouts: str | os.PathLike[str],
    backgrounds: str | os.PathLike[str],
    names: str | os.PathLike[str] | None = None,
    min_cutouts: int = 1,
    held_out: float = 0.2,
    num_train: int = 8000,
    num_val: int = 500,
    num_test: int = 500,
    num_test_seen: int = 500,
    image_size: int = 128,
    seed: int = 0,
    workers: int = 1,
    progress: bool = True,
) -> dict[str, Any]:
    """Generate the data set, or return at once if it already exists.

    A share of the cut-outs and of the photographs is held out of the training scenes. The scenes of
    'val' and 'test' consist of held-out cut-outs on held-out photographs, and those of 'test_seen'
    of cut-outs seen in training on held-out photographs. The files do not depend on the number of
    workers.

    Args:
        out_dir: A new or empty folder, or one written by this function before; see
            :func:`write_dataset`.
        cutouts: Folder of images with an alpha channel; see :func:`find_cutouts`.
        backgrounds: Folder of photographs, none smaller than ``image_size``.
        names: Table of the cut-outs' names.
        min_cutouts: Names with fewer cut-outs are left out.
        held_out: Share of the cut-outs and photographs that is held out: of every name with several
            cut-outs at least one. With 0, all splits show all of them, and 'test_seen' is empty.
        num_train: Number of training images.
        num_val: Number of validation images.
        num_test: Number of test images of held-out cut-outs.
        num_test_seen: Number of test images of cut-outs seen in training.
        image_size: Side of the images in pixels, 64 to 1024.
        seed: Seed of the data set and of the choice of what is held out.
        workers: Number of processes that draw.
        progress: Whether to show a progress bar.

    Returns:
        The content of the manifest: arguments, counts, and the held-out files by name.

    Raises:
        FileExistsError: `out_dir` holds other files.
        ValueError: An argument is out of range, or an image cannot be used.
    """
    counts = dict(zip(ALL_SPLITS, (num_train, num_val, num_test, num_test_seen if held_out else 0)))
    check_arguments(counts, image_size, seed, workers)
    if not 0 <= held_out < 1:
        raise InputError(f'held_out: found {held_out}, expected a share from 0 to less than 1')
    found, adjectives = find_cutouts(cutouts, names)
    chosen = frequent(found, min_cutouts, cutouts)
    seen, held = hold_out_cutouts(chosen, held_out, seed)
    if held_out and len({cutout.name for cutout in held}) < 2:
        raise InputError(
            f'{cutouts}: found {len({cutout.name for cutout in held})} names with several '
            'cut-outs, expected at least 2, whose cut-outs can be held out'
        )
    photographs = find_backgrounds(backgrounds, image_size)
    if held_out and len(photographs) < 2:
        raise InputError(
            f'{backgrounds}: found 1 photograph, expected at least 2, one of them to hold out'
        )
    apart = hold_out(len(photographs), held_out, np.random.default_rng([seed, 2]))
    for cutout in chosen:  # with errors before anything is written
        read_cutout(cutout.path)
    pools = {'train': seen, 'val': held or seen, 'test': held or seen, 'test_seen': seen}
    ground = [path for i, path in enumerate(photographs) if i not in apart]
    unseen = [path for i, path in enumerate(photographs) if i in apart] or ground
    source = CollageScenes(
        cutouts={split: _by_name(pool) for split, pool in pools.items()},
        backgrounds={split: ground if split == 'train' else unseen for split in pools},
        adjectives=adjectives,
        image_size=image_size,
        seed=seed,
    )
    arguments = {
        'collages': VERSION,
        'image_size': image_size,
        'seed': seed,
        'held_out': held_out,
        'min_cutouts': min_cutouts,
        'cutouts': _digest(map(repr, map(_identity, chosen)), [c.path for c in chosen]),
        'backgrounds': _digest(map(os.path.basename, photographs), photographs),
        'adjectives': list(adjectives),
        'names': dict(sorted(Counter(cutout.name for cutout in chosen).items())),
        'held_out_cutouts': {
            name: [cutout.file for cutout in group] for name, group in _by_name(held).items()
        },
        'held_out_backgrounds': sorted(os.path.relpath(photographs[i], backgrounds) for i in apart),
    }
    classes = sorted({cutout.name for cutout in chosen})
    return write_scenes(
        out_dir, source, classes, counts, arguments, workers, progress,
        license={'id': 1, 'name': 'those of the cut-outs and photographs', 'url': ''},
    )  # fmt: skip


def _by_name(cutouts: Iterable[Cutout]) -> dict[str, list[Cutout]]:
    groups: dict[str, list[Cutout]] = {}
    for cutout in sorted(cutouts, key=lambda each: (each.name, each.file)):
        groups.setdefault(cutout.name, []).append(cutout)
    return groups


def _identity(cutout: Cutout) -> tuple[Any, ...]:
    return cutout.file, cutout.name, cutout.properties, cutout.flip


def _digest(descriptions: Iterable[str], paths: Iterable[str]) -> str:
    """Return a digest of descriptions and of the contents of files."""
    digest = hashlib.sha256('\n'.join(descriptions).encode())
    for path in paths:
        digest.update(hashlib.sha256(Path(path).read_bytes()).digest())
    return digest.hexdigest()
