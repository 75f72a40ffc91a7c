"""Boxes and masks of a COCO file, for testing."""

from __future__ import annotations

from mmdet.datasets import CocoDataset
from mmengine.registry import DATASETS

from .coco_files import COCOFile

__all__ = ['COCOInstanceDataset']


@DATASETS.register_module()
class COCOInstanceDataset(CocoDataset):
    """Extend mmdet's COCO dataset so that it reads files as :class:`COCOTagDataset` does.

    Files with ``iscrowd: false``, ``"segmentation": []``, ids and sizes such as 3.0, a byte order
    mark or without ``info`` are accepted. See
    :func:`~projects.pdsl.datasets.coco_files.read_instances`.
    Labels follow the order of the classes in the config, as in training. mmdet's dataset numbers
    them in the order of the categories in the file.

    The arguments are mmdet's.
    """

    COCOAPI = COCOFile
