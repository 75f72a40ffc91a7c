"""The three projects, small, on a few generated scenes."""

from __future__ import annotations

import copy
import functools
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, FUNCTIONS, DefaultScope
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from projects.common.build import build_quietly
from projects.common.cli.config import load_config
from projects.common.cli.run import copy_asynchronously
from projects.common.scenes import write_dataset
from projects.common.text import WordPieceTokenizer
from projects.pdsl.proposals import generate_proposals
from projects.pdsl.proposals.images import list_images
from projects.rvse.text import Vocabulary

ROOT = Path(__file__).resolve().parents[2]
PROJECTS = ('plvl', 'pdsl', 'rvse')
TINY = {
    'plvl': 'plvl/plvl_tiny_1xb16-3k_scenes',
    'pdsl': 'pdsl/pdsl_tiny_1xb4-600_scenes',
    'rvse': 'rvse/rvse_tiny_1xb32-3e_scenes',
}
PAPER = {
    'plvl': 'plvl/plvl_vit-b_4xb20-150e_refcoco',
    'pdsl': 'pdsl/pdsl_r18_4xb1-100k_voc12',
    'rvse': 'rvse/rvsepp_selhn_1xb128-30e_coco',
}
SAMPLES = {'plvl': 4, 'pdsl': 2, 'rvse': 12}  # of a batch
IMAGES = 8


def scenes(work_dir: Path) -> Path:
    """Return a folder with scenes and proposals, which are generated once."""
    folder = work_dir / 'scenes'
    write_dataset(
        folder, num_train=IMAGES, num_val=2, num_test=2, image_size=128, progress=False
    )  # fmt: skip
    generate_proposals(
        list_images(folder / 'images'), folder / 'proposals', max_proposals=60, min_side=8
    )
    return folder


def config(project: str, work_dir: Path, **changes: Any) -> Config:
    """Return the config of the quick start, on the scenes of this check."""
    cfg = load_config(ROOT / f'configs/{TINY[project]}.py')
    folder = str(scenes(work_dir))
    for name in ('train', 'val', 'test'):
        loader = cfg[f'{name}_dataloader']
        loader.batch_size = min(SAMPLES[project], loader.batch_size)
        loader.dataset.data_root = folder
        for step in loader.dataset.pipeline:
            if step.type == 'LoadStoredProposals':
                step.folder = f'{folder}/proposals'
    if project == 'pdsl':
        cfg.model.cue = dict(type='GrabCutCue', iterations=1, num_threads=1)
    if project == 'rvse':  # draws differ between devices
        cfg.model.text_encoder.word_dropout = 0.0
    cfg.merge_from_dict(changes)
    copy_asynchronously(cfg)  # as tools/train.py does
    return cfg


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the logs below errors."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)


def seed_everything(seed: int = 0) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def build(cfg: Config, device: str | torch.device = 'cpu') -> nn.Module:
    """Build the model of a config with the same weights every time."""
    seed_everything()
    with quiet():
        model = build_quietly(cfg.model, cfg.get('default_scope', 'mmdet'))
        model.init_weights()
    texts = _texts(cfg)
    if texts and cfg.model.type == 'PLVL':
        model.text_encoder.set_tokenizer(WordPieceTokenizer.learn(texts, 200))
    elif texts:
        model.text_encoder.set_vocabulary(Vocabulary.build(texts, min_count=1))
    return model.to(device)


