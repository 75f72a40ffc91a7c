"""tools/misc/publish_model.py, and the inferencers on the folders that it writes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from pycocotools import mask as coco_mask

from projects.common.build import build_quietly
from projects.common.text import WordPieceTokenizer
from projects.common.weights.published import find_published, read_published
from projects.pdsl import WeakInstanceInferencer
from projects.plvl import GroundingInferencer
from projects.rvse import RetrievalInferencer
from projects.rvse.text import Vocabulary

SENTENCES = ['a red circle', 'the star left of the heart', 'two dogs']
CLASSES = ('circle', 'square', 'triangle', 'star', 'cross', 'heart')


@pytest.fixture(scope='module')
def image(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp('images') / 'noise.png'
    rng = np.random.default_rng(0)
    cv2.imwrite(str(path), rng.integers(0, 255, (60, 90, 3), dtype=np.uint8))
    return str(path)


# ------------------------------------------------------- a small model of each project


def plvl(repo_root: Path):
    cfg = Config.fromfile(repo_root / 'configs/plvl/plvl_tiny_1xb8-150e_refcoco.py')
    backbone = dict(depth=2, global_indexes=(0, 1), language_indexes=(1,))
    cfg.merge_from_dict(dict(model=dict(backbone=backbone, decoder=dict(num_layers=1))))
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.text_encoder.set_tokenizer(WordPieceTokenizer.learn(SENTENCES, 200))
    return cfg, model, {}


def pdsl(repo_root: Path):
    (path,) = (repo_root / 'configs/pdsl').glob('pdsl_tiny_*_scenes.py')
    cfg = Config.fromfile(path)
    cfg.merge_from_dict({'model.test_cfg.rcnn.max_per_img': 10})
    model = build_quietly(cfg.model, 'mmdet')
    model.roi_head.bbox_head.init_weights()
    return cfg, model, dict(CLASSES=CLASSES, PALETTE=[(1, 2, 3)] * 6, ignored='x')


def rvse(repo_root: Path):
    pool = dict(type='GPO')
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(32, 32), keep_ratio=False),
        dict(type='mmpretrain.PackInputs', meta_keys=['img_path']),
    ]
    model = dict(
        type='ImageTextMatcher',
        data_preprocessor=dict(
            type='ImgDataPreprocessor', mean=[120] * 3, std=[60] * 3, bgr_to_rgb=True
        ),
        backbone=dict(type='mmpretrain.ResNet', depth=18, stem_channels=8, base_channels=8),
        image_encoder=dict(type='RegionFC', in_channels=64, channels=16, pool=pool),
        text_encoder=dict(
            type='BiGRUTextEncoder', vocab_size=40, word_channels=8, channels=16, pool=pool
        ),
        similarity=dict(type='CosineSimilarity'),
    )
    loader = dict(dataset=dict(type='x', pipeline=pipeline))
    cfg = Config(dict(default_scope='mmpretrain', model=model, test_dataloader=loader))
    built = MODELS.build(cfg.model)
    built.text_encoder.set_vocabulary(Vocabulary.build(SENTENCES, min_count=1))
    return cfg, built, {}


MAKE = dict(plvl=plvl, pdsl=pdsl, rvse=rvse)


@pytest.fixture(scope='module')
def checkpoint(repo_root: Path, tmp_path_factory):
    """Return the checkpoint of a project's small model, as training leaves it."""
    folder = tmp_path_factory.mktemp('checkpoints')

    def make(project: str) -> Path:
        path = folder / f'{project}.pth'
        if not path.exists():
            torch.manual_seed(0)
            cfg, model, dataset_meta = MAKE[project](repo_root)
            cfg.work_dir = '/home/somebody/secret'
            meta = dict(cfg=cfg.pretty_text, dataset_meta=dataset_meta, epoch=3)
            optimizer = dict(state={0: torch.zeros(1_000_000)})
            state = model.state_dict()
            torch.save(dict(state_dict=state, meta=meta, optimizer=optimizer), path)
        return path

    return make


