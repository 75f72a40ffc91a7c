"""Base class of the grounding datasets: validation, skipped samples and the sentence shuffle."""

from __future__ import annotations

import logging
import os
import random
from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from projects.common.errors import InputError
from projects.common.files.image_reader import read_any_image
from projects.common.files.images import image_problem

from .annotations import (
    InvalidSampleError,
    check_box,
    check_mask,
    check_mask_meets_box,
    check_size,
    check_text,
    mask_box,
    read_image_size,
    xywh_to_xyxy,
)
from .image_identity import ImageKey, canonical_source, image_keys, read_vg_images

__all__ = ['BaseGroundingDataset', 'make_instance', 'make_sample']


class BaseGroundingDataset(BaseDataset):
    """Represent a dataset in which a sample is one sentence about one object in one image.

    Subclasses yield *references* (an object with its sentences) from :meth:`iter_references`. This
    class validates them and makes one sample per sentence::

        {
            'img_path': 'data/images/train2014/COCO_train2014_000000000154.jpg',
            'img_id': 154, 'height': 640, 'width': 427,   # None until read if not annotated
            'text': 'zebra at the bottom',
            'ref_id': 0, 'sent_id': 0, 'ann_id': 590410,
            'kind': None,         # kind of sentence, if annotated
            'subset': None,       # name in the results, if set in the config
            'category': 'zebra',  # or None
            'iscrowd': 0,
            'instances': [{
                'bbox': [11.98, 315.59, 361.06, 640.0],   # XYXY, float pixels
                'bbox_label': 0, 'ignore_flag': 0,
                'mask': [[229.5, 618.18, ...]],           # polygons or RLE; absent without a mask
            }],
        }

    Annotations with ``iscrowd=1`` (a group outlined as one object) are kept, as in the published
    counts of expressions, and carry the flag. They raise a mean IoU, so exclude them when comparing
    with results that exclude them.

    Boxes and masks refer to the image with its EXIF orientation applied, which is how mmcv reads
    images.

    Args:
        ann_file: Annotation file, relative to ``data_root``.
        data_root: Directory of ``ann_file`` and ``data_prefix``.
        data_prefix: ``dict(img=directory)`` with the image directory, relative to ``data_root``.
            None means ``data_root`` itself.
        skip_invalid: Skip unusable samples (missing image, no annotation, degenerate box, invalid
            mask, empty sentence) with one warning that counts them by reason, instead of raising.
            An image that turns out to be broken during training is then replaced by another
            sample, with one warning per file (from each worker that encounters it). In testing it
            always raises.
        check_images: Whether every image must exist. Set it to False to inspect annotations
            without the images.
        trust_pickle: Load annotation pickles with the ordinary unpickler, which may run code.
        image_source: The collection of the images if the annotations do not name it: 'coco',
            'vg', 'flickr', 'saiapr' (ReferItGame) or a custom name. It determines which images of
            two datasets are the same (:class:`MixedGroundingDataset`). None recognizes COCO images
            by their file names.
        source_folders: Directory of each collection in ``ann_file`` below the image directory, for
            images from several collections: ``dict(coco='train2014', vg='visual-genome')``. None
            means that all images are in the image directory itself.
        vg_image_data: Visual Genome's ``image_data.json``, relative to ``data_root``, which tells
            which of its images come from COCO. Required if such images are mixed with others.
        subset: Name of this dataset and split when several are tested in one run, such as
            'refcoco_testA'. :class:`GroundingMetric` reports the results of each name separately.
        sentence_shuffle: 'other_object' replaces each sentence by one about another object in the
            same image and keeps the ground truth. A model that reads the sentence finds the other
            object and fails; one that ignores it scores as before. Samples without another object
            are left out, and their number is logged. For testing only.
        shuffle_seed: Seed for choosing among the other sentences.
        kwargs: Further arguments of :class:`mmengine.dataset.BaseDataset`.

    Raises:
        FileNotFoundError: If the data root or a file in it does not exist.
        ValueError: If a sample is unusable and ``skip_invalid`` is False, or no sample is left.
    """

    METAINFO: dict = dict(classes=('object',), task_name='visual_grounding')
    IMAGE_SOURCE: str | None = None
    """Default of ``image_source``."""

    data_prefix: dict[str, str]
    excluded_images: frozenset[ImageKey] = frozenset()
    """Images to exclude; set it before the dataset is loaded."""

    def __init__(
        self,
        ann_file: str,
        data_root: str = '',
        data_prefix: dict | None = None,
        *,
        skip_invalid: bool = False,
        check_images: bool = True,
        trust_pickle: bool = False,
        sentence_shuffle: str | None = None,
        shuffle_seed: int = 0,
        image_source: str | None = None,
        source_folders: dict[str, str] | None = None,
        vg_image_data: str | None = None,
        subset: str | None = None,
        **kwargs,
    ) -> None:
        if sentence_shuffle not in (None, 'other_object'):
            raise InputError(
                f"sentence_shuffle={sentence_shuffle!r}: expected None or 'other_object'"
            )
        if sentence_shuffle and not kwargs.get('test_mode', False):
            raise InputError(
                'sentence_shuffle gives wrong sentences on purpose and needs test_mode=True'
            )
        data_prefix = dict(img='') if data_prefix is None else data_prefix
        if set(data_prefix) != {'img'}:
            raise InputError(f"data_prefix={dict(data_prefix)}: expected dict(img='folder')")
        self.skip_invalid = skip_invalid
        self.check_images = check_images
        self.trust_pickle = trust_pickle
        self.sentence_shuffle = sentence_shuffle
        self.shuffle_seed = shuffle_seed
        self.image_source = canonical_source(image_source) if image_source else self.IMAGE_SOURCE
        self.source_folders = {
            canonical_source(name): folder for name, folder in (source_folders or {}).items()
        }
        self.vg_image_data = vg_image_data
        self.subset = subset
        self.vg_images: dict[int, dict] | None = None  # content of vg_image_data during loading
        self.image_keys: dict[str, tuple[ImageKey, ...]] = {}  # image path -> keys
        self.sentence_counts: Counter[str] = Counter()  # image path -> count before exclusion
        self._left_out: dict[str, list] = {}  # reason -> [count, first message]
        self._folders: dict[str, set[str]] = {}  # directory -> file names
        self._broken_files: set[str] = set()
        super().__init__(
            ann_file=ann_file, data_root=data_root or '', data_prefix=data_prefix, **kwargs
        )
        read_any_image(self.pipeline.transforms)

    @abstractmethod
    def iter_references(self) -> Iterator[dict]:
        """Yield the references of the annotation file.

        A reference is a dict with ``where`` (file and id, for messages), ``img_name`` (relative to
        the image directory), ``img_id``, ``sentences`` (a list of dicts with ``text``, ``sent_id``
        and optionally ``kind``), ``ref_id``, ``ann_id``, ``box`` (XYXY, float pixels) or
        ``box_xywh``, ``mask`` (polygons, RLE, a path, or None; it determines the box if there is
        none) and optionally ``height``, ``width``, ``category``, ``category_id``, ``iscrowd`` and
        ``source`` (the collection of the image). A reference that cannot be converted to this form
        carries the :class:`InvalidSampleError` as ``error``; one whose image is unknown is passed
        to :meth:`leave_out`.
        """

    def _join_prefix(self) -> None:
        super()._join_prefix()
        # Normalize so that paths with and without a trailing slash compare equal.
        self.data_prefix = {key: os.path.normpath(p or '.') for key, p in self.data_prefix.items()}
        if self.vg_image_data:
            self.vg_image_data = os.path.join(self.data_root, self.vg_image_data)

    def _check_files(self) -> None:
        """Raise a specific one-line error if data is not where the config expects it."""
        if self.data_root and not os.path.isdir(self.data_root):
            raise FileNotFoundError(self._not_found('data_root', self.data_root))
        if not os.path.isfile(self.ann_file):
            raise FileNotFoundError(self._not_found('ann_file', self.ann_file))
        if self.check_images and not os.path.isdir(self.data_prefix['img']):
            raise FileNotFoundError(self._not_found('data_prefix.img', self.data_prefix['img']))
        if self.vg_image_data and not os.path.isfile(self.vg_image_data):
            raise FileNotFoundError(self._not_found('vg_image_data', self.vg_image_data))

    def _not_found(self, field: str, path: str) -> str:
        return (
            f'{field} of {type(self).__name__}: {path!r} does not exist (looked in '
            f'{os.getcwd()!r}); set {field} in the dataset config, or the environment variable '
            'that holds the data root (DATA_ROOT in most configs)'
        )

    def load_data_list(self) -> list[dict]:
        """Load the samples of all valid references, in the order of the annotation file."""
        samples = [sample for _, made in self.valid_references() for sample in made]
        if not samples:
            message = self._left_out_message() if self._left_out else 'it holds none'
            raise InputError(f'{self.ann_file}: no usable sample: {message}')
        if self.sentence_shuffle:
            samples = self._shuffle_sentences(samples)
        return samples

    def valid_references(self, read_sizes: bool = False) -> Iterator[tuple[dict, list[dict]]]:
        """Yield the usable references of the annotation file with their samples.

        Args:
            read_sizes: Read sizes that are not annotated from the images.

        Raises:
            FileNotFoundError: If a file does not exist.
            ValueError: If a reference is unusable and ``skip_invalid`` is False.
        """
        self._start_loading()
        for reference in self.iter_references():
            samples = self._samples_of(reference, read_sizes)
            if samples is not None:
                yield reference, samples
        self._end_loading()

    def _start_loading(self) -> None:
        self._check_files()
        self._left_out.clear()
        self.image_keys.clear()
        self.vg_images = self._read_vg_images()

    def _end_loading(self) -> None:
        self._folders.clear()
        self.vg_images = None
        if self._left_out:
            print_log(self._left_out_message(), 'current', logging.WARNING)

    def _read_vg_images(self) -> dict[int, dict] | None:
        return read_vg_images(self.vg_image_data) if self.vg_image_data else None

    def _samples_of(self, reference: dict, read_sizes: bool = False) -> list[dict] | None:
        """Return the samples of a reference, or None if it is unusable and skipped."""
        img_path = self._locate(reference)
        try:
            if read_sizes and reference.get('height') is None:
                reference['height'], reference['width'] = read_image_size(img_path)
            return self._make_samples(reference, img_path)
        except InvalidSampleError as error:
            self.leave_out(reference['where'], error, len(reference['sentences']))
            return None

    def _locate(self, reference: dict) -> str:
        """Return the path of the image, and record its keys even if the sample is invalid."""
        source = reference.get('source') or self.image_source
        if source is not None and self.source_folders:
            if source not in self.source_folders:
                raise InputError(
                    f'{reference["where"]}: an image of {source!r}, which is not in '
                    f'source_folders {sorted(self.source_folders)}'
                )
            reference['img_name'] = os.path.join(self.source_folders[source], reference['img_name'])
        img_path = os.path.join(self.data_prefix['img'], reference['img_name'])
        if img_path not in self.image_keys:
            self.image_keys[img_path] = image_keys(img_path, source, self.vg_images)
        return img_path

    def filter_data(self) -> list[dict]:
        """Return the samples whose images are not in :attr:`excluded_images`."""
        if not self.excluded_images:
            return self.data_list
        self.sentence_counts = Counter(sample['img_path'] for sample in self.data_list)
        return [
            sample
            for sample in self.data_list
            if self.excluded_images.isdisjoint(self.image_keys[sample['img_path']])
        ]

    def _serialize_data(self) -> tuple[np.ndarray, np.ndarray]:
        if not self.data_list:  # MMEngine cannot serialize an empty list
            return np.zeros(0, dtype=np.uint8), np.zeros(0, dtype=np.int64)
        return super()._serialize_data()

    def leave_out(self, where: str, error: InvalidSampleError, num_sentences: int = 1) -> None:
        """Count a reference that cannot be used, or raise.

        Args:
            where: File and id.
            error: The reason.
            num_sentences: Number of samples lost.

        Raises:
            ValueError: If ``skip_invalid`` is False.
        """
        message = ' '.join(f'{where}: {error}'.splitlines())
        if not self.skip_invalid:
            raise InputError(f'{message} (skip_invalid=True leaves such samples out)') from None
        self._left_out.setdefault(error.reason, [0, message])[0] += max(num_sentences, 1)

    def _left_out_message(self) -> str:
        parts = (
            f'{count} for {reason} (first: {first})'
            for reason, (count, first) in sorted(self._left_out.items())
        )
        total = sum(count for count, _ in self._left_out.values())
        return f'{type(self).__name__}: {total} samples left out: ' + '; '.join(parts)

    def _make_samples(self, reference: dict, img_path: str) -> list[dict]:
        """Make one sample per sentence of a reference.

        Raises:
            InvalidSampleError: If the image, the box or the mask cannot be used.
        """
        if 'error' in reference:
            raise reference['error']
        if self.check_images and not self._image_exists(img_path):
            raise InvalidSampleError(f'missing image: {img_path} does not exist')
        instance = make_instance(reference)
        samples = []
        for sentence in reference['sentences']:
            try:
                samples.append(make_sample(reference, sentence, img_path, instance, self.subset))
            except InvalidSampleError as error:
                self.leave_out(f'{reference["where"]}, sent_id {sentence["sent_id"]}', error)
        return samples

    def _image_exists(self, path: str) -> bool:
        # Listing each directory once is much faster than one stat call for each of 20,000 files.
        folder, name = os.path.split(path)
        if folder not in self._folders:
            try:
                with os.scandir(folder) as entries:
                    self._folders[folder] = {entry.name for entry in entries}
            except OSError:
                self._folders[folder] = set()
        return name in self._folders[folder]

    def _shuffle_sentences(self, samples: list[dict]) -> list[dict]:
        """Replace each sentence by one about another object in the same image."""

        def object_of(sample: dict) -> Any:
            if sample['ann_id'] is not None:
                return sample['ann_id']
            return tuple(sample['instances'][0]['bbox'])

        by_image = defaultdict(list)
        for sample in samples:
            by_image[sample['img_path']].append(sample)
        rng = random.Random(self.shuffle_seed)
        shuffled = []
        for sample in samples:
            same_image = by_image[sample['img_path']]
            own = [other for other in same_image if object_of(other) == object_of(sample)]
            own_texts = {other['text'].lower() for other in own}
            others = [
                other
                for other in same_image
                if object_of(other) != object_of(sample) and other['text'].lower() not in own_texts
            ]
            if others:
                other = rng.choice(others)
                shuffled.append({**sample, 'text': other['text'], 'kind': other['kind']})
        print_log(
            f'{type(self).__name__}: sentences replaced by ones about another object of the same '
            f'image; {len(samples) - len(shuffled)} of {len(samples)} samples left out because '
            'their image has sentences about one object only',
            'current',
        )
        if not shuffled:
            raise InputError(f'{self.ann_file}: no image has sentences about two objects')
        return shuffled

    def get_data_info(self, idx: int) -> dict:
        """Return the sample; an image size that is not annotated is read from the file header.

        Raises:
            InvalidSampleError: If the size is not annotated and the file is not a readable image.
        """
        info = super().get_data_info(idx)
        if info['height'] is None and self.check_images:
            info['height'], info['width'] = read_image_size(info['img_path'])
        return info

    def prepare_data(self, idx: int) -> Any:
        """Return the sample after the pipeline, or None to request another one instead.

        Raises:
            ValueError: If the image is broken or does not match its annotation. The message names
                the file and the ids. In training with ``skip_invalid`` a warning is logged instead.
        """
        try:
            return super().prepare_data(idx)
        except Exception as error:
            info = BaseDataset.get_data_info(self, idx)
            if isinstance(error, InvalidSampleError):
                problem = str(error)
            else:
                reason = image_problem(info['img_path'])
                if reason is None:
                    raise
                problem = f'broken image: {reason}'
        ids = ', '.join(f'{key} {info[key]}' for key in ('img_id', 'ref_id', 'ann_id'))
        message = f'{info["img_path"]} ({ids}): {problem}'
        if self.test_mode or not self.skip_invalid:
            raise InputError(message)
        if info['img_path'] not in self._broken_files:
            self._broken_files.add(info['img_path'])
            print_log(
                f'{type(self).__name__}: another sample takes the place of {message} '
                f'({len(self._broken_files)} such files so far)',
                'current',
                logging.WARNING,
            )
        return None


