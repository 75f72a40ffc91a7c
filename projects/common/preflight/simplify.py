"""Simplify a config for a preflight: no outputs, few samples, nothing that this machine lacks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from ..errors import InputError
from .findings import Findings
from .image_scale import scale_images
from .report import Options

__all__ = ['few_samples', 'simplify']

VALIDATED = 8  # samples per data set, enough to get the names of the metrics

# Hooks that write, draw or stop, and do not affect the first steps.
_LEFT_OUT = ('CheckpointHook', 'LoggerHook', 'ProgressBarHook', 'NonFiniteLossHook',
             'VisualizationHook', 'EarlyStoppingHook', 'ProfilerHook')  # fmt: skip


def simplify(cfg: Config, findings: Findings, options: Options, folder: str) -> None:
    """Remove outputs from a config, and everything that is not available on this machine.

    Args:
        cfg: The config, which is changed in place.
        findings: Notes of what was changed.
        options: See :class:`.Options`.
        folder: Folder for what is written during the run.
    """
    cfg.work_dir = folder
    cfg.experiment_name = os.path.basename(folder)  # MMEngine keeps one logger per name
    cfg.resume = False
    cfg.log_level = 'WARNING'
    cfg.visualizer = dict(type='Visualizer', name=folder, vis_backends=[])
    hooks = cfg.get('default_hooks') or {}
    cfg.default_hooks = {
        key: hook
        for key, hook in hooks.items()
        if hook is not None and not str(hook['type']).endswith(_LEFT_OUT)
    }
    # None disables a default hook of MMEngine.
    cfg.default_hooks.update(logger=None, checkpoint=None)
    cfg.custom_hooks = [
        hook for hook in cfg.get('custom_hooks') or [] if not str(hook['type']).endswith(_LEFT_OUT)
    ]
    randomness = cfg.setdefault('randomness', {})
    if randomness.get('seed') is None:
        randomness['seed'] = options.seed
    float16 = (
        cfg.optim_wrapper.get('type') == 'AmpOptimWrapper'
        and str(cfg.optim_wrapper.get('dtype')) != 'bfloat16'
    )
    if float16 and not torch.cuda.is_available():
        findings.note('float16 needs a GPU: judged in float32')
        cfg.optim_wrapper.type = 'OptimWrapper'
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            cfg.optim_wrapper.pop(key, None)
    if cfg.get('load_from') and not os.path.isfile(os.path.expanduser(cfg.load_from)):
        _absent_weights('load_from', cfg.load_from, findings, options)
        cfg.load_from = None
    for init_cfg in list(_pretrained(cfg.model)):
        checkpoint = init_cfg['init_cfg']['checkpoint']
        if not os.path.isfile(os.path.expanduser(checkpoint)):
            if options.like_pretrained is None and '://' in checkpoint:
                continue  # MMEngine downloads it
            _absent_weights('checkpoint', checkpoint, findings, options)
            init_cfg['init_cfg'] = None
    for section in ('train_dataloader', 'val_dataloader'):
        if cfg.get(section) is not None:
            cfg[section].update(num_workers=0, persistent_workers=False)
            for key in ('prefetch_factor', 'timeout', 'multiprocessing_context'):
                cfg[section].pop(key, None)
    if options.batch_size is not None:
        cfg.train_dataloader.batch_size = options.batch_size
    if options.image_scale != 1:
        loaders = [cfg.get(name) for name in ('train_dataloader', 'val_dataloader')]
        if not scale_images(loaders, options.image_scale):
            raise InputError(
                f'--image-scale {options.image_scale:g}: no transform of this config resizes or '
                'crops to a size in pixels'
            )
        findings.note(f'images are {options.image_scale:g} times as large as in training')
    cfg.train_cfg.val_begin = 10**9  # validation is run separately
    if (cfg.get('val_cfg') or {}).get('type', 'ValLoop') == 'ValLoop' and cfg.get('val_dataloader'):
        few_samples(cfg.val_dataloader.dataset)
    cfg.pop('compile', None)


def few_samples(dataset: Any) -> None:
    """Limit MMEngine data sets to their first samples, in place."""
    for child in (dataset.get('dataset'), *(dataset.get('datasets') or ())):
        if isinstance(child, Mapping):
            few_samples(child)
    kind = DATASETS.get(str(dataset.get('type')))
    if isinstance(kind, type) and issubclass(kind, BaseDataset):
        dataset.setdefault('indices', VALIDATED)


def _pretrained(node: Any) -> Iterator[Any]:
    """Yield the dicts below a node that have ``init_cfg=dict(type='Pretrained', ...)``."""
    if isinstance(node, Mapping):
        init = node.get('init_cfg')
        if isinstance(init, Mapping) and str(init.get('type')) == 'Pretrained':
            yield node
        for child in list(node.values()):
            yield from _pretrained(child)
    elif isinstance(node, (list, tuple)):
        for child in node:
            yield from _pretrained(child)


def _absent_weights(field_name: str, path: str, findings: Findings, options: Options) -> None:
    if options.like_pretrained is None:
        findings.fail(
            f'{field_name} {path}: no such file; --like-pretrained judges the recipe without it'
        )
    else:
        findings.note(f'{field_name} {path} is not at hand: judged like pretrained')
