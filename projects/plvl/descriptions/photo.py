"""Define what is known of a photograph and of the objects in it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import pycocotools.mask as mask_utils

from ..datasets.reference import Target

__all__ = ['Photo', 'PhotoObject', 'similar_nouns']

# People call one by the name of another, or annotators do: 'the car' may be what is labelled a
# truck. Names of COCO and VOC.
SIMILAR = (
    ('car', 'truck', 'bus'),
    ('bicycle', 'motorcycle', 'motorbike'),
    ('cow', 'sheep', 'horse'),
    ('dog', 'cat', 'teddy bear'),
    ('backpack', 'handbag', 'suitcase'),
    ('cup', 'bowl', 'wine glass', 'bottle', 'vase'),
    ('potted plant', 'pottedplant', 'vase'),
    ('fork', 'knife', 'spoon'),
    ('sandwich', 'hot dog', 'pizza', 'cake', 'donut'),
    ('apple', 'orange', 'sports ball'),
    ('broccoli', 'carrot'),
    ('chair', 'couch', 'sofa', 'bench'),
    ('tv', 'tvmonitor', 'laptop'),
    ('cell phone', 'remote', 'mouse'),
    ('microwave', 'oven', 'toaster'),
    ('skis', 'snowboard', 'surfboard', 'skateboard'),
    ('bird', 'kite', 'airplane'),
    ('dining table', 'diningtable', 'bed', 'bench'),
)


@dataclass(frozen=True)
class PhotoObject:
    """Represent an annotated object.

    Attributes:
        noun: Name of its class, in lower case.
        box: XYXY in pixels of the upright image.
        target: The annotation.
        crowd: Whether the box covers a group of objects.
        hard: Whether it is marked as difficult to recognize. It counts as an object that others
            may be mistaken for, but no sentence is about it.
        shares: Share of its pixels that has each color; see :func:`color_shares`. Empty if the
            image was not read.
    """

    noun: str
    box: tuple[float, float, float, float]
    target: Target
    crowd: bool = False
    hard: bool = False
    shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def center(self) -> tuple[float, float]:
        """Return the center of the box in pixels."""
        x1, y1, x2, y2 = self.box
        return (x1 + x2) / 2, (y1 + y2) / 2

    @property
    def area(self) -> float:
        """Return the area of the box in square pixels."""
        x1, y1, x2, y2 = self.box
        return (x2 - x1) * (y2 - y1)

    def mask(self, height: int, width: int) -> np.ndarray | None:
        """Return the mask (H, W) bool, or None if the annotation has no outline."""
        outline = self.target.mask
        if outline is None or isinstance(outline, str):
            return None
        if isinstance(outline, list):
            outline = mask_utils.merge(mask_utils.frPyObjects(outline, height, width))
        return mask_utils.decode(outline).astype(bool)


@dataclass(frozen=True)
class Photo:
    """Represent an image with its objects.

    Attributes:
        name: Path of the image relative to the folder of images.
        width: In pixels.
        height: In pixels.
        objects: All annotated objects.
        file: The annotation file, for messages.
        entry: The place in it.
        image_id: Its id in the annotation file.
    """

    name: str
    width: int
    height: int
    objects: tuple[PhotoObject, ...]
    file: str = ''
    entry: str = ''
    image_id: int | str | None = None


def similar_nouns(noun: str, more: Collection[Collection[str]] = ()) -> frozenset[str]:
    """Return the classes whose objects may be called by a noun, itself included.

    Args:
        noun: Name of a class.
        more: Groups of further classes that are mistaken for one another.
    """
    groups = (set(group) for group in (*SIMILAR, *more) if noun in group)
    return frozenset({noun}.union(*groups))
