"""Validation and test loops of matching models: encode all images and captions once, then rank."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine import dist
from mmengine.evaluator import BaseMetric
from mmengine.registry import LOOPS, METRICS
from mmengine.runner import BaseLoop, TestLoop, ValLoop, autocast
from torch import Tensor

from projects.common.build import unwrapped
from projects.common.errors import InputError

from .answers import best_answers
from .feature_file import FeatureFile
from .ranks import RetrievalRanks, ScoreFunction, retrieval_ranks
from .recalls import check_folds, fold_summary, retrieval_summary

__all__ = ['MatchingMetric', 'MatchingTestLoop', 'MatchingValLoop']


@METRICS.register_module()
class MatchingMetric(BaseMetric):
    """Compute R@1, R@5, R@10, median and mean rank in both directions, and RSUM.

    The ranks come from the loops in this module. The keys are ``matching/i2t/r1`` ...
    ``matching/rsum``. With folds (COCO 1K beside COCO 5K) there is also ``matching/fold/...``, the
    mean over the folds for each field.
    """

    default_prefix = 'matching'

    def process(self, data_batch: object, data_samples: list[RetrievalRanks]) -> None:
        """Store the ranks of the whole data set, passed by the loop in a single call."""
        self.results.extend(data_samples)

    def compute_metrics(self, results: list[RetrievalRanks]) -> dict[str, float]:
        """Compute recalls in percent and median and mean ranks, counted from 1."""
        ranks = results[0]
        summary = retrieval_summary(ranks.i2t, ranks.t2i)
        if ranks.fold_i2t is not None:
            folds = fold_summary(ranks)
            summary.update(
                {f'fold/{key}': float(np.mean([fold[key] for fold in folds])) for key in summary}
            )
        return summary


class _MatchingEvaluation(BaseLoop):
    """Implement the parts shared by both loops.

    Args:
        num_folds: Also rank within this many folds: 5 for COCO 1K.
        fold_size: Number of images per fold.
        block_size: Number of images, with their captions, scored in one block.
        similarity_file: A ``.npy`` file to save the full matrix to, for ensembles.
        top_k: Number of answers to keep per query, if they are needed: by a metric other than
            :class:`MatchingMetric`, such as that of ``tools/test.py --out``, or by a hook that
            draws them.

    Attributes:
        answers: Answers to every query of the last run (:func:`best_answers`), or None if they
            were not needed.
    """

    stage: str

    def __init__(
        self,
        runner,
        dataloader,
        evaluator,
        fp16: bool = False,
        num_folds: int | None = None,
        fold_size: int = 1000,
        block_size: int = 256,
        similarity_file: str | None = None,
        top_k: int = 10,
    ) -> None:
        super().__init__(runner, dataloader, evaluator, fp16)
        self.top_k = top_k
        self.answers: list[dict] | None = None
        self.num_folds = num_folds
        self.fold_size = fold_size
        self.block_size = block_size
        self.similarity_file = similarity_file

    def run(self) -> dict[str, float]:
        """Encode and rank the data set and return the metrics.

        Raises:
            ValueError: The data set does not have the number of images that the folds need, or is
                not in test mode.
        """
        hook = self.runner.call_hook
        dataset = self.dataloader.dataset
        if not getattr(dataset, 'test_mode', False):
            raise InputError(
                f'{type(dataset).__name__}: {type(self).__name__} needs test_mode=True'
            )
        if self.num_folds:
            check_folds(dataset.img_size, self.num_folds, self.fold_size, dataset.source)
        hook(f'before_{self.stage}')
        hook(f'before_{self.stage}_epoch')
        self.runner.model.eval()
        model = unwrapped(self.runner.model)
        folder = [tempfile.mkdtemp(prefix='features_', dir=self.runner.work_dir)]
        if dist.get_world_size() > 1:
            own = folder[0]
            dist.broadcast_object_list(folder)
            if own != folder[0]:
                Path(own).rmdir()
        images, captions = (FeatureFile(folder[0], name) for name in ('images', 'captions'))
        try:
            self._encode(model, images, captions)
            images.share(dataset.img_size)
            captions.share(dataset.text_size)
            score = file_scores(model.similarity, images, captions, _device(model))
            if self.similarity_file:
                score = _saved(score, dataset, Path(self.similarity_file))
            ranks = retrieval_ranks(
                score,
                dataset.image_of_caption,
                dataset.img_size,
                self.fold_size if self.num_folds else None,
                self.block_size,
                progress=True,
                top_k=self.top_k if self._answers_wanted() else 0,
            )
        finally:
            images.close()
            captions.close()
            dist.barrier()
            if dist.is_main_process():
                Path(folder[0]).rmdir()
        self.answers = best_answers(dataset, ranks) if self._answers_wanted() else None
        # every process has all answers and passes on its own share
        share = (self.answers or [])[dist.get_rank() :: dist.get_world_size()]
        for metric in self.evaluator.metrics:
            metric.process(None, [ranks] if isinstance(metric, MatchingMetric) else share)
        metrics = self.evaluator.evaluate(max(1, len(self.answers or [])))
        hook(f'after_{self.stage}_epoch', metrics=metrics)
        hook(f'after_{self.stage}')
        return metrics

    def _answers_wanted(self) -> bool:
        others = [m for m in self.evaluator.metrics if not isinstance(m, MatchingMetric)]
        drawing = (getattr(hook, 'draws_answers', False) for hook in self.runner.hooks)
        return bool(others) or any(drawing)

    @torch.no_grad()
    def _encode(self, model, images: FeatureFile, captions: FeatureFile) -> None:
        for idx, batch in enumerate(self.dataloader):
            self.runner.call_hook(f'before_{self.stage}_iter', batch_idx=idx, data_batch=batch)
            data = model.data_preprocessor(batch, False)
            samples = data['data_samples']
            with autocast(enabled=self.fp16):
                found = model.extract_feat(data['inputs'], samples)
            ids = [sample.image_id for sample in samples]
            images.add(ids, found['image_feat'], found['image_lengths'])
            ids = [number for sample in samples for number in sample.gt_text_id]
            captions.add(ids, found['text_feat'], found['text_lengths'])
            self.runner.call_hook(
                f'after_{self.stage}_iter', batch_idx=idx, data_batch=batch, outputs=samples
            )


def _saved(score: ScoreFunction, dataset, path: Path) -> ScoreFunction:
    """Wrap ``score`` to also write the scores to a file."""
    shape = (dataset.img_size, dataset.text_size)
    if dist.is_main_process():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.lib.format.open_memmap(path, 'w+', np.float32, shape).flush()
        texts = '\n'.join(dataset.captions())
        truth = dict(
            source=dataset.source,
            image_of_caption=dataset.image_of_caption.tolist(),
            captions=hashlib.sha256(texts.encode(errors='surrogatepass')).hexdigest(),
        )
        path.with_suffix('.json').write_text(json.dumps(truth))
    dist.barrier()
    matrix = np.load(path, mmap_mode='r+')

    def saved(images: Tensor, captions: Tensor) -> Tensor:
        values = score(images, captions)
        matrix[np.ix_(images.numpy(), captions.numpy())] = values.float().cpu().numpy()
        return values

    return saved


def file_scores(
    similarity, images: FeatureFile, captions: FeatureFile, device: torch.device
) -> ScoreFunction:
    """Return a function that scores embeddings on disk and caches the last image block."""
    kept: dict[str, Any] = {}

    def score(rows: Tensor, columns: Tensor) -> Tensor:
        key = rows.numpy().tobytes()
        if kept.get('key') != key:
            kept.update(key=key, block=[part.to(device) for part in images[rows]])
        return similarity(*kept['block'], *(part.to(device) for part in captions[columns]))

    return score


def _device(model) -> torch.device:
    return next(model.parameters()).device


@LOOPS.register_module()
class MatchingValLoop(_MatchingEvaluation, ValLoop):
    """Validate an :class:`ImageTextMatcher` with memory for the model and a single block.

    Embeddings are stored temporarily in a folder below the work directory. Under a launcher,
    encoding and scoring are split across the processes, with identical results. Takes the
    arguments of MMEngine's loop and of the test loop: ``val_cfg=dict(type='MatchingValLoop')``.
    """

    stage = 'val'


@LOOPS.register_module()
class MatchingTestLoop(_MatchingEvaluation, TestLoop):
    """Test an :class:`ImageTextMatcher`; see :class:`MatchingValLoop`.

    For COCO, set ``test_cfg=dict(type='MatchingTestLoop', num_folds=5)``.
    """

    stage = 'test'
