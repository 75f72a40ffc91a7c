"""Transforms in which the picture and the sentence have to agree."""

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

from .annotations import InvalidSampleError, check_box, check_mask_meets_box
from .json_lines import read_mask_file

__all__ = [
    'GroundingResize',
    'LoadGroundingAnnotations',
    'RandomFlipWithWords',
    'RandomSafeCrop',
    'swap_left_right',
]


@TRANSFORMS.register_module()
class LoadGroundingAnnotations(LoadAnnotations):
    """Box, label and bitmap mask of the object that the sentence names.

    Placed before the resizing it loads what training needs; placed after it, as in testing, the
    ground truth stays in pixels of the original picture.

    Required keys: ``instances``, ``ori_shape``, and ``height`` and ``width`` where annotated.
    Added keys: ``gt_bboxes`` (1, 4), ``gt_bboxes_labels`` (1,), ``gt_masks``
    (:class:`BitmapMasks`, 1 x H x W), ``gt_ignore_flags`` (1,) and ``with_mask``, which is False
    where the data has no mask; ``gt_masks`` is then all zero.

    Args:
        box_type: As in ``mmdet.LoadAnnotations``.

    Raises:
        InvalidSampleError: The picture has another size than the annotation says, or box and
            mask do not fit the picture.
    """

    def __init__(self, box_type: str = 'hbox') -> None:
        super().__init__(
            with_bbox=True, with_label=True, with_mask=True, poly2mask=True, box_type=box_type
        )

    def transform(self, results: dict) -> dict:
        """Adds the box and the mask, the latter empty where there is none.

        Raises:
            InvalidSampleError: The picture has another size than its annotation says, or the mask
                cannot be read.
        """
        height, width = results['ori_shape']
        annotated = (results.get('height'), results.get('width'))
        if None not in annotated and annotated != (height, width):
            raise InvalidSampleError(
                f'wrong image size: the picture has {width}x{height} pixels (EXIF orientation '
                f'applied), its annotation is for {annotated[1]}x{annotated[0]}'
            )
        for instance in results['instances']:
            instance['bbox'] = check_box(instance['bbox'], height, width)
            if isinstance(instance.get('mask'), str):
                instance['mask'] = read_mask_file(instance['mask'])
                check_mask_meets_box(instance['mask'], instance['bbox'])
            size = instance['mask']['size'] if isinstance(instance.get('mask'), dict) else None
            if size is not None and tuple(size) != (height, width):
                raise InvalidSampleError(
                    f'invalid mask: it has {size[1]}x{size[0]} pixels, the picture {width}x{height}'
                )
        results['with_mask'] = all('mask' in instance for instance in results['instances'])
        return super().transform(results)

    def _load_masks(self, results: dict) -> None:
        if results['with_mask']:
            super()._load_masks(results)
            if not results['gt_masks'].masks.any() or results['gt_ignore_flags'].any():
                raise InvalidSampleError('invalid mask: it covers no pixel of the picture')
        else:
            height, width = results['ori_shape']
            empty = np.zeros((len(results['instances']), height, width), dtype=np.uint8)
            results['gt_masks'] = BitmapMasks(empty, height, width)