def make_instance(reference: dict) -> dict:
    """Validate the box and the mask of a reference and return them as an ``instances`` entry.

    Raises:
        InvalidSampleError: If the image size, the box or the mask cannot be used.
    """
    height, width = reference.get('height'), reference.get('width')
    if height is not None or width is not None:
        check_size(height, width)
    box: Any = reference.get('box')
    mask: Any = reference.get('mask')
    if mask is not None and not isinstance(mask, str):
        mask = check_mask(mask, height, width)
    if 'box_xywh' in reference:
        box = xywh_to_xyxy(reference['box_xywh'])
    elif box is None:
        box = mask_box(mask)
    box = check_box(box, height, width)
    if mask is not None and not isinstance(mask, str):
        check_mask_meets_box(mask, box)
    instance: dict[str, Any] = dict(bbox=box, bbox_label=0, ignore_flag=0)
    if mask is not None:
        instance['mask'] = mask
    return instance


def make_sample(
    reference: dict, sentence: dict, img_path: str, instance: dict, subset: str | None
) -> dict:
    """Return the sample of one sentence of a reference.

    Raises:
        InvalidSampleError: If the sentence is empty.
    """
    return dict(
        img_path=img_path,
        img_id=reference['img_id'],
        height=reference.get('height'),
        width=reference.get('width'),
        text=check_text(sentence['text']),
        ref_id=reference['ref_id'],
        sent_id=sentence['sent_id'],
        ann_id=reference['ann_id'],
        kind=sentence.get('kind'),
        subset=subset,
        category=reference.get('category'),
        iscrowd=int(bool(reference.get('iscrowd'))),
        instances=[instance],
    )
