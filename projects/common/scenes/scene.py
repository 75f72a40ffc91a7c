"""Define scenes and sample them from a random generator.

Lengths in a specification are fractions of the side of the canvas, so that a specification can be
drawn at any size. Boxes and masks of a finished `SceneObject` are in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

SHAPES = ('circle', 'square', 'triangle', 'star', 'cross', 'heart')
COLORS = ('red', 'orange', 'yellow', 'green', 'blue', 'purple')
TEXTURES = ('plain', 'striped', 'spotted')  # distinguishable even on small stars at 128 pixels
SIZES = ('small', 'large')
# Longer side of an object's unoccluded box. The gap between the bands gives 'small' and 'large' an
# absolute meaning.
SIZE_BANDS = {'small': (0.17, 0.22), 'large': (0.29, 0.37)}

MIN_VISIBLE = 0.85  # share of each object's mask
MAX_BOX_IOU = 0.10
BORDER = 0.02  # between an object and the edge of the image
# Share of the canvas that boxes may cover; placing them becomes a jigsaw puzzle beyond it.
MAX_COVER = 0.44

_T = TypeVar('_T')


class Described(Protocol):
    """Describe what sentences, captions and annotation files need to know of an object."""

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Return the box, XYXY in pixels."""

    @property
    def area(self) -> int:
        """Return the number of visible pixels."""

    @property
    def size(self) -> str:
        """Return 'small' or 'large'."""

    @property
    def center(self) -> tuple[float, float]:
        """Return the center of the box in pixels."""

    @property
    def category(self) -> str:
        """Return the name of the class."""

    def value(self, field: str) -> str | None:
        """Return the word for a property, or None if it is unknown."""

    def attributes(self) -> dict[str, str | None]:
        """Return what an annotation file says of the object besides its class."""


@dataclass(frozen=True)
class ObjectSpec:
    """Represent an object before it is drawn, with lengths as fractions of the canvas side.

    Attributes:
        center: x and y of the center of the unoccluded box.
        extent: Longer side of the unoccluded box.
        angle: Rotation in degrees.
    """

    shape: str
    color: str
    texture: str
    size: str
    center: tuple[float, float]
    extent: float
    angle: float


@dataclass(frozen=True)
class SceneObject:
    """Represent an object of a finished image.

    Attributes:
        box: XYXY in pixels, tight around the visible mask (x2 and y2 are exclusive).
        area: Number of visible pixels.
        visible: Visible share of the object's own pixels.
    """

    shape: str
    color: str
    texture: str
    size: str
    box: tuple[int, int, int, int]
    area: int
    visible: float

    @property
    def center(self) -> tuple[float, float]:
        """Return the center of the box in pixels, to which all direction words refer."""
        return box_center(self.box)

    @property
    def category(self) -> str:
        """Return the class of the object: its shape."""
        return self.shape

    def value(self, field: str) -> str | None:
        """Return 'shape', 'color', 'texture' or 'size'."""
        return getattr(self, field)

    def attributes(self) -> dict[str, str | None]:
        """Return what an annotation file says of the object besides its class."""
        return {'color': self.color, 'texture': self.texture, 'size': self.size}


@dataclass(frozen=True)
class SceneSentence:
    """Represent a sentence about one object.

    Attributes:
        kind: What is needed to resolve it: 'attribute', 'size', 'position' or 'relation'.
        target: Index of the object among the scene's objects.
    """

    text: str
    kind: str
    target: int

    @property
    def targets(self) -> tuple[int, ...]:
        """Return the target as the only one."""
        return (self.target,)


@dataclass(frozen=True)
class SetSentence:
    """Represent a sentence about several objects or none.

    Attributes:
        kind: 'several' or 'none'.
        targets: Indices of the objects among the scene's objects.
    """

    text: str
    kind: str
    targets: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Scene:
    """Represent an image with its complete annotations.

    Attributes:
        image: Image (size, size, 3) uint8, BGR.
        objects: Objects in drawing order: a later one may occlude an earlier one. Those of
            generated shapes are :class:`SceneObject`.
        masks: Visible pixels (num_objects, size, size) bool of each object.
        background: 'dark', 'grey' or 'light', or the file of a photograph.
        captions: Five sentences about the image as a whole.
        tags: The classes in the image, sorted.
        set_sentences: Sentences about several objects or none, if they are asked for.
    """

    image: np.ndarray
    objects: tuple[Any, ...]
    masks: np.ndarray
    background: str
    sentences: tuple[SceneSentence, ...]
    captions: tuple[str, ...]
    tags: tuple[str, ...]
    set_sentences: tuple[SetSentence, ...] = ()


def pick(rng: np.random.Generator, items: Sequence[_T]) -> _T:
    """Return a random item (`Generator.choice` is ten times as slow)."""
    return items[int(rng.random() * len(items))]


def shuffled(rng: np.random.Generator, items: Sequence[_T]) -> list[_T]:
    """Return a list of the items in random order."""
    return [items[i] for i in rng.permutation(len(items))]