def rvsepp(device: str) -> tuple[Config, nn.Module, dict]:
    """Return RVSE++'s config with fewer channels and a small BERT, its model and a batch."""
    cfg = load_config(ROOT / f'configs/{PAPER["rvse"]}.py')
    cfg.model.image_encoder.in_channels = 16
    bert = dict(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    cfg.model.text_encoder.encoder = dict(bert=bert, max_tokens=128)
    copy_asynchronously(cfg)
    seed_everything()
    with quiet():
        model = build_quietly(cfg.model, cfg.get('default_scope', 'mmengine'))
        model.init_weights()
    texts = [f'a {color} dog{" runs" * i}' for color in ('red', 'blue') for i in range(4)]
    model.text_encoder.set_tokenizer(WordPieceTokenizer.learn(texts, 100))
    found = [
        dict(inputs=torch.randn(36, 16), data_samples=DataSample(text=text, image_id=i))
        for i, text in enumerate(texts)
    ]
    collate = cfg.train_dataloader.collate_fn['type']
    return cfg, model.to(device), FUNCTIONS.get(collate)(found)


def _texts(cfg: Config) -> list[str]:
    dataset = dataset_of(cfg.train_dataloader.dataset.to_dict(), cfg.get('default_scope', 'mmdet'))
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    found = [info['text'] for info in infos if 'text' in info]
    return [text for one in found for text in (one if isinstance(one, list) else [one])]


def dataset_of(cfg: dict, scope: str) -> Any:
    with DefaultScope.overwrite_default_scope(scope):
        return DATASETS.build(copy.deepcopy(cfg))


@functools.cache
def _batch(project: str, work_dir: Path, part: str) -> dict:
    cfg = config(project, work_dir)
    loader = cfg[f'{part}_dataloader']
    dataset = dataset_of(loader.dataset.to_dict(), cfg.get('default_scope', 'mmdet'))
    seed_everything(1)
    count = min(SAMPLES[project], len(dataset))
    step = max(1, len(dataset) // count)  # different images
    found = [dataset[i * step] for i in range(count)]
    collate = loader.get('collate_fn', dict(type='pseudo_collate'))['type']
    return FUNCTIONS.get(collate)(found)


def batch(project: str, work_dir: Path, part: str = 'train') -> dict:
    """Return a batch as a data loader gives it, the same every time."""
    return copy.deepcopy(_batch(project, work_dir, part))


def tokenized(model: nn.Module, data: dict) -> dict:
    """Tokenize the captions of a batch as the workers of a loader do, if the model lets them."""
    encoder: Any = getattr(model, 'text_encoder', None)
    if hasattr(encoder, 'caption_tokenizer'):
        tokenize = encoder.caption_tokenizer()
        for sample in data['data_samples']:
            texts = [sample.text] if isinstance(sample.text, str) else sample.text
            sample.token_ids = [tokenize(text) for text in texts]
    return data


def wrapper_of(cfg: Config, model: nn.Module, **changes: Any) -> Any:
    """Build the optimizer wrapper of a config."""
    wanted = copy.deepcopy(cfg.optim_wrapper)
    wanted.update(changes)
    return build_optim_wrapper(model, wanted)


def losses_of(model: nn.Module, data: dict) -> dict[str, Tensor]:
    """Return the losses of a batch; the seeds of what is drawn are the same every time."""
    seed_everything(2)
    inside = getattr(model, 'module', model)  # of a wrapper
    prepared = inside.data_preprocessor(copy.deepcopy(data), True)
    found = model(**prepared, mode='loss')
    return {key: sum(value) if isinstance(value, list) else value for key, value in found.items()}


def total(losses: dict[str, Tensor]) -> Tensor:
    """Return the sum that is trained on: that of the values whose names have ``loss``."""
    return sum(value.mean() for key, value in losses.items() if 'loss' in key)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: p.grad.detach().cpu().clone()
        for name, p in model.named_parameters()
        if p.grad is not None
    }


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().cpu().clone() for name, p in model.named_parameters()}


def distance(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Return the largest distance of two tensors of a name, in parts of the expected one's norm.

    Norms below a thousandth of the median count as that much: rounding alone fills tensors that
    would be zero.
    """
    if found.keys() != expected.keys():
        raise ValueError(f'different names: {sorted(found.keys() ^ expected.keys())[:5]}')
    norms = {name: float(value.norm()) for name, value in expected.items()}
    least = 1e-3 * float(np.median(list(norms.values()))) or 1e-12
    return max(
        float((found[name] - value).norm()) / max(norms[name], least)
        for name, value in expected.items()
    )
