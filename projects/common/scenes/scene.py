"""Define scenes and sample them from a random generator.

Lengths in a specification are fractions of the side of the canvas, so that a specification can be
drawn at any size. Boxes and masks of a finished `SceneObject` are in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

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
        x1, y1, x2, y2 = self.box
        return (x1 + x2) / 2, (y1 + y2) / 2


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


@dataclass(frozen=True, eq=False)
class Scene:
    """Represent an image with its complete annotations.

    Attributes:
        image: Image (size, size, 3) uint8, BGR.
        objects: Objects in drawing order: a later one may occlude an earlier one.
        masks: Visible pixels (num_objects, size, size) bool of each object.
        background: 'dark', 'grey' or 'light'.
        captions: Five sentences about the image as a whole.
        tags: The shape classes in the image, sorted.
    """

    image: np.ndarray
    objects: tuple[SceneObject, ...]
    masks: np.ndarray
    background: str
    sentences: tuple[SceneSentence, ...]
    captions: tuple[str, ...]
    tags: tuple[str, ...]


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

    placed: list[ObjectSpec] = []
    for item in sorted(wanted, key=lambda w: -w['extent']):
        spec = _place(rng, item, placed)
        if spec is None:
            return None
        placed.append(spec)
    return shuffled(rng, placed)


def _place(
    rng: np.random.Generator, item: dict[str, Any], placed: list[ObjectSpec]
) -> ObjectSpec | None:
    low = BORDER + item['extent'] / 2
    for _ in range(40):
        x = low + (1 - 2 * low) * float(rng.random())
        y = low + (1 - 2 * low) * float(rng.random())
        for other in placed:
            # Squares of the two extents may only touch at their edges or corners.
            reach = (item['extent'] + other.extent) / 2
            overlap_x = reach - abs(x - other.center[0])
            overlap_y = reach - abs(y - other.center[1])
            smaller = min(item['extent'], other.extent)
            if min(overlap_x, overlap_y) > 0 and overlap_x * overlap_y > 0.10 * smaller**2:
                break
        else:
            return ObjectSpec(center=(x, y), **item)
    return None


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
    masks = full_masks.copy()
    for i in range(len(specs) - 1):
        masks[i] &= ~full_masks[i + 1 :].any(axis=0)
    objects: list[SceneObject] = []
    for spec, mask, full in zip(specs, masks, full_masks):
        area, visible = int(mask.sum()), float(mask.sum() / max(1, full.sum()))
        if visible < MIN_VISIBLE:
            return None
        columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        if any(box_iou(box, other.box) >= MAX_BOX_IOU for other in objects):
            return None
        objects.append(
            SceneObject(spec.shape, spec.color, spec.texture, spec.size, box, area, visible)
        )
    return tuple(objects), masks
