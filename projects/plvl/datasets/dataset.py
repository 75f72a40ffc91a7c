"""The dataset of grounding samples, which takes any reader."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from mmengine.registry import DATASETS, FUNCTIONS

from projects.common.errors import InputError
from projects.common.files.image_backend import read_any_image
from projects.common.files.images import image_problem

from .checks import Invalid
from .image_identity import ImageFolder, ImageKey, canonical_source, read_vg_images
from .image_sizes import read_image_size
from .reference import Reference
from .wrappers import exclude_images, number_equal_sentences, shuffle_sentences

__all__ = ['GroundingDataset', 'Reader']

TARGETS = ('one', 'any', 'single')
Reader = Callable[[Mapping[str, str], str | None], Iterator[Reference | Invalid]]


@DATASETS.register_module()
class GroundingDataset(BaseDataset):
    """Represent a dataset in which a sample is one sentence about one object in one image.

    With ``targets='any'``, a sentence may also refer to no object or to several.

    A *reader* yields the references of the annotation files: an object with its sentences. This
    class validates them and makes one sample per sentence (:meth:`Reference.samples` shows one).

    Boxes and masks refer to the image with its EXIF orientation applied, which is how mmcv reads
    images.

    Args:
        ann_file: Annotation file, relative to ``data_root``.
        data_root: Directory of ``ann_file`` and ``data_prefix``.
        data_prefix: ``dict(img=directory)`` with the image directory, relative to ``data_root``.
            None means ``data_root`` itself.
        reader: A function ``(files, split) -> Iterator[Reference | Invalid]``; its name if it is
            registered in ``FUNCTIONS``; or a dict with the name as ``type`` and further arguments.
            ``files`` holds the paths ``data_root``, ``ann_file`` and, if they are set,
            ``split_file`` and ``vg_image_data``.
        split: The split to read, for files that hold several.
        split_file: A second annotation file, relative to ``data_root``.
        skip_invalid: Skip unusable samples (missing image, no annotation, degenerate box, invalid
            mask, empty sentence) with one warning that counts them by reason, instead of raising.
            An image or a mask that turns out to be broken during training is then replaced by
            another sample, with one warning per file (from each worker that encounters it).
        check_images: Whether every image must exist. Set it to False to inspect annotations
            without the images.
        check_content: Whether to decode every image and mask image when the annotations are read,
            and to compare their sizes with the annotation. None does so in testing with
            ``skip_invalid``, where no other sample can take the place of a broken one.
        image_source: The collection of the images if the annotations do not name it: 'coco',
            'vg', 'flickr', 'saiapr' (ReferItGame) or a custom name. It determines which images of
            two datasets are the same (:class:`MixedGroundingDataset`). None recognizes COCO images
            by their file names.
        source_folders: Directory of each collection in ``ann_file`` below the image directory, for
            images from several collections: ``dict(coco='train2014', vg='visual-genome')``. None
            means that all images are in the image directory itself.
        vg_image_data: Visual Genome's ``image_data.json``, relative to ``data_root``, which tells
            which of its images come from COCO. Required if such images are mixed with others.
        targets: 'one' raises an error for sentences about no object or several; 'any' admits them,
            for :class:`GeneralizedPLVL`; 'single' leaves them out and logs their number.
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
        reader: Reader | str | dict,
        split: str | None = None,
        split_file: str | None = None,
        skip_invalid: bool = False,
        check_images: bool = True,
        check_content: bool | None = None,
        sentence_shuffle: str | None = None,
        shuffle_seed: int = 0,
        image_source: str | None = None,
        source_folders: dict[str, str] | None = None,
        vg_image_data: str | None = None,
        targets: str = 'one',
        subset: str | None = None,
        **kwargs,
    ) -> None:
        _check_choices(targets, sentence_shuffle, kwargs.get('test_mode', False))
        data_prefix = dict(img='') if data_prefix is None else data_prefix
        if set(data_prefix) != {'img'}:
            raise InputError(f"data_prefix={dict(data_prefix)}: expected dict(img='folder')")
        self.reader = _find_reader(reader)
        self.split = split
        self.split_file = split_file
        self.skip_invalid = skip_invalid
        self.check_images = check_images
        self.check_content = check_content
        self.sentence_shuffle = sentence_shuffle
        self.shuffle_seed = shuffle_seed
        self.image_source = canonical_source(image_source) if image_source else self.IMAGE_SOURCE
        self.source_folders = {
            canonical_source(name): folder for name, folder in (source_folders or {}).items()
        }
        self.vg_image_data = vg_image_data
        self.targets = targets
        self.subset = subset
        self.image_keys: dict[str, tuple[ImageKey, ...]] = {}  # image path -> keys
        self.sentence_counts: Counter[str] = Counter()  # image path -> count before exclusion
        self.left_out = LeftOut(type(self).__name__, skip_invalid)
        self._broken_files: set[str] = set()
        super().__init__(
            ann_file=ann_file, data_root=data_root or '', data_prefix=data_prefix, **kwargs
        )
        read_any_image(self.pipeline.transforms)

    @property
    def files(self) -> dict[str, str]:
        """Return the paths that the reader receives."""
        names = ('data_root', 'ann_file', 'split_file', 'vg_image_data')
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def _join_prefix(self) -> None:
        super()._join_prefix()
        # Normalize so that paths with and without a trailing slash compare equal.
        self.data_prefix = {key: os.path.normpath(p or '.') for key, p in self.data_prefix.items()}
        for name in ('split_file', 'vg_image_data'):
            if getattr(self, name):
                setattr(self, name, os.path.join(self.data_root, getattr(self, name)))

    def load_data_list(self) -> list[dict]:
        """Load the samples of all valid references, in the order of the annotation file."""
        references = list(self.valid_references())
        if not references:
            raise InputError(f'{self.ann_file}: no usable sample: {self.left_out}')
        if self.sentence_shuffle:
            references = shuffle_sentences(references, self.shuffle_seed)
            if not references:
                raise InputError(f'{self.ann_file}: no image has sentences about two objects')
        if self.excluded_images:
            self.sentence_counts.clear()
            counts = self.sentence_counts
            references = list(exclude_images(references, self.excluded_images, counts))
        samples = [sample for ref in references for sample in ref.samples(self.subset)]
        number_equal_sentences(samples, self.ann_file)
        return samples

    def valid_references(self, read_sizes: bool = False) -> Iterator[Reference]:
        """Yield the usable references of the annotation file, validated.

        Args:
            read_sizes: Read sizes that are not annotated from the images.

        Raises:
            FileNotFoundError: If a file does not exist.
            ValueError: If a reference is unusable and ``skip_invalid`` is False.
        """
        images = self._open_images(read_sizes)
        num_sentences = others = 0
        for index, reference in enumerate(self.read()):
            if isinstance(reference, Invalid):
                if reference.image is not None:
                    images.add(reference.image, where=f'{reference.file}: {reference.entry}')
                self.left_out.add(reference)
                continue
            reference.number(index, num_sentences)
            num_sentences += len(reference.sentences)
            if self.targets == 'single' and len(reference.targets) != 1:
                others += len(reference.sentences)
                continue
            for invalid in reference.check(images, any_number=self.targets == 'any'):
                self.left_out.add(invalid)
            if reference.sentences:
                yield reference
        self.left_out.warn()
        if others:
            what = f'{others} of {num_sentences} sentences, about no object or several'
            print_log(f"{self.ann_file}: {what}, left out by targets='single'", 'current')

    def read(self) -> Iterator[Reference | Invalid]:
        """Yield the references of the annotation file as they are."""
        return self.reader(self.files, self.split)

    def _open_images(self, read_sizes: bool = False) -> ImageFolder:
        """Return the image directory for a new pass over the annotations."""
        folders = dict(data_root=self.data_root or '.')
        if self.check_images:
            folders['data_prefix.img'] = self.data_prefix['img']
        files = {name: path for name, path in self.files.items() if name != 'data_root'}
        _check_existence(type(self).__name__, folders, files)
        self.left_out = LeftOut(type(self).__name__, self.skip_invalid)
        decode = self.check_content
        if decode is None:
            decode = self.test_mode and self.skip_invalid
        images = ImageFolder(
            self.data_prefix['img'],
            self.image_source,
            self.source_folders,
            must_exist=self.check_images,
            read_sizes=read_sizes,
            decode=self.check_images and bool(decode),
            vg_images=self._read_vg_images(),
        )
        self.image_keys = images.keys
        return images

    def _read_vg_images(self) -> dict[int, dict] | None:
        return read_vg_images(self.vg_image_data) if self.vg_image_data else None

    def _serialize_data(self) -> tuple[np.ndarray, np.ndarray]:
        if not self.data_list:  # MMEngine cannot serialize an empty list
            return np.zeros(0, dtype=np.uint8), np.zeros(0, dtype=np.int64)
        return super()._serialize_data()

    def get_data_info(self, idx: int) -> dict:
        """Return the sample; an image size that is not annotated is read from the file header.

        Raises:
            Invalid: If the size is not annotated and the file is not a readable image.
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
            problem = str(error) if isinstance(error, Invalid) else _broken_image(info['img_path'])
            if problem is None:
                raise
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


class LeftOut(dict[str, list]):
    """Count the samples that are left out, and keep the first message, for each reason.

    Args:
        name: Name of the dataset for the log.
        skip_invalid: Whether to leave unusable samples out instead of raising.
    """

    def __init__(self, name: str, skip_invalid: bool) -> None:
        super().__init__()
        self.name = name
        self.skip_invalid = skip_invalid

    def add(self, invalid: Invalid) -> None:
        """Count an entry that cannot be used.

        Raises:
            ValueError: If unusable samples are not skipped, or the entry has another format than
                its file.
        """
        if invalid.reason is None:
            raise InputError(str(invalid)) from None
        if not self.skip_invalid:
            raise InputError(f'{invalid} (skip_invalid=True leaves such samples out)') from None
        self.setdefault(invalid.reason, [0, str(invalid)])[0] += max(invalid.num_sentences, 1)

    def __str__(self) -> str:
        """Return the counts by reason on one line."""
        if not self:
            return 'it holds none'
        parts = (
            f'{count} for {reason} (first: {first})'
            for reason, (count, first) in sorted(self.items())
        )
        total = sum(count for count, _ in self.values())
        return f'{self.name}: {total} samples left out: {"; ".join(parts)}'

    def warn(self) -> None:
        """Log the counts, if there are any."""
        if self:
            print_log(str(self), 'current', logging.WARNING)


def _check_choices(targets: str, sentence_shuffle: str | None, test_mode: bool) -> None:
    if targets not in TARGETS:
        raise InputError(f'targets={targets!r}: expected one of {TARGETS}')
    if sentence_shuffle not in (None, 'other_object'):
        raise InputError(f"sentence_shuffle={sentence_shuffle!r}: expected None or 'other_object'")
    if sentence_shuffle and not test_mode:
        raise InputError(
            'sentence_shuffle gives wrong sentences on purpose and needs test_mode=True'
        )


def _check_existence(name: str, folders: dict[str, str], files: dict[str, str]) -> None:
    """Raise a specific one-line error if data is not where the config expects it."""
    for paths, exists in ((folders, os.path.isdir), (files, os.path.isfile)):
        for field, path in paths.items():
            if not exists(path):
                raise FileNotFoundError(
                    f'{field} of {name}: {path!r} does not exist (looked in {os.getcwd()!r}); set '
                    f'{field} in the dataset config, or the environment variable that holds the '
                    'data root (DATA_ROOT in most configs)'
                )


def _broken_image(path: str) -> str | None:
    reason = image_problem(path)
    return None if reason is None else f'broken image: {reason}'


def _find_reader(reader: Reader | str | dict) -> Reader:
    """Return the function that ``reader`` names.

    Raises:
        ValueError: If no such function is registered.
    """
    if callable(reader):
        return reader
    options = dict(type=reader) if isinstance(reader, str) else dict(reader)
    name = options.pop('type', None)
    function = FUNCTIONS.get(name) if isinstance(name, str) else name
    if not callable(function):
        raise InputError(
            f'reader: no function {name!r} is registered; decorate it with '
            '@FUNCTIONS.register_module() and list its module in custom_imports'
        )
    return partial(function, **options)
