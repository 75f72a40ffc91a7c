"""Base class of image-text data sets: samples in mmpretrain's retrieval format, and checks."""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from projects.common.errors import InputError
from projects.common.files.annotation_files import check_text, shown
from projects.common.files.image_backend import read_any_image
from projects.common.files.images import naming_broken_image

__all__ = ['BaseMatchingDataset']


class BaseMatchingDataset(BaseDataset):
    """Load images (or their features) with captions.

    Subclasses list the images in :meth:`load_images`. For training there is a sample for every
    caption::

        {'image_id': 0, 'text': 'A dog runs .', 'text_id': 0, 'is_matched': True,
         'ori_id': '1000092795', 'img_path': 'data/f30k/1000092795.jpg'}

    With ``test_mode`` there is a sample for every image, so that no image is encoded twice::

        {'image_id': 0, 'text': ['A dog runs .', ...], 'gt_text_id': [0, ...],
         'gt_image_id': [0, ...], 'ori_id': ..., 'img_path': ...}

    ``image_id`` and ``text_id`` count from 0 in the order of the file, as mmpretrain's retrieval
    loops expect. Data sets of features have ``region_file`` and ``region_row`` instead of
    ``img_path``; :class:`LoadRegions` reads them.

    Args:
        ann_file: Annotation file, relative to ``data_root``.
        data_root: Folder of ``ann_file`` and ``data_prefix``.
        data_prefix: ``dict(img=folder)``, the folder of the images.
        max_images: Only use this many of the first images. The released code evaluates on the first
            1,000 of the dev split.
        check_images: Whether to check that every image exists.
        all_captions: Return one sample per image, with all its captions, for training as well. The
            matcher treats them as pairs that share an image.
        skip_invalid_captions: Leave out captions that are blank or hold half a character, and
            images without any other caption, and report their numbers in a warning. By default,
            the first of them is an error.
        kwargs: Additional arguments of :class:`mmengine.dataset.BaseDataset`.

    Attributes:
        img_size: Number of images (named as in mmpretrain's retrieval loops).
        text_size: Number of captions (named as in mmpretrain's retrieval loops).
        image_of_caption: (text_size,) the ``image_id`` of each caption.
        caption_ids: Ids of the captions (text_size,) in the file; None if it has none.
        source: File that defines the split, for messages.
        num_skipped_captions: Number of captions that were left out.
        tokenize: Maps a caption to its ids, which samples then hold as ``token_ids``; None leaves
            this to the model. :class:`TokenizeInLoaderHook` sets it.

    Raises:
        FileNotFoundError: A file or an image does not exist.
        ValueError: A file has invalid content.
    """

    METAINFO: dict = dict(task_name='image_text_matching')

    def __init__(
        self,
        ann_file: str = '',
        data_root: str = '',
        data_prefix: dict | None = None,
        *,
        max_images: int | None = None,
        check_images: bool = True,
        all_captions: bool = False,
        skip_invalid_captions: bool = False,
        **kwargs,
    ) -> None:
        self.skip_invalid_captions = skip_invalid_captions
        self.num_skipped_captions = 0
        self.tokenize: Callable[[str], list[int]] | None = None
        self.caption_ids: list[str] | None = None
        self.max_images = max_images
        self.all_captions = all_captions
        self.check_images = check_images
        super().__init__(
            ann_file=ann_file,
            data_root=data_root or '',
            data_prefix=dict(img='') if data_prefix is None else data_prefix,
            **kwargs,
        )
        read_any_image(self.pipeline.transforms)

    @property
    def source(self) -> str:
        """Return the file that defines the split, for messages."""
        return self.ann_file

    @abstractmethod
    def load_images(self) -> list[dict]:
        """List the images as dicts of ``captions`` (a list) and common fields of their samples.

        ``caption_ids``, the ids of the captions, is a list as long, if the file has them.
        """

    def load_data_list(self) -> list[dict]:
        """Load the samples in the format described by the class."""
        self._require(self.ann_file, 'ann_file')
        images = self._captioned(self.load_images())[: self.max_images]
        if not images:
            raise InputError(f'{self.ann_file}: it holds no image with a caption')
        if self.check_images and 'img_path' in images[0]:
            self._check_images(images)
        counts = [len(image['captions']) for image in images]
        self.img_size, self.text_size = len(images), sum(counts)
        self.image_of_caption = np.repeat(np.arange(len(images)), counts)
        ids = [image.pop('caption_ids', None) for image in images]
        if all(each is not None for each in ids):
            self.caption_ids = [str(number) for each in ids for number in each]
        samples: list[dict] = []
        text_id = 0
        for image_id, image in enumerate(images):
            captions = image.pop('captions')
            text_ids = list(range(text_id, text_id + len(captions)))
            text_id += len(captions)
            if self.test_mode or self.all_captions:
                truth = dict(gt_text_id=text_ids, gt_image_id=[image_id] * len(captions))
                samples.append(dict(image, image_id=image_id, text=captions, **truth))
            else:
                samples += [
                    dict(image, image_id=image_id, text=text, text_id=i, is_matched=True)
                    for i, text in zip(text_ids, captions)
                ]
        return samples

    def prepare_data(self, idx: int) -> Any:
        """Return a sample after the pipeline.

        Raises:
            ValueError: The image is broken. The message names it.
        """
        with naming_broken_image(self.get_data_info(idx).get('img_path')):
            data = super().prepare_data(idx)
        if self.tokenize is not None and 'data_samples' in data:
            sample = data['data_samples']
            texts = [sample.text] if isinstance(sample.text, str) else sample.text
            sample.token_ids = [self.tokenize(text) for text in texts]
        return data

    def captions(self) -> list[str]:
        """Return all captions, by ``text_id``."""
        texts = (self.get_data_info(i)['text'] for i in range(len(self)))
        return [t for text in texts for t in ([text] if isinstance(text, str) else text)]

    def _require(self, path: str, field: str) -> None:
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f'{field} of {type(self).__name__}: {path!r} does not exist (looked in '
                f'{os.getcwd()!r}); set it in the dataset config, or the environment variable that '
                'holds the data root (DATA_ROOT in most configs)'
            )

    def _check_images(self, images: list[dict]) -> None:
        absent = [i['img_path'] for i in images if not os.path.isfile(i['img_path'])]
        if absent:
            raise FileNotFoundError(
                f'{self.ann_file}: {len(absent):,} of {len(images):,} images do not exist, '
                f'the first is {shown(absent[0], 200)}; set data_prefix=dict(img=...) to their '
                'folder'
            )

    def _captioned(self, images: list[dict]) -> list[dict]:
        """Return the images that have captions, and report what was left out.

        Raises:
            ValueError: An image has no captions, and they were not left out.
        """
        captioned = [image for image in images if image['captions']]
        bare = [image['ori_id'] for image in images if not image['captions']]
        if bare and not self.skip_invalid_captions:
            raise InputError(
                f'{self.ann_file}: {len(bare):,} images without captions, the first is {bare[0]}'
            )
        if bare or self.num_skipped_captions:
            print_log(
                f'{self.source}: left out {self.num_skipped_captions:,} captions that are blank '
                f'or hold half a character, and {len(bare):,} images without any other caption',
                'current',
                logging.WARNING,
            )
        return captioned

    def _caption(self, text: object, where: str) -> list[str]:
        """Return a list with the stripped caption, which is empty if the caption is left out.

        Raises:
            ValueError: The caption is not a string; or it is blank or holds half a character, and
                such captions are not to be left out.
        """
        try:
            if not isinstance(text, str) or not text.strip():
                raise InputError(
                    f'{where}: caption {shown(text)}, expected a text that is not empty'
                )
            check_text(text, f'{where}: caption')
        except InputError as error:
            if not self.skip_invalid_captions:
                raise InputError(f'{error} (skip_invalid_captions=True leaves it out)') from None
            self.num_skipped_captions += 1
            return []
        return [text.strip()]
