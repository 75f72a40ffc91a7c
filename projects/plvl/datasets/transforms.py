"""Transforms that keep the image and the sentence consistent."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmdet.datasets.transforms import LoadAnnotations, RandomFlip, Resize, ResizeShortestEdge
from mmdet.structures.bbox import autocast_box_type
from mmdet.structures.mask import BitmapMasks
from mmengine.registry import TRANSFORMS
from torch.nn import functional as F

from projects.common.errors import InputError

from .checks import Invalid, check_box
from .image_sizes import check_image_size
from .masks import check_mask_meets_box, read_mask_file

__all__ = [
    'GroundingResize',
    'LoadGroundingAnnotations',
    'RandomFlipWithWords',
    'RandomSafeCrop',
    'swap_left_right',
]


@TRANSFORMS.register_module()
class LoadGroundingAnnotations(LoadAnnotations):
    """Load boxes, labels and bitmap masks of the objects that the sentence refers to.

    N below is their number: 1, unless the dataset has ``targets='any'``.

    Place it before resizing for training. Placed after resizing, as in testing, the ground truth
    stays in pixels of the original image.

    Required keys: ``instances``, ``ori_shape``, and ``height`` and ``width`` if annotated. Added
    keys: ``gt_bboxes`` (N, 4), ``gt_bboxes_labels`` (N,), ``gt_masks`` (:class:`BitmapMasks`,
    N x H x W), ``gt_ignore_flags`` (N,) and ``with_mask``, which is False if the data has no mask;
    ``gt_masks`` is then all zero.

    Args:
        box_type: As in ``mmdet.LoadAnnotations``.

    Raises:
        Invalid: If the image size differs from the annotation, or the box or mask does
            not fit the image.
    """

    def __init__(self, box_type: str = 'hbox') -> None:
        super().__init__(
            with_bbox=True, with_label=True, with_mask=True, poly2mask=True, box_type=box_type
        )

    def transform(self, results: dict) -> dict:
        """Add the box and the mask, which is empty if the data has none.

        Raises:
            Invalid: If the image size differs from its annotation, or the mask cannot be
                read.
        """
        height, width = results['ori_shape']
        check_image_size((results.get('height'), results.get('width')), (height, width))
        for instance in results['instances']:
            instance['bbox'] = check_box(instance['bbox'], height, width)
            if isinstance(instance.get('mask'), str):
                instance['mask'] = read_mask_file(instance['mask'])
                check_mask_meets_box(instance['mask'], instance['bbox'])
            size = instance['mask']['size'] if isinstance(instance.get('mask'), dict) else None
            if size is not None and tuple(size) != (height, width):
                expected = f'a mask of {width}x{height} pixels, as the image'
                raise Invalid('mask', expected, f'one of {size[1]}x{size[0]}', 'invalid mask')
        results['with_mask'] = all('mask' in instance for instance in results['instances'])
        return super().transform(results)

    def _load_masks(self, results: dict) -> None:
        if results['with_mask']:
            super()._load_masks(results)
            if not results['gt_masks'].masks.any((1, 2)).all() or results['gt_ignore_flags'].any():
                found = 'one that covers no pixel of the image'
                raise Invalid('mask', 'a mask inside the image', found, 'invalid mask')
        else:
            height, width = results['ori_shape']
            empty = np.zeros((len(results['instances']), height, width), dtype=np.uint8)
            results['gt_masks'] = BitmapMasks(empty, height, width)


def _contiguous(img: np.ndarray) -> np.ndarray:
    """Copy an image (H, W, 3) if it is a view with reversed columns or channels.

    Decoding with Pillow and flipping leave such views, which OpenCV copies faster than NumPy.
    """
    if img.ndim != 3 or img.shape[2] != 3:
        return img
    mirrored, swapped = img.strides[1] < 0, img.strides[2] < 0
    if mirrored:
        img = img[:, ::-1]
    if swapped:
        img = cv2.cvtColor(img[..., ::-1], cv2.COLOR_RGB2BGR)
    return cv2.flip(img, 1) if mirrored else img


@TRANSFORMS.register_module()
class GroundingResize(Resize):
    """Resize like ``mmdet.Resize``, but keep masks exactly aligned with their objects.

    ``mmdet.Resize`` samples masks at the upper left pixel of each cell but centers the cells for
    the image, so every resize shifts masks by half a pixel to the lower right. Over the two or
    three resizes of the grounding augmentation this adds up. Here masks are sampled at the cell
    center.

    The released PLVL code resizes in two steps. PIL, which averages over the pixels that are
    merged, brings the longer side to the input size of the network, and
    ``torch.nn.functional.interpolate`` with ``align_corners=True`` stretches the other side::

        dict(type='GroundingResize', scale=(448, 448), keep_ratio=True, backend='pillow'),
        dict(type='GroundingResize', scale=(448, 448), keep_ratio=False, align_corners=True),

    Keys and arguments are those of ``mmdet.Resize``, plus:

    Args:
        align_corners: Interpolate bilinearly between the centers of the corner pixels, without
            rounding. The image becomes float32, which transforms for uint8 do not accept. Boxes
            and masks are resized as usual.

    Raises:
        ValueError: If ``align_corners`` is combined with ``keep_ratio`` or another backend or
            interpolation.
    """

    def __init__(self, *args, align_corners: bool = False, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.align_corners = align_corners
        found = (self.keep_ratio, self.backend, self.interpolation)
        if align_corners and found != (False, 'cv2', 'bilinear'):
            raise InputError(
                'GroundingResize: align_corners=True stretches by torch, bilinearly; found '
                f'keep_ratio={found[0]}, backend={found[1]!r}, interpolation={found[2]!r}'
            )

    def _resize_img(self, results: dict) -> None:
        results['img'] = _contiguous(results['img'])
        if not self.align_corners:
            super()._resize_img(results)
            return
        width, height = results['scale']
        img = torch.from_numpy(np.ascontiguousarray(results['img'])).permute(2, 0, 1)[None].float()
        old_height, old_width = img.shape[2:]
        img = F.interpolate(img, size=(height, width), mode='bilinear', align_corners=True)
        results['img'] = img[0].permute(1, 2, 0).contiguous().numpy()
        results['img_shape'] = (height, width)
        results['scale_factor'] = (width / old_width, height / old_height)
        results['keep_ratio'] = False

    def _resize_masks(self, results: dict) -> None:
        if results.get('gt_masks') is None:
            return
        height, width = results['img_shape']
        masks = [
            cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
            for mask in results['gt_masks'].masks
        ]
        results['gt_masks'] = BitmapMasks(masks, height, width)


# Match 'left' and 'right' as whole words and in common compounds. Other letters next to them make
# a different word ('bright', 'leftover', 'cleft').
_LEFT_RIGHT = re.compile(
    r'(?<![a-z])'
    r'(top|bottom|upper|lower|far|front|back|rear|mid|middle|center|centre)?'
    r'(left|right)'
    r'(most|hand|handed|hander|side|ward|wards|er|est|ie|y)?s?'
    r'(?![a-z])',
    re.IGNORECASE,
)
_LEFT_RIGHT_ANYWHERE = re.compile('left|right', re.IGNORECASE)
_SWAPPED = {'left': 'right', 'right': 'left'}


def swap_left_right(text: str, whole_words: bool = True) -> str:
    """Swap the words left and right, as a mirror does, preserving case.

    Args:
        text: A sentence.
        whole_words: Whether to swap whole words only. False also swaps inside other words
            ('bright' becomes 'bleft'), as the released PLVL code does.

    >>> swap_left_right("LEFT man's right-hand bag, bright, the left-most")
    "RIGHT man's left-hand bag, bright, the right-most"
    """

    group = 2 if whole_words else 0

    def swap(match: re.Match) -> str:
        word = match.group(group)
        other = _SWAPPED[word.lower()]
        if word.isupper():
            other = other.upper()
        elif word[0].isupper():
            other = other.capitalize()
        start, end = match.span(group)
        return match.string[match.start() : start] + other + match.string[end : match.end()]

    return (_LEFT_RIGHT if whole_words else _LEFT_RIGHT_ANYWHERE).sub(swap, text)


@TRANSFORMS.register_module()
class RandomFlipWithWords(RandomFlip):
    """Mirror the image, box and mask, and swap left and right in the sentence.

    Whole words are swapped ('leftmost', 'left-hand', "left's" and 'topleft' too; 'bright' and
    'leftover' are kept). 'right' in another sense ('right behind the car') is swapped as well,
    which only rewords the sentence.

    Required keys: ``img``, ``text``; ``gt_bboxes``, ``gt_masks`` if present. Modified keys: the
    same. Added keys: ``flip``, ``flip_direction``.

    Args:
        prob: Probability of a flip.
        whole_words: False also swaps 'left' and 'right' inside other words, as released.
    """

    def __init__(self, prob: float = 0.5, whole_words: bool = True) -> None:
        super().__init__(prob=prob, direction='horizontal')
        self.whole_words = whole_words

    def transform(self, results: dict) -> dict:
        """Flip the image, box, mask and words consistently."""
        results = super().transform(results)
        if results['flip']:
            results['text'] = swap_left_right(results['text'], self.whole_words)
        return results


@TRANSFORMS.register_module()
class RandomSafeCrop(BaseTransform):
    """Resize the short side, then crop at random around the whole object.

    This is the crop branch of the PLVL augmentation. The box and every pixel of the mask stay
    inside the crop, which grows if the object is larger. Of several objects, all do. Sentences that
    contain one of ``words`` are not cropped, because a crop moves what is 'at the top' and removes
    what makes something 'the second'.

    Required keys: ``img``, ``text``, ``gt_bboxes``, ``gt_masks``. Modified keys: the same except
    ``text``, and ``img_shape``.

    Args:
        prob: Probability of a crop.
        short_sides: Candidate lengths in pixels of the short side before the crop. None does not
            resize.
        crop_range: Minimum and maximum side of the crop in pixels; width and height are drawn
            independently.
        words: Words (in lower case) that forbid a crop. The default has the five of the paper
            (left, right, top, bottom, middle) and others that give a position in the image or
            count. Relations ('in front of', 'behind', 'next to') are not included, because they
            remain true after a crop.
        whole_words: False also finds ``words`` inside other words ('bright', 'laptop', 'stop'), as
            the released PLVL code does with its five: left, right, top, bottom, middle.
        backend: Backend that resizes the short side: 'cv2', or 'pillow', which averages over the
            pixels that are merged, as released.
    """

    DEFAULT_WORDS = (
        'left', 'right', 'top', 'bottom', 'middle', 'mid', 'center', 'centre', 'central',
        'centermost', 'middlemost', 'topmost', 'bottommost', 'upper', 'uppermost', 'lower',
        'lowest', 'lowermost', 'highest', 'above', 'below', 'corner', 'corners', 'side', 'edge',
        'end', 'border', 'far', 'farthest', 'furthest', 'half', 'first', 'second', 'third',
        'fourth', 'fifth', 'sixth', 'seventh', 'eighth', 'ninth', 'tenth', 'last', '1st', '2nd',
        '3rd', '4th', '5th', '6th', '7th', '8th', '9th', '10th',
    )  # fmt: skip

    def __init__(
        self,
        prob: float = 0.5,
        short_sides: tuple[int, ...] | None = (400, 500, 600),
        crop_range: tuple[int, int] = (384, 600),
        words: tuple[str, ...] = DEFAULT_WORDS,
        whole_words: bool = True,
        backend: str = 'cv2',
    ) -> None:
        if not 0 <= prob <= 1:
            raise InputError(f'RandomSafeCrop: prob={prob}: expected a number from 0 to 1')
        if not 0 < crop_range[0] <= crop_range[1]:
            raise InputError(f'RandomSafeCrop: crop_range={crop_range}: expected (min, max)')
        self.prob = prob
        self.short_sides = short_sides
        self.crop_range = crop_range
        self.words = frozenset(word.lower() for word in words)
        self.whole_words = whole_words
        self.backend = backend
        self.resize = ResizeShortestEdge(scale=0, resize_type='GroundingResize', backend=backend)

    def has_direction(self, text: str) -> bool:
        """Return whether the sentence has a word that forbids a crop."""
        if not self.whole_words:
            return any(word in text.lower() for word in self.words)
        if _LEFT_RIGHT.search(text) and not self.words.isdisjoint(('left', 'right')):
            return True
        return not self.words.isdisjoint(re.findall(r'[a-z0-9]+', text.lower()))

    @cache_randomness
    def _random_start(self) -> bool:
        return np.random.rand() < self.prob

    @cache_randomness
    def _random_window(self, size: int, first: float, last: float) -> tuple[int, int]:
        """Draw the crop's start and end along a side of ``size`` pixels around [first, last]."""
        first, last = math.floor(first), math.ceil(last)
        low, high = (min(size, limit) for limit in self.crop_range)
        length = max(np.random.randint(low, high + 1), last - first)
        start = np.random.randint(max(0, last - length), min(first, size - length) + 1)
        return start, start + length

    @cache_randomness
    def _random_short_side(self, short_sides: Sequence[int]) -> int:
        return int(np.random.choice(short_sides))

    @autocast_box_type()
    def transform(self, results: dict) -> dict:
        """Crop the sample, unless a crop could make its sentence untrue."""
        if not self._random_start() or self.has_direction(results['text']):
            return results
        if self.short_sides:
            self.resize.scale = self._random_short_side(self.short_sides)
            results = self.resize(results)
        boxes, masks = results['gt_bboxes'], results['gt_masks']
        # Include the mask, which may extend beyond the annotated box.
        extents = [cv2.boundingRect(mask) for mask in masks.masks if mask.any()]
        height, width = results['img'].shape[:2]
        x1, y1, x2, y2 = width, height, 0, 0  # of no object, which restricts nothing
        if len(boxes):
            x1, y1 = boxes.tensor[:, :2].amin(dim=0).tolist()
            x2, y2 = boxes.tensor[:, 2:].amax(dim=0).tolist()
        for left, top, w, h in extents:
            x1, x2 = min(x1, left), max(x2, left + w)
            y1, y2 = min(y1, top), max(y2, top + h)
        left, right = self._random_window(width, x1, x2)
        top, bottom = self._random_window(height, y1, y2)

        results['img'] = np.ascontiguousarray(results['img'][top:bottom, left:right])
        results['img_shape'] = results['img'].shape[:2]
        boxes.translate_([-left, -top])
        results['gt_masks'] = masks.crop(np.array([left, top, right, bottom]))
        return results

    def __repr__(self) -> str:
        """Return the arguments in the style of mmcv transforms."""
        return (
            f'{type(self).__name__}(prob={self.prob}, short_sides={self.short_sides}, '
            f'crop_range={self.crop_range}, words={sorted(self.words)}, '
            f'whole_words={self.whole_words}, backend={self.backend!r})'
        )
