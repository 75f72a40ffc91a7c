"""Make sentences about the objects of photographs, and split them by image."""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from projects.common.errors import InputError
from projects.common.files.image_reader import read_image
from projects.common.scenes.scene import shuffled

from ..datasets.reference import Reference, Sentence
from .colors import color_shares, has_cast
from .description import Description, wordings
from .photo import Photo
from .propose import Rules, descriptions_of, eligible
from .read_back import RESERVED, read_back

__all__ = ['describe_photo', 'split_by_image', 'with_colors']


def with_colors(photo: Photo, images: str | os.PathLike) -> Photo:
    """Return a photograph whose objects have the shares of their colors.

    An image that has a color as a whole (:func:`has_cast`) tells nothing of its objects' colors.

    Args:
        photo: The photograph.
        images: Folder of the images.

    Raises:
        FileNotFoundError: The image does not exist.
        InputError: The image cannot be read, or has another size than annotated.
    """
    path = os.path.join(images, photo.name)
    image = read_image(path)
    if image.shape[:2] != (photo.height, photo.width):
        raise InputError(
            f'{photo.file}: {photo.entry}: found {photo.width}x{photo.height} pixels, expected '
            f'{image.shape[1]}x{image.shape[0]} as {path} has'
        )
    if has_cast(image):
        return photo
    objects = tuple(replace(obj, shares=color_shares(image, obj)) for obj in photo.objects)
    return replace(photo, objects=objects)


def describe_photo(
    photo: Photo, seed: int, per_object: int = 3, rules: Rules | None = None
) -> list[Reference]:
    """Make sentences about the objects of a photograph.

    They depend on the seed, on the name of the image and on its objects, not on other images.
    Descriptions of different kinds are preferred.

    Args:
        photo: The photograph.
        seed: Seed of the choice among descriptions and wordings.
        per_object: Most sentences about an object.
        rules: What may be described.

    Returns:
        A reference for each object that has sentences.

    Raises:
        RuntimeError: A sentence, read back, does not mean its object alone.
    """
    rules = rules or Rules()
    rng = np.random.default_rng([seed, zlib.crc32(photo.name.encode())])
    references = []
    for index, obj in enumerate(photo.objects):
        if RESERVED & set(obj.noun.split()) or not eligible(photo, index, rules):
            continue
        sentences = []
        for text, kind in _varied(rng, list(descriptions_of(photo, index, rules)))[:per_object]:
            if read_back(text, photo, rules.similar) != [index]:
                raise RuntimeError(f'{photo.name}: {text!r} does not mean object {index} alone')
            sentences.append(Sentence(text, kind=kind))
        if sentences:
            references.append(
                Reference(
                    file=photo.file,
                    entry=photo.entry,
                    image=photo.name,
                    sentences=sentences,
                    targets=[obj.target],
                    image_id=photo.image_id,
                    height=photo.height,
                    width=photo.width,
                )
            )
    return references


def _varied(rng: np.random.Generator, descriptions: list[Description]) -> list[tuple[str, str]]:
    """Return texts and kinds in random order, such that kinds and phrases change soon.

    Other wordings of a description come after all descriptions.
    """
    rest = shuffled(rng, descriptions)
    ordered: list[Description] = []
    seen: Counter = Counter()
    while rest:
        best = min(rest, key=lambda each: (seen[each.kind], seen[each.phrase]))
        rest.remove(best)
        ordered.append(best)
        seen.update([best.kind, best.phrase])
    texts = [(shuffled(rng, wordings(each)), each.kind) for each in ordered]
    most = max((len(several) for several, _ in texts), default=0)
    return [(several[i], kind) for i in range(most) for several, kind in texts if i < len(several)]


def split_by_image(names: Sequence[str], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Assign every image to a split.

    Args:
        names: The images.
        shares: Share of each split; they add up to 1.
        seed: Seed of the order of the images.

    Returns:
        The split of each image.

    Raises:
        InputError: The shares do not add up to 1, or an image has no split of its own.
    """
    if abs(sum(shares.values()) - 1) > 1e-9 or min(shares.values()) < 0:
        raise InputError(f'splits: found the shares {dict(shares)}, expected a sum of 1')
    order = shuffled(np.random.default_rng(seed), sorted(names))
    ends = np.rint(np.cumsum(list(shares.values())) * len(order)).astype(int)
    kinds = np.searchsorted(ends, np.arange(len(order)), side='right')
    return {name: list(shares)[kind] for name, kind in zip(order, kinds)}