def predictions(project: str, weights: str | Path, image: str) -> list[np.ndarray]:
    """Return all numbers that the project's inferencer gives for the image, labels first."""
    common = dict(weights=weights, device='cpu', show_progress=False)
    if project == 'plvl':
        found = GroundingInferencer(**common)(image, SENTENCES)['predictions']
        boxes, scores = [each['bbox'] for each in found], [each['score'] for each in found]
        masks = [coco_mask.decode(each['mask']) for each in found]
        return [np.zeros(0), *map(np.asarray, (boxes, scores, masks))]
    if project == 'pdsl':
        inferencer = WeakInstanceInferencer(**common)
        assert inferencer.classes == CLASSES
        meta = {k.lower(): v for k, v in inferencer.checkpoint_meta['dataset_meta'].items()}
        assert [tuple(color) for color in meta['palette']] == [(1, 2, 3)] * 6
        proposals = np.array([[5, 5, 40, 40], [20, 10, 80, 55], [50, 30, 88, 58]], np.float32)
        (found,) = inferencer(image, proposals)['predictions']
        masks = [coco_mask.decode(each) for each in found['masks']]
        return [
            np.array(found['labels']),
            *map(np.asarray, (found['bboxes'], found['scores'], masks)),
        ]
    inferencer = RetrievalInferencer(**common)
    return [
        np.zeros(0),
        inferencer.encode_images(image),
        inferencer.encode_sentences(SENTENCES),
        np.zeros((1, 2, 2)),
    ]


@pytest.mark.parametrize('project', MAKE)
def test_predictions_stay(project, checkpoint, image, call_tool, tmp_path):
    """Equal in float32; within 1 % of the image in float16, with the same labels."""
    path = checkpoint(project)
    expected = predictions(project, path, image)
    for dtype in ('float32', 'float16'):
        folder = tmp_path / dtype
        call_tool('misc/publish_model.py', path, '--out', folder, '--dtype', dtype)
        found = predictions(project, folder, image)
        for ours, reference in zip(found, expected, strict=True):
            assert ours.shape == reference.shape
        assert (found[0] == expected[0]).all()
        if dtype == 'float32':
            assert all(np.array_equal(a, b) for a, b in zip(found, expected))
        else:
            np.testing.assert_allclose(found[1], expected[1], atol=0.9)
            np.testing.assert_allclose(found[2], expected[2], atol=0.01)
            assert (found[3] != expected[3]).mean() < 0.02
    sizes = [(tmp_path / name / 'model.safetensors').stat().st_size for name in ('float32',
             'float16')]  # fmt: skip
    assert sizes[1] < 0.6 * sizes[0] < 0.6 * path.stat().st_size


def test_what_a_folder_holds(checkpoint, call_tool, tmp_path):
    path = checkpoint('plvl')
    metrics = tmp_path / 'summary.json'
    metrics.write_text(json.dumps(dict(seed=0, metrics={'grounding/REC': 94.25})))
    shown = call_tool(
        *('misc/publish_model.py', path, '--out', tmp_path / 'mine', '--metrics', metrics),
        *('--license', 'cc-by-4.0', '--name', 'small'),
    ).out
    names = {each.name for each in (tmp_path / 'mine').iterdir()}
    assert names == {'model.safetensors', 'config.py', 'vocab.txt', 'README.md'}
    assert all(name in shown for name in names)
    assert len(shown.splitlines()) == 1  # no path of this machine is left
    assert 'secret' not in (tmp_path / 'mine/config.py').read_text()
    tokens = (tmp_path / 'mine/vocab.txt').read_text().splitlines()
    assert tokens == WordPieceTokenizer.learn(SENTENCES, 200).vocabulary
    card = (tmp_path / 'mine/README.md').read_text()
    assert card.startswith('---\nlicense: cc-by-4.0\n')
    for part in ('# small', '| grounding/REC | 94.25 |', 'GroundingInferencer(weights=', 'A PLVL'):
        assert part in card
    state = torch.load(path, weights_only=True)['state_dict']
    weights, meta = read_published(tmp_path / 'mine')
    assert weights.keys() == state.keys() and 'work_dir' not in meta['cfg']
    assert all(torch.equal(weights[key], state[key]) for key in state)


