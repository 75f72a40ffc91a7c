"""Published numbers of images of the datasets used in the paper."""

from __future__ import annotations

__all__ = ['PUBLISHED', 'published_count']

# Keyed by the end of the annotation file's path. VOC 2012 and SBD: the released code's training
# data (1,464 and 9,118) and the paper's section 4.1 (1,449); COCO: its own counts.
PUBLISHED: dict[str, int] = {
    'VOC2012/ImageSets/Segmentation/train.txt': 1_464,
    'VOC2012/ImageSets/Segmentation/val.txt': 1_449,
    'SBD/train_9118.txt': 9_118,
    'coco/annotations/instances_train2017.json': 118_287,
    'coco/annotations/instances_val2017.json': 5_000,
}


def published_count(ann_file: str) -> int | None:
    """Return the published number of images of an annotation file, or None if unknown."""
    return next((count for end, count in PUBLISHED.items() if ann_file.endswith(end)), None)
