"""Mean average precision of image-level scores as a tag classifier."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmengine.registry import METRICS
from sklearn.metrics import average_precision_score

from projects.common.errors import InputError

__all__ = ['TagMetric']


@METRICS.register_module()
class TagMetric(BaseMetric):
    """Compute the mAP of classifying images by their image-level scores y (Eq. 2), in percent.

    ``tag_map`` is the mean over classes of the average precision (as in scikit-learn: the mean of
    the precisions at each positive image, without interpolation). Classes that occur in no image or
    in every image are left out; if no class remains, the result is NaN, with a warning. The scores
    are ``pred_instances.image_scores`` (n_c,), which :class:`PDSL` puts into the metainfo. The
    ground truth is the data samples' ``tags``, or the classes of their ``instances`` if there are
    no tags.

    Args:
        collect_device: 'cpu' or 'gpu'.
        prefix: Prefix of the keys.

    Raises:
        ValueError: A data sample has no scores, or neither tags nor instances.

    Example:
        >>> import torch
        >>> metric = TagMetric()
        >>> metric.dataset_meta = dict(classes=('cat', 'dog'))
        >>> for score, tags in ((0.9, [0]), (0.6, []), (0.4, [0])):
        ...     pred = dict(image_scores=torch.tensor([score, 0.5]))
        ...     metric.process({}, [dict(pred_instances=pred, tags=tags)])
        >>> round(metric.evaluate(size=3)['weak/tag_map'], 2)  # (1 / 1 + 2 / 3) / 2
        83.33
    """

    default_prefix = 'weak'

    def __init__(self, collect_device: str = 'cpu', prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Record the scores (n_c,) of each image and which classes are present.

        Raises:
            ValueError: A sample has no ``image_scores``, or neither tags nor ``instances``.
        """
        for sample in data_samples:
            where = f'TagMetric: {sample.get("img_path", "a data sample")}'
            scores = sample['pred_instances'].get('image_scores')
            if scores is None:
                raise InputError(f"{where} has no 'image_scores' in its pred_instances")
            if 'tags' in sample:
                tags = sample['tags']
            elif 'instances' in sample:
                tags = [ann['bbox_label'] for ann in sample['instances']]
            else:
                raise InputError(
                    f"{where} has neither 'tags' nor 'instances'; add one to PackDetInputs' "
                    'meta_keys'
                )
            present = np.zeros(len(scores), dtype=bool)
            present[list(tags)] = True
            self.results.append((np.asarray(scores.cpu()), present))

    def compute_metrics(self, results: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
        """Return ``tag_map``, the mean AP over rankable classes, in percent."""
        scores, present = (np.stack(part) for part in zip(*results))
        precisions = [
            average_precision_score(present[:, label], scores[:, label])
            for label in range(present.shape[1])
            if 0 < present[:, label].sum() < len(present)
        ]
        if not precisions:
            print_log(
                'TagMetric: no class is in some images and not in others; tag_map is NaN',
                'current',
                logging.WARNING,
            )
            return dict(tag_map=float('nan'))
        return dict(tag_map=100 * float(np.mean(precisions)))
