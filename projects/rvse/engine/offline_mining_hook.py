"""Mines AOQ's offline negatives with the model as it is before the training."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import Tensor

from projects.common.build import unwrapped
from projects.common.files import write_atomically
from projects.common.progress import progress_bar
from projects.rvse.datasets import OfflineNegativesDataset
from projects.rvse.evaluation import FeatureFile
from projects.rvse.losses import mine_offline_negatives

from .training_set import training_batches

__all__ = ['OfflineMiningHook']


@HOOKS.register_module()
class OfflineMiningHook(Hook):
    """Gives an :class:`OfflineNegativesDataset` its negatives before the training begins.

    The model, which ``load_from`` has brought to the state of a trained one, scores the whole
    training set in blocks. The outcome is kept in ``<work_dir>/offline_negatives.npz``; a training
    that resumes reads it from there. Several processes share the
    encoding, and each scores all.

    Args:
        top: Negatives of every picture and of every caption; 300 as published.
        block_size: Pictures, and captions times five, of a block.

    Raises:
        TypeError: The training data set is another one.
    """

    priority = 'LOW'  # behind the hook that makes a vocabulary

    def __init__(self, top: int = 300, block_size: int = 256) -> None:
        self.top = top
        self.block_size = block_size

    def before_train(self, runner) -> None:
        """Mines, or reads what an earlier start mined.

        Raises:
            TypeError: The training data set is another one.
        """
        dataset = runner.train_dataloader.dataset
        if not isinstance(dataset, OfflineNegativesDataset):
            raise TypeError(
                f'OfflineMiningHook: train_dataloader.dataset is a {type(dataset).__name__}, '
                'expected OfflineNegativesDataset'
            )
        path = Path(runner.work_dir) / 'offline_negatives.npz'
        if not path.is_file():
            captions, pictures = self._mine(runner, dataset)
            if dist.is_main_process():
                buffer = io.BytesIO()
                np.savez(buffer, captions=captions, pictures=pictures)
                write_atomically(path, buffer.getbuffer())
            dist.barrier()
        with np.load(path, allow_pickle=False) as arrays:
            found = [torch.from_numpy(arrays[name]) for name in ('captions', 'pictures')]
        dataset.set_negatives(*found)

    @torch.no_grad()
    def _mine(self, runner, dataset: OfflineNegativesDataset) -> tuple[Tensor, Tensor]:
        model = unwrapped(runner.model)
        training, owner = model.training, torch.from_numpy(dataset.image_of_caption)
        model.eval()
        first = torch.from_numpy(np.unique(dataset.image_of_caption, return_index=True)[1])
        rank, world = dist.get_rank(), dist.get_world_size()
        images = FeatureFile(runner.work_dir, 'offline_images')
        captions = FeatureFile(runner.work_dir, 'offline_captions')
        try:
            with progress_bar((len(first) + len(owner)) // world, 'encoding', 'sample') as bar:
                for rows, data in training_batches(runner, dataset.dataset, first[rank::world]):
                    images.add(owner[rows].tolist(), *model.encode_images(data['inputs']))
                    for _ in rows:
                        bar.update()
                mine = torch.arange(len(owner))[rank::world]
                for rows, data in training_batches(runner, dataset.dataset, mine):
                    texts = [sample.text for sample in data['data_samples']]
                    captions.add(rows.tolist(), *model.encode_captions(texts))
                    for _ in rows:
                        bar.update()
            images.share(len(first))
            captions.share(len(owner))
            device = next(model.parameters()).device

            def blocks():
                with progress_bar(len(first), 'offline negatives', 'picture') as bar:
                    for block in torch.arange(len(first)).split(self.block_size):
                        picture = [part.to(device) for part in images[block]]
                        scores = []
                        for some in torch.arange(len(owner)).split(5 * self.block_size):
                            caption = [part.to(device) for part in captions[some]]
                            scores.append(model.similarity(*picture, *caption).cpu())
                        yield torch.cat(scores, dim=1)
                        for _ in block:
                            bar.update()

            return mine_offline_negatives(blocks(), owner, self.top)
        finally:
            images.close()
            captions.close()
            model.train(training)
