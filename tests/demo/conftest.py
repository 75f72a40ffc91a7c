"""The page over small untrained models, served once for each module."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from PIL import Image

from demo.answers import Answers, Gallery
from demo.examples import ExampleScenes
from projects.common.build import build_quietly
from projects.common.scenes import SHAPES
from projects.common.text import WordPieceTokenizer
from projects.pdsl import WeakInstanceInferencer
from projects.plvl import GroundingInferencer
from projects.rvse import RetrievalInferencer
from projects.rvse.text import Vocabulary

SENTENCES = ['the red circle', 'a small star left of the heart', 'two big hearts']


def _plvl(repo_root: Path, path: Path) -> Path:
    cfg = Config.fromfile(repo_root / 'configs/plvl/plvl_tiny_1xb8-150e_refcoco.py')
    backbone = dict(depth=2, global_indexes=(0, 1), language_indexes=(1,))
    cfg.merge_from_dict(dict(model=dict(backbone=backbone, decoder=dict(num_layers=1))))
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.text_encoder.set_tokenizer(WordPieceTokenizer.learn(SENTENCES, 200))
    torch.save(dict(state_dict=model.state_dict(), meta=dict(cfg=cfg.pretty_text)), path)
    return path


def _pdsl(repo_root: Path, path: Path) -> Path:
    cfg = Config.fromfile(repo_root / 'configs/pdsl/pdsl_tiny_1xb4-600_scenes.py')
    cfg.model.test_cfg.rcnn.max_per_img = 10
    model = build_quietly(cfg.model, 'mmdet')
    model.roi_head.bbox_head.init_weights()
    meta = dict(cfg=cfg.pretty_text, dataset_meta=dict(classes=SHAPES))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return path


def _rvse(repo_root: Path, path: Path) -> Path:
    cfg = Config.fromfile(repo_root / 'configs/rvse/rvse_tiny_1xb32-3e_scenes.py')
    cfg.model.text_encoder.vocab_size = 20
    model = build_quietly(cfg.model, 'mmpretrain')
    model.text_encoder.set_vocabulary(Vocabulary.build(SENTENCES, min_count=1))
    torch.save(dict(state_dict=model.state_dict(), meta=dict(cfg=cfg.pretty_text)), path)
    return path


@pytest.fixture(scope='session')
def models(repo_root: Path, tmp_path_factory) -> SimpleNamespace:
    """The three inferencers, read from checkpoints as training leaves them."""
    folder = tmp_path_factory.mktemp('weights')
    torch.manual_seed(0)
    common = dict(device='cpu', show_progress=False)
    return SimpleNamespace(
        ground=GroundingInferencer(weights=_plvl(repo_root, folder / 'plvl.pth'), **common),
        weak=WeakInstanceInferencer(weights=_pdsl(repo_root, folder / 'pdsl.pth'), **common),
        search=RetrievalInferencer(weights=_rvse(repo_root, folder / 'rvse.pth'), **common),
        folder=folder,
    )


@pytest.fixture(scope='session')
def scenes(tmp_path_factory) -> ExampleScenes:
    return ExampleScenes(tmp_path_factory.mktemp('scenes') / 'scenes')


@pytest.fixture(scope='session')
def photos(tmp_path_factory) -> Path:
    """Images of noise, one of them damaged."""
    folder = tmp_path_factory.mktemp('photos')
    rng = np.random.default_rng(0)
    for i in range(6):
        size = (60 + 10 * i, 90 - 5 * i, 3)
        array = rng.integers(0, 255, size, dtype=np.uint8) // (1 + i)
        Image.fromarray(array).save(folder / f'{i}.png')
    (folder / 'damaged.png').write_bytes((folder / '0.png').read_bytes()[:2000])
    return folder


@pytest.fixture(scope='session')
def answers(models, scenes, photos) -> Answers:
    gallery = Gallery(models.search, photos, scenes.captions)
    return Answers(models.ground, models.weak, models.search, gallery)


@pytest.fixture(scope='module')
def url(answers, scenes, tmp_path_factory):
    """Where the page is served, until the module ends."""
    # gradio reads the variable whenever it writes a file
    os.environ['GRADIO_TEMP_DIR'] = str(tmp_path_factory.mktemp('gradio'))
    from demo.components import launch
    from demo.page import build_page

    page = build_page(answers, scenes)
    yield launch(page, '127.0.0.1', None)
    page.close()
    del os.environ['GRADIO_TEMP_DIR']
