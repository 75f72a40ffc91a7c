"""Generate a complete scene from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from . import render
from .captions import make_captions
from .language import make_sentences
from .scene import Scene, SetSentence, finish_objects, pick, sample_specs
from .set_sentences import make_set_sentences

SPLITS = ('train', 'val', 'test')


@dataclass(frozen=True)
class ShapeScenes:
    """Generate the scenes of a data set of shapes; see :func:`generate_scene`."""

    image_size: int
    seed: int
    generalized: bool = False

    def scene(self, split: str, index: int) -> Scene:
        """Generate a scene of a split."""
        return generate_scene(
            index,
            seed=self.seed,
            split=split,
            image_size=self.image_size,
            generalized=self.generalized,
        )


def generate_scene(
    index: int,
    seed: int = 0,
    split: str = 'train',
    image_size: int = 128,
    min_objects: int = 3,
    max_objects: int = 7,
    generalized: bool = False,
) -> Scene:
    """Generate one scene, which is bit-for-bit reproducible from its arguments.

    Args:
        index: Index of the scene in its split.
        seed: Seed of the data set.
        split: 'train', 'val' or 'test'. Each split has its own random number stream.
        image_size: Side of the image in pixels, 64 to 1024.
        min_objects: Minimum number of objects, at least 3.
        max_objects: Maximum number of objects, at most 7.
        generalized: Whether to add sentences about several objects and none. The rest of the scene
            is the same.

    Raises:
        ValueError: An argument is out of range.
    """
    if split not in SPLITS:
        raise InputError(f'split: found {split!r}, expected one of {", ".join(SPLITS)}')
    if not 64 <= image_size <= 1024:
        raise InputError(f'image_size: found {image_size}, expected 64 to 1024 pixels')
    if not 3 <= min_objects <= max_objects <= 7:
        raise InputError(
            f'min_objects, max_objects: found {min_objects}, {max_objects}, '
            'expected 3 <= min_objects <= max_objects <= 7'
        )
    if seed < 0 or index < 0:
        raise InputError(f'seed, index: found {seed}, {index}, expected numbers from 0')
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    while True:
        specs = sample_specs(rng, min_objects, max_objects)
        if specs is None:
            continue
        patches = [render.object_patch(spec, image_size) for spec in specs]
        finished = finish_objects(specs, render.full_masks(patches, image_size))
        if finished is None:
            continue
        objects, masks = finished
        sentences = make_sentences(rng, objects, image_size)
        if sentences is None:
            continue
        background = pick(rng, tuple(render.BACKGROUNDS))
        captions = make_captions(rng, objects, image_size, background)
        if captions is not None:
            break

    image = render.draw_background(rng, image_size, background)
    for spec, patch in zip(specs, patches):
        render.draw_object(rng, image, spec, patch)
    set_sentences: tuple[SetSentence, ...] = ()
    if generalized:  # with random numbers of their own, so that nothing else changes
        own = np.random.default_rng([seed, SPLITS.index(split), index, 1])
        set_sentences = make_set_sentences(own, objects, image_size)
    return Scene(
        image=render.add_noise(rng, image),
        objects=objects,
        masks=masks,
        background=background,
        sentences=sentences,
        captions=captions,
        tags=tuple(sorted({obj.shape for obj in objects})),
        set_sentences=set_sentences,
    )