@TRANSFORMS.register_module()
class GroundingResize(Resize):
    """``mmdet.Resize`` whose masks stay exactly under their objects.

    ``mmdet.Resize`` takes the pixel at the upper left of each cell for a mask, but centres the
    cells for the picture, so that each resize moves masks by half a pixel to the lower right. In
    the two or three resizes of grounding's augmentation this adds up. Here the mask takes the
    pixel at the centre.

    PLVL's released code resizes in two steps: PIL, which averages over the pixels that become one,
    brings the longer side to the size of the network's input, and
    ``torch.nn.functional.interpolate`` with ``align_corners=True`` stretches the other one::

        dict(type='GroundingResize', scale=(448, 448), keep_ratio=True, backend='pillow'),
        dict(type='GroundingResize', scale=(448, 448), keep_ratio=False, align_corners=True),

    Keys and arguments are those of ``mmdet.Resize``, and:

    Args:
        align_corners: Interpolate bilinearly between the centres of the corner pixels, without
            rounding: the image becomes float32, which transforms for uint8 do not take. Boxes
            and masks are resized as without it.

    Raises:
        ValueError: ``align_corners`` is set together with ``keep_ratio`` or another backend or
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


# 'left' and 'right' as words of their own, in the compounds that people write. Letters on either
# side make another word ('bright', 'leftover', 'cleft').
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
    """Swap the words left and right, as a mirror does; upper and lower case stay.

    Args:
        text: A sentence.
        whole_words: Whether letters on either side make another word; False swaps inside of other
            words too ('bright' becomes 'bleft'), as PLVL's released code does.

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
    """Mirror picture, box and mask, and swap left and right in the sentence.

    The words are swapped as whole words ('leftmost', 'left-hand', "left's", 'topleft' too;
    'bright' and 'leftover' stay). 'right' in another sense ('right behind the car') is swapped
    as well, which only rewords the sentence.

    Required keys: ``img``, ``text``; ``gt_bboxes``, ``gt_masks`` if present. Modified keys: the
    same. Added keys: ``flip``, ``flip_direction``.

    Args:
        prob: Probability of a flip.
        whole_words: False swaps 'left' and 'right' inside of other words too, as released.
    """

    def __init__(self, prob: float = 0.5, whole_words: bool = True) -> None:
        super().__init__(prob=prob, direction='horizontal')
        self.whole_words = whole_words

    def transform(self, results: dict) -> dict:
        """Flips picture, box, mask and words alike."""
        results = super().transform(results)
        if results['flip']:
            results['text'] = swap_left_right(results['text'], self.whole_words)
        return results


@TRANSFORMS.register_module()
class RandomSafeCrop(BaseTransform):
    """Resize the short side, then crop at random around the whole object.

    The crop branch of PLVL's augmentation. The box and every pixel of the mask stay inside the
    crop: its side grows where the object is larger. A sentence with a word of ``words`` is left
    alone, as a crop moves what is 'at the top', and removes what makes something 'the second'.

    Required keys: ``img``, ``text``, ``gt_bboxes``, ``gt_masks``. Modified keys: the same but
    for ``text``, and ``img_shape``.

    Args:
        prob: Probability of a crop.
        short_sides: Lengths, in pixels, to choose from for the short side before the crop; None
            does not resize.
        crop_range: Smallest and largest side of the crop in pixels, each side drawn on its own.
        words: Words (in lower case) that forbid a crop. The default has the paper's five (left,
            right, top, bottom, middle) and others that place something in the picture or count.
            Relations ('in front of', 'behind', 'next to') are not among them: what is true of
            the object stays true after a crop.
        whole_words: False finds ``words`` inside of other words too ('bright', 'laptop', 'stop'),
            as PLVL's released code does with its five: left, right, top, bottom, middle.
        backend: What resizes the short side: 'cv2', or 'pillow', which averages over the pixels
            that become one, as released.
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
        """Start and end of the crop along one side of ``size`` pixels, around [first, last]."""
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
        """Crops, or leaves a sample as it is whose sentence a crop could make untrue."""
        if not self._random_start() or self.has_direction(results['text']):
            return results
        if self.short_sides:
            self.resize.scale = self._random_short_side(self.short_sides)
            results = self.resize(results)
        boxes, masks = results['gt_bboxes'], results['gt_masks']
        # The mask counts too: it may reach beyond an annotated box.
        _, rows, columns = np.nonzero(masks.masks)
        x1, y1 = boxes.tensor[:, :2].amin(dim=0).tolist()
        x2, y2 = boxes.tensor[:, 2:].amax(dim=0).tolist()
        if len(rows):
            x1, x2 = min(x1, columns.min()), max(x2, columns.max() + 1)
            y1, y2 = min(y1, rows.min()), max(y2, rows.max() + 1)
        height, width = results['img'].shape[:2]
        left, right = self._random_window(width, x1, x2)
        top, bottom = self._random_window(height, y1, y2)

        results['img'] = np.ascontiguousarray(results['img'][top:bottom, left:right])
        results['img_shape'] = results['img'].shape[:2]
        boxes.translate_([-left, -top])
        results['gt_masks'] = masks.crop(np.array([left, top, right, bottom]))
        return results

    def __repr__(self) -> str:
        """Arguments, as mmcv's transforms show theirs."""
        return (
            f'{type(self).__name__}(prob={self.prob}, short_sides={self.short_sides}, '
            f'crop_range={self.crop_range}, words={sorted(self.words)}, '
            f'whole_words={self.whole_words}, backend={self.backend!r})'
        )
