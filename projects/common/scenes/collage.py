"""Paste cut-outs on photographs."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from ..files.image_reader import read_image
from . import render
from .captions import make_captions
from .cutouts import Cutout, read_cutout
from .language import make_sentences
from .scene import Scene, box_center, pick, place, shuffled, tight_box, visible_masks
from .wording import Vocabulary

__all__ = ['CollageObject', 'CutoutPatch', 'collage_vocabulary', 'make_collage', 'paste_patch']

# Longer side of an object's unoccluded box, as a fraction of the image's side.
SIZE_BANDS = {'small': (0.20, 0.27), 'large': (0.36, 0.48)}
MIN_OBJECTS, MAX_OBJECTS = 3, 5
MAX_COVER = 0.5  # share of the image that the squares around the objects cover
OVERLAP = 0.3  # share of the smaller one of two squares that the other one may cover
MIN_VISIBLE = 0.6  # share of its pixels; objects that are hidden more are left out
ANGLE = 12.0  # largest rotation in degrees


@dataclass(frozen=True)
class CollageObject:
    """Represent a cut-out in a finished image.

    Attributes:
        name: What sentences call it.
        size: 'small' or 'large'.
        properties: Further words for it, with their fields.
        cutout: File of the cut-out.
        box: XYXY in pixels, tight around the visible mask (x2 and y2 are exclusive).
        area: Number of visible pixels.
        visible: Visible share of the object's own pixels.
    """

    name: str
    size: str
    properties: tuple[tuple[str, str], ...]
    cutout: str
    box: tuple[int, int, int, int]
    area: int
    visible: float

    @property
    def center(self) -> tuple[float, float]:
        """Return the center of the box in pixels."""
        return box_center(self.box)

    @property
    def category(self) -> str:
        """Return the class of the object: its name."""
        return self.name

    def value(self, field: str) -> str | None:
        """Return the name, the size or another word, or None if it is unknown."""
        return {'name': self.name, 'size': self.size, **dict(self.properties)}.get(field)

    def attributes(self) -> dict[str, str | None]:
        """Return what an annotation file says of the object besides its class."""
        return {'size': self.size, **dict(self.properties), 'cutout': self.cutout}


@dataclass(frozen=True)
class _Chosen:
    cutout: Cutout
    size: str
    extent: float
    flip: bool
    angle: float
    gain: float
    blur: float


@dataclass(frozen=True)
class CutoutPatch:
    """Hold a cut-out as it is pasted.

    Attributes:
        origin: x and y of the patch's upper left pixel in the image.
        alpha: Coverage (P, P) float32 of each pixel, from 0 to 1.
        colors: (P, P, 3) float32, BGR, 0 to 255, multiplied by the coverage.
    """

    origin: tuple[int, int]
    alpha: np.ndarray
    colors: np.ndarray


def collage_vocabulary(adjectives: tuple[str, ...]) -> Vocabulary:
    """Return how cut-outs are named, given the columns of adjectives in their table."""
    return Vocabulary(
        noun='name',
        adjectives=adjectives,
        nouns=('object', 'object', 'thing', 'one'),
        plural='objects',
        singles=(('name',), ('name',), ('name',), *((a,) for a in adjectives), ()),
        pairs=tuple((a, 'name') for a in adjectives) or (('name',),),
    )


def make_collage(
    rng: np.random.Generator,
    cutouts: dict[str, list[Cutout]],
    backgrounds: list[str],
    image_size: int,
    vocabulary: Vocabulary,
) -> Scene:
    """Make a scene of three to five cut-outs.

    Args:
        rng: Source of all randomness.
        cutouts: The cut-outs to choose from, by name; at least two names.
        backgrounds: The photographs to choose from.
        image_size: Side of the image in pixels.
        vocabulary: The words of the sentences.
    """
    while True:
        chosen = _choose(rng, cutouts)
        centers = place(rng, [each.extent for each in chosen], OVERLAP)
        if centers is None:
            continue
        patches = [_make_patch(*each, image_size) for each in zip(chosen, centers)]
        order = shuffled(rng, range(len(chosen)))
        chosen, patches = [chosen[i] for i in order], [patches[i] for i in order]
        full = render.full_masks(patches, image_size)
        kept = _not_hidden(full)
        if len(kept) < MIN_OBJECTS:
            continue
        chosen, patches = [chosen[i] for i in kept], [patches[i] for i in kept]
        masks = visible_masks(full[kept])
        objects = tuple(map(_finish, chosen, masks, full[kept]))
        sentences = make_sentences(rng, objects, image_size, vocabulary)
        captions = make_captions(rng, objects, image_size, None, vocabulary)
        if sentences is not None and captions is not None:
            break

    background = pick(rng, backgrounds)
    image = _crop(rng, _read_background(background), image_size)
    strength = float(rng.uniform(0.2, 0.5))
    for patch in patches:
        render.draw_shadow(image, patch, strength)
        paste_patch(image, patch)
    return Scene(
        image=render.add_noise(rng, image),
        objects=objects,
        masks=masks,
        background=background,
        sentences=sentences,
        captions=captions,
        tags=tuple(sorted({obj.name for obj in objects})),
    )


def _choose(rng: np.random.Generator, cutouts: dict[str, list[Cutout]]) -> list[_Chosen]:
    """Choose what is shown, largest first: every scene has its own two or three names."""
    count = int(rng.integers(MIN_OBJECTS, MAX_OBJECTS + 1))
    names = shuffled(rng, sorted(cutouts))[: 2 + int(count > 3 and rng.random() < 0.4)]
    # Every name occurs; the rest of the objects share them.
    names += [pick(rng, names) for _ in range(count - len(names))]
    chosen, cover = [], 0.0
    for i, name in enumerate(names):
        size = pick(rng, tuple(SIZE_BANDS))
        rest = (count - i - 1) * SIZE_BANDS['small'][1] ** 2
        if cover + SIZE_BANDS['large'][1] ** 2 + rest > MAX_COVER:
            size = 'small'
        extent = float(rng.uniform(*SIZE_BANDS[size]))
        cover += extent**2
        cutout = pick(rng, cutouts[name])
        chosen.append(
            _Chosen(
                cutout,
                size,
                extent,
                flip=bool(rng.random() < 0.5) and cutout.flip,
                angle=float(rng.uniform(-ANGLE, ANGLE)),
                gain=float(rng.uniform(0.85, 1.15)),
                blur=float(rng.uniform(0.3, 0.6)),
            )
        )
    return sorted(chosen, key=lambda each: -each.extent)


def _make_patch(chosen: _Chosen, center: tuple[float, float], image_size: int) -> CutoutPatch:
    """Turn, scale and soften a cut-out. Colors are multiplied by alpha, so that none bleed in."""
    pixels: np.ndarray = read_cutout(chosen.cutout.path).astype(np.float32)
    side = chosen.extent * image_size
    pixels[..., :3] *= pixels[..., 3:] * np.float32(chosen.gain / 255)
    if chosen.flip:
        pixels = pixels[:, ::-1]
    pixels = _scaled(pixels, min(1.0, 2 * side / max(pixels.shape[:2])))  # turns faster
    height, width = pixels.shape[:2]
    diagonal = int(np.ceil(np.hypot(height, width))) + 2
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), chosen.angle, 1.0)
    turn[:, 2] += diagonal / 2 - width / 2, diagonal / 2 - height / 2
    pixels = cv2.warpAffine(pixels, turn, (diagonal, diagonal), flags=cv2.INTER_LINEAR)
    x1, y1, x2, y2 = tight_box(pixels[..., 3] >= 127.5)
    pixels = _scaled(pixels[y1:y2, x1:x2], side / max(y2 - y1, x2 - x1))
    height, width = pixels.shape[:2]
    patch_size = max(height, width) + 6  # a margin for the soft edge
    left, top = (patch_size - width) // 2, (patch_size - height) // 2
    square = np.zeros((patch_size, patch_size, 4), np.float32)
    square[top : top + height, left : left + width] = pixels
    square = cv2.GaussianBlur(square, (5, 5), chosen.blur)
    origin = tuple(round(c * image_size - patch_size / 2) for c in center)
    return CutoutPatch((origin[0], origin[1]), square[..., 3] / 255, square[..., :3])


def _scaled(pixels: np.ndarray, scale: float) -> np.ndarray:
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(pixels, (width, height), interpolation=how)


def paste_patch(image: np.ndarray, patch: CutoutPatch) -> None:
    """Paste a patch into the image (size, size, 3) float32, in place."""
    window, inner = render.windows(patch.origin, patch.alpha.shape[0], image.shape[0])
    image[window] *= 1 - patch.alpha[inner][..., None]
    image[window] += np.minimum(patch.colors[inner], 255)


def _not_hidden(full_masks: np.ndarray) -> list[int]:
    """Return the objects that stay when those hidden too much are left out, worst first."""
    kept = list(range(len(full_masks)))
    while kept:
        full = full_masks[kept]
        visible = visible_masks(full).sum(axis=(1, 2)) / np.maximum(1, full.sum(axis=(1, 2)))
        worst = int(visible.argmin())
        if visible[worst] >= MIN_VISIBLE:
            break
        del kept[worst]
    return kept


def _finish(chosen: _Chosen, mask: np.ndarray, full: np.ndarray) -> CollageObject:
    return CollageObject(
        name=chosen.cutout.name,
        size=chosen.size,
        properties=chosen.cutout.properties,
        cutout=chosen.cutout.file,
        box=tight_box(mask),
        area=int(mask.sum()),
        visible=float(mask.sum() / full.sum()),
    )


@functools.lru_cache(maxsize=64)
def _read_background(path: str) -> Any:
    return read_image(path)


def _crop(rng: np.random.Generator, photograph: np.ndarray, image_size: int) -> np.ndarray:
    """Cut a random square out of a photograph: (size, size, 3) float32, BGR, 0 to 255."""
    height, width = photograph.shape[:2]
    side = int(rng.integers(image_size, min(height, width) + 1))
    x, y = (int(rng.integers(0, length - side + 1)) for length in (width, height))
    crop: np.ndarray = photograph[y : y + side, x : x + side]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    crop = cv2.resize(crop, (image_size, image_size), interpolation=cv2.INTER_AREA)
    gain = rng.uniform(0.75, 1.2) * rng.uniform(0.95, 1.05, 3)  # brightness and white balance
    return np.minimum(crop.astype(np.float32) * gain.astype(np.float32), 255)
