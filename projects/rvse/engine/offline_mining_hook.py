"""A hook that mines AOQ's offline negatives with a trained model before training."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine import dist
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import Tensor, nn

from projects.common.build import build_quietly, unwrapped
from projects.common.config_index import find_config
from projects.common.errors import InputError
from projects.common.files.atomic import write_atomically
from projects.common.hooks.progress import progress_bar
from projects.common.weights.checkpoint import load_checkpoint_file
from projects.rvse.datasets import OfflineNegativesDataset, fingerprint
from projects.rvse.evaluation import FeatureFile
from projects.rvse.losses import mine_offline_negatives

from .negative_files import read_candidates, similarity_blocks
from .training_set import training_batches

__all__ = ['OfflineMiningHook']

MINERS = ({'candidates'}, {'features'}, {'similarity'}, {'config', 'checkpoint'})


@HOOKS.register_module()
class OfflineMiningHook(Hook):
    """Set the negatives of an :class:`OfflineNegativesDataset` before training.

    The released negatives were mined by a trained VSRN, a model that is not implemented here.
    Either its files are read, or another model is used for mining. ``miner`` is one of

    - ``dict(candidates=('i2t_f30k.npy', 't2i_f30k.npy'))``: the released candidates, captions for
      every image (I, n) and images for every caption (T, n), hardest first;
    - ``dict(features=('img_embs.npy', 'cap_embs.npy'))``: embeddings (I, C) and (T, C) of the
      training set by any model, compared by inner product;
    - ``dict(similarity='train.npy')``: similarities (I, T) by any model;
    - ``dict(config='vse-fc_hn_1xb128-20e_f30k', checkpoint='epoch_20.pth')``: a model of this
      project, which scores the whole training set in blocks;
    - None: the model being trained, with the weights of ``load_from``.

    The result is saved to ``<work_dir>/offline_negatives.npz`` and read back when training resumes.
    The file records the training set and the miner. Several processes share the encoding, but each
    of them scores all pairs.

    Args:
        miner: See above.
        top_captions: Number of negatives per image; 300 in the released code.
        top_images: Number of negatives per caption; 60 in the released code.
        block_size: Number of images per block. A block has five times as many captions.

    Raises:
        ValueError: ``miner`` is none of these, or a file does not fit the training set.
        FileNotFoundError: A file of the miner does not exist.
        TypeError: The training data set is not an :class:`OfflineNegativesDataset`.
    """

    priority = 'LOW'  # runs after the hook that builds the vocabulary

    def __init__(
        self,
        miner: dict | None = None,
        top_captions: int = 300,
        top_images: int = 60,
        block_size: int = 256,
    ) -> None:
        if miner is not None and set(miner) not in MINERS:
            kinds = ', '.join(' and '.join(sorted(kind)) for kind in MINERS)
            raise InputError(
                f'OfflineMiningHook: miner has {sorted(miner)}, expected one of: {kinds}; or None'
            )
        self.miner = miner
        self.top = dict(top_captions=top_captions, top_images=top_images)
        self.block_size = block_size

    @property
    def source(self) -> str:
        """Describe the miner in words."""
        if self.miner is None:
            return 'the model that trains, as it was before'
        if 'config' in self.miner:
            return f'{Path(self.miner["config"]).stem} with {self.miner["checkpoint"]}'
        ((kind, files),) = self.miner.items()
        return f'{kind} {files if isinstance(files, str) else " and ".join(files)}'

    def before_train(self, runner) -> None:
        """Mine the negatives, or read those of an earlier run.

        Raises:
            TypeError: The training data set is not an :class:`OfflineNegativesDataset`.
            ValueError: The file in the work folder belongs to another data set or miner, or has
                other numbers of negatives.
        """
        dataset = runner.train_dataloader.dataset
        if not isinstance(dataset, OfflineNegativesDataset):
            raise TypeError(
                f'OfflineMiningHook: train_dataloader.dataset is a {type(dataset).__name__}, '
                'expected OfflineNegativesDataset'
            )
        path = Path(runner.work_dir) / 'offline_negatives.npz'
        mined_for = fingerprint(dataset.dataset)
        if not path.is_file():
            runner.logger.info(f'offline negatives: mined by {self.source}')
            if self.miner is None and not (runner._load_from or runner._resume):
                runner.logger.warning(
                    'OfflineMiningHook: neither miner nor load_from is given, so that random '
                    'weights choose the offline negatives'
                )
            captions, images = self._mine(runner, dataset)
            if dist.is_main_process():
                buffer = io.BytesIO()
                np.savez(
                    buffer,
                    captions=captions,
                    images=images,
                    mined_for=np.array(mined_for),
                    mined_by=np.array(self.source),
                )
                write_atomically(path, buffer.getbuffer())
            dist.barrier()
        dataset.set_negatives(*self._read(path, mined_for))

    def _read(self, path: Path, mined_for: str) -> tuple[Tensor, Tensor]:
        with np.load(path, allow_pickle=False) as arrays:
            if missing := {'captions', 'images', 'mined_for', 'mined_by'} - set(arrays):
                raise InputError(
                    f'{path}: no {sorted(missing)[0]!r}; it is of an older version: delete it'
                )
            captions, images = arrays['captions'], arrays['images']
            found = str(arrays['mined_for'])
            if found != mined_for:
                raise InputError(
                    f'{path}: mined_for: {found}, expected {mined_for}: its negatives belong to '
                    'other training data; delete it or take another work_dir'
                )
            if str(arrays['mined_by']) != self.source:
                raise InputError(
                    f'{path}: mined_by: {arrays["mined_by"]}, expected {self.source}; delete it or '
                    'take another work_dir'
                )
        shown = (captions.shape[1], images.shape[1])
        if shown != tuple(self.top.values()):
            raise InputError(
                f'{path}: {shown[0]} captions and {shown[1]} images each, expected '
                f'{self.top["top_captions"]} and {self.top["top_images"]}; delete it or take '
                'another work_dir'
            )
        return torch.from_numpy(captions), torch.from_numpy(images)

    def _mine(self, runner, dataset: OfflineNegativesDataset) -> tuple[Tensor, Tensor]:
        owner = torch.from_numpy(dataset.image_of_caption)
        miner = self.miner or {}
        if 'candidates' in miner:
            return read_candidates(miner['candidates'], owner, **self.top)
        if 'features' in miner or 'similarity' in miner:
            files = miner.get('features') or [miner['similarity']]
            blocks = similarity_blocks(files, owner, self.block_size)
            return mine_offline_negatives(blocks, owner, **self.top)
        model = self._load_miner(runner) if miner else unwrapped(runner.model)
        return self._score(runner, dataset, model, owner)

    def _load_miner(self, runner) -> nn.Module:
        assert self.miner is not None
        config, checkpoint = self.miner['config'], self.miner['checkpoint']
        cfg = Config.fromfile(find_config(config))
        if not Path(checkpoint).is_file():
            raise FileNotFoundError(
                f'OfflineMiningHook: miner.checkpoint {checkpoint}: no such file; train '
                f'{Path(config).stem} first, or name another miner in custom_hooks'
            )
        model = build_quietly(cfg.model, cfg.default_scope)
        state = load_checkpoint_file(checkpoint)
        state = state.get('state_dict', state) if isinstance(state, dict) else {}
        try:
            model.load_state_dict(state)
        except (RuntimeError, AttributeError) as error:
            raise InputError(
                f'OfflineMiningHook: miner.checkpoint {checkpoint} is not one of '
                f'{Path(config).stem}: {" ".join(str(error).split())[:200]}'
            ) from None
        return model.to(next(runner.model.parameters()).device)

    @torch.no_grad()
    def _score(
        self, runner, dataset: OfflineNegativesDataset, model: Any, owner: Tensor
    ) -> tuple[Tensor, Tensor]:
        training = model.training
        model.eval()
        first = torch.from_numpy(np.unique(dataset.image_of_caption, return_index=True)[1])
        rank, world = dist.get_rank(), dist.get_world_size()
        images = FeatureFile(runner.work_dir, 'offline_images')
        captions = FeatureFile(runner.work_dir, 'offline_captions')
        inner = dataset.dataset
        try:
            with progress_bar((len(first) + len(owner)) // world, 'encoding', 'sample') as bar:
                for rows, data in training_batches(runner, inner, first[rank::world], None, model):
                    images.add(owner[rows].tolist(), *model.encode_images(data['inputs']))
                    for _ in rows:
                        bar.update()
                mine = torch.arange(len(owner))[rank::world]
                for rows, data in training_batches(runner, inner, mine, None, model):
                    texts = [sample.text for sample in data['data_samples']]
                    captions.add(rows.tolist(), *model.encode_captions(texts))
                    for _ in rows:
                        bar.update()
            images.share(len(first))
            captions.share(len(owner))
            device = next(model.parameters()).device

            def blocks() -> Iterator[Tensor]:
                with progress_bar(len(first), 'offline negatives', 'image') as bar:
                    for block in torch.arange(len(first)).split(self.block_size):
                        picture = [part.to(device) for part in images[block]]
                        scores = []
                        for some in torch.arange(len(owner)).split(5 * self.block_size):
                            caption = [part.to(device) for part in captions[some]]
                            scores.append(model.similarity(*picture, *caption).cpu())
                        yield torch.cat(scores, dim=1)
                        for _ in block:
                            bar.update()

            return mine_offline_negatives(blocks(), owner, **self.top)
        finally:
            images.close()
            captions.close()
            model.train(training)