def sample_specs(
    rng: np.random.Generator, min_objects: int = 3, max_objects: int = 7
) -> list[ObjectSpec] | None:
    """Sample the objects of one scene.

    Every scene has its own small palette of shapes, colors and textures. Its objects share
    properties, so that a single word seldom identifies an object.

    Returns:
        The objects in drawing order, or None if they did not fit (draw again).
    """
    count = int(rng.integers(min_objects, max_objects + 1))
    few = 2 if count <= 4 else 3
    shapes = shuffled(rng, SHAPES)[: 2 + int(rng.random() < 0.35 * (few - 1))]
    colors = shuffled(rng, COLORS)[: 2 + int(rng.random() < 0.35 * (few - 1))]
    textures = shuffled(rng, TEXTURES)[: 2 + int(rng.random() < 0.4)]

    wanted: list[dict[str, Any]] = []
    cover = 0.0
    for _ in range(count):
        size = pick(rng, SIZES)
        extent = float(rng.uniform(*SIZE_BANDS[size]))
        # Leave enough room for the remaining objects to be small ones.
        rest = (count - len(wanted) - 1) * SIZE_BANDS['small'][1] ** 2
        if size == 'large' and cover + extent**2 + rest > MAX_COVER:
            size = 'small'
            extent = float(rng.uniform(*SIZE_BANDS[size]))
        cover += extent**2
        wanted.append(
            {
                'shape': pick(rng, shapes),
                'color': pick(rng, colors),
                'texture': pick(rng, textures),
                'size': size,
                'extent': extent,
                'angle': float(rng.uniform(-14, 14)),
            }
        )
    if len({w['shape'] for w in wanted}) < 2 and len({w['color'] for w in wanted}) < 2:
        return None

    wanted.sort(key=lambda w: -w['extent'])
    centers = place(rng, [w['extent'] for w in wanted], overlap=0.10)
    if centers is None:
        return None
    return shuffled(rng, [ObjectSpec(center=c, **w) for c, w in zip(centers, wanted)])


def place(
    rng: np.random.Generator, extents: Sequence[float], overlap: float
) -> list[tuple[float, float]] | None:
    """Find a place for every object, one after the other.

    Args:
        rng: Chooses the places.
        extents: Longer sides of the objects' boxes, as fractions of the canvas side. Every object
            is given a square of this side.
        overlap: How much of the smaller one of two squares the other one may cover.

    Returns:
        The centers, or None if no place was found for an object.
    """
    placed: list[tuple[float, float]] = []
    for extent in extents:
        center = _find_place(rng, extent, list(zip(placed, extents)), overlap)
        if center is None:
            return None
        placed.append(center)
    return placed


def _find_place(
    rng: np.random.Generator,
    extent: float,
    placed: list[tuple[tuple[float, float], float]],
    overlap: float,
) -> tuple[float, float] | None:
    low = BORDER + extent / 2
    for _ in range(40):
        x = low + (1 - 2 * low) * float(rng.random())
        y = low + (1 - 2 * low) * float(rng.random())
        for (other_x, other_y), other in placed:
            # Squares of the two extents may only touch at their edges or corners.
            reach = (extent + other) / 2
            overlap_x, overlap_y = reach - abs(x - other_x), reach - abs(y - other_y)
            smaller = min(extent, other)
            if min(overlap_x, overlap_y) > 0 and overlap_x * overlap_y > overlap * smaller**2:
                break
        else:
            return x, y
    return None


def box_center(box: tuple[int, int, int, int]) -> tuple[float, float]:
    """Return the center (x, y) of an XYXY box."""
    x1, y1, x2, y2 = box
    return (x1 + x2) / 2, (y1 + y2) / 2


def tight_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return the XYXY box around the pixels of a mask (H, W) bool; x2 and y2 are exclusive."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def visible_masks(full_masks: np.ndarray) -> np.ndarray:
    """Remove from each mask (num_objects, H, W) bool what later objects hide."""
    masks = full_masks.copy()
    for i in range(len(masks) - 1):
        masks[i] &= ~full_masks[i + 1 :].any(axis=0)
    return masks


def box_iou(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """Compute the intersection over union of two XYXY boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    inter = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    return inter / union


def finish_objects(
    specs: list[ObjectSpec], full_masks: np.ndarray
) -> tuple[tuple[SceneObject, ...], np.ndarray] | None:
    """Occlude earlier objects by later ones, and measure what stays visible.

    Args:
        specs: The objects in drawing order.
        full_masks: Masks (num_objects, H, W) bool of the objects, each drawn alone.

    Returns:
        The objects and their visible masks, or None if too much is hidden.
    """
    masks = visible_masks(full_masks)
    objects: list[SceneObject] = []
    for spec, mask, full in zip(specs, masks, full_masks):
        area, visible = int(mask.sum()), float(mask.sum() / max(1, full.sum()))
        if visible < MIN_VISIBLE:
            return None
        box = tight_box(mask)
        if any(box_iou(box, other.box) >= MAX_BOX_IOU for other in objects):
            return None
        objects.append(
            SceneObject(spec.shape, spec.color, spec.texture, spec.size, box, area, visible)
        )
    return tuple(objects), masks