def test_the_command_line_takes_a_folder(checkpoint, image, call_tool, tmp_path):
    call_tool('misc/publish_model.py', checkpoint('plvl'), '--out', tmp_path / 'mine')
    arguments = ('infer.py', 'grounding', image, 'two dogs', '--device', 'cpu', '--out-dir')
    shown = call_tool(*arguments, tmp_path / 'out', '--weights', tmp_path / 'mine').out
    assert f'{image}: "two dogs": box ' in shown
    for name in ('vocab.txt', 'model.safetensors', 'config.py'):
        (tmp_path / 'mine' / name).unlink()
        failed = call_tool(*arguments, tmp_path / 'out', '--weights', tmp_path / 'mine', rc=1)
        lines = failed.err.strip().splitlines()
        expected = f'error: weights {tmp_path}/mine: the folder lacks {name}; expected one that'
        assert len(lines) == 1 and lines[0].startswith(expected)


def test_damaged_and_hostile_folders(checkpoint, call_tool, tmp_path):
    good = tmp_path / 'good'
    call_tool('misc/publish_model.py', checkpoint('rvse'), '--out', good)

    def copy(name: str) -> Path:
        return Path(shutil.copytree(good, tmp_path / name))

    cut = copy('cut')
    (cut / 'model.safetensors').write_bytes((good / 'model.safetensors').read_bytes()[:-9])
    with pytest.raises(ValueError, match=r'cut/model.safetensors: damaged or not a safetensors'):
        read_published(cut)
    runs = copy('runs')
    (runs / 'config.py').write_text('import os\nos.mkdir("ran")\n')
    with pytest.raises(ValueError, match=r'runs/config.py: not a config of plain values'):
        read_published(runs)
    outside = copy('outside')
    content = (good / 'model.safetensors').read_bytes()
    assert content.count(b'vocab.txt') == 1
    (outside / 'model.safetensors').write_bytes(content.replace(b'vocab.txt', b'../secret'))
    with pytest.raises(ValueError, match="its header names '../secret', expected vocab.txt"):
        read_published(outside)


def test_what_cannot_be_published(checkpoint, call_tool, tmp_path):
    def refused(*arguments) -> str:
        (line,) = call_tool('misc/publish_model.py', *arguments, rc=1).err.strip().splitlines()
        return line

    out = ('--out', tmp_path / 'out')
    torch.save(dict(state_dict=dict(w=torch.ones(2))), tmp_path / 'bare.pth')
    assert 'carries no config; name one with --config' in refused(tmp_path / 'bare.pth', *out)
    meta = dict(cfg='model = dict(type="PLVL")')
    large = dict(state_dict=dict(w=torch.tensor([1e6])), meta=meta)
    torch.save(large, tmp_path / 'large.pth')
    line = refused(tmp_path / 'large.pth', *out, '--dtype', 'float16')
    assert line == 'error: w: a value of 1e+06 is too large for float16'
    (tmp_path / 'metrics.json').write_text('{"REC": "high"}')
    line = refused(tmp_path / 'large.pth', *out, '--metrics', tmp_path / 'metrics.json')
    assert "metrics.json: REC is 'high', expected a number" in line
    assert not (tmp_path / 'out').exists()


def test_hub_ids(checkpoint, call_tool, tmp_path, monkeypatch):
    """An id is asked for where no file or folder can be meant; the hub's error is one line."""
    import huggingface_hub

    call_tool('misc/publish_model.py', checkpoint('rvse'), '--out', tmp_path / 'mine')
    asked = []

    def snapshot_download(name: str, allow_patterns: list[str]) -> str:
        asked.append(name)
        return str(tmp_path / 'mine')

    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(huggingface_hub, 'snapshot_download', snapshot_download)
        inferencer = RetrievalInferencer(weights='lab/rvse-small', device='cpu')
    assert asked == ['lab/rvse-small'] and inferencer.encode_sentences('two dogs').shape == (1, 16)
    (tmp_path / 'runs').mkdir()
    for path in ('runs/best', 'lab/best.pth', 'best', '/lab/best', 'a/b/c'):
        assert find_published(path) is None
    with pytest.raises(ValueError, match='lab/none: no such file or folder here, and the Hugging'):
        find_published('lab/none')  # the tests' environment switches the network off
