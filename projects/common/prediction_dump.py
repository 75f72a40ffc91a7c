"""Write predictions to a file instead of scoring them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmengine
import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from .errors import InputError

__all__ = ['PredictionDump', 'encode_mask']


@METRICS.register_module()
class PredictionDump(BaseMetric):
    """Write each sample's metainfo and predictions (`pred_*`) as plain data.

    `tools/test.py --out` adds this metric to the evaluators.

    Masks are stored as COCO run-length encodings and other tensors as lists. Dense maps (tensors
    with more than `max_numbers` elements) are left out because they would fill gigabytes.

    Args:
        out_file: Path of the file, which ends in `.json` or `.pkl`.
        max_numbers: Number of elements of the largest tensor that is written.
    """

    default_prefix = ''  # there are no values to name, and MMEngine warns about None

    def __init__(
        self, out_file: str, max_numbers: int = 10_000, collect_device: str = 'cpu'
    ) -> None:
        super().__init__(collect_device=collect_device)
        if Path(out_file).suffix not in ('.json', '.pkl'):
            raise InputError(f"--out {out_file}: the file's name must end in .json or .pkl")
        self.out_file = out_file
        self.max_numbers = max_numbers

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Store the metainfo and the predictions of each sample as plain data."""
        for sample in data_samples:
            kept = {k: v for k, v in sample.items() if not k.startswith(('gt_', 'ignored_', '_'))}
            self.results.append(self._plain(kept))

    def _plain(self, value: Any) -> Any:
        if isinstance(value, dict):
            plain = {str(k): self._plain(v) for k, v in value.items()}
            return {k: v for k, v in plain.items() if v is not NotImplemented}
        if isinstance(value, (list, tuple)):
            return [self._plain(v) for v in value]
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(value)
        if isinstance(value, torch.Tensor):
            if value.dtype == torch.bool and value.ndim == 3:
                return [encode_mask(mask) for mask in value.cpu().numpy()]
            return value.tolist() if value.numel() <= self.max_numbers else NotImplemented
        if isinstance(value, np.generic):
            return value.item()
        return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)

    def compute_metrics(self, results: list) -> dict:
        """Write the file and return no scores."""
        mmengine.dump(results, self.out_file)
        return {}


def encode_mask(mask: np.ndarray) -> dict:
    """Encode a boolean mask (H, W) in COCO run-length encoding, with the counts as a string."""
    from pycocotools import mask as coco_mask

    encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {'size': [int(n) for n in encoded['size']], 'counts': encoded['counts'].decode('ascii')}
