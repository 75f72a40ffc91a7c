"""tools/infer.py from the shell, and its errors in one line."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

import projects.plvl.register  # noqa: F401
from projects.common.text import WordPieceTokenizer


@pytest.fixture(scope='module')
def files(repo_root: Path, tmp_path_factory) -> Path:
    """An image and a checkpoint."""
    folder = tmp_path_factory.mktemp('files')
    cv2.imwrite(str(folder / 'street.png'), np.full((40, 60, 3), 90, np.uint8))
    cfg = Config.fromfile(repo_root / 'configs/plvl/plvl_tiny_1xb8-150e_refcoco.py')
    model = MODELS.build(cfg.model)
    model.text_encoder.set_tokenizer(WordPieceTokenizer.learn(['the red car'], 100))
    torch.save(dict(state_dict=model.state_dict()), folder / 'best.pth')
    return folder


def test_two_sentences(tool, files: Path, tmp_path: Path) -> None:
    """From another folder, the config by name."""
    done = tool(
        *('infer.py', 'grounding', files / 'street.png', 'the red car', 'left <man> "x"'),
        *('--model', 'plvl_tiny_1xb8-150e_refcoco', '--weights', files / 'best.pth'),
        *('--out-dir', tmp_path / 'out', '--device', 'cpu'),
    )
    assert done.returncode == 0, done.stderr
    first, second, where = done.stdout.strip().splitlines()[-3:]
    assert f'{files / "street.png"}: "the red car": box ' in first and 'score 0.' in first
    assert '"left <man> "x""' in second
    assert where == f'written to {tmp_path / "out"}'
    predictions = json.loads((tmp_path / 'out/preds/street.json').read_text())
    assert [p['sentence'] for p in predictions] == ['the red car', 'left <man> "x"']
    assert all(p['mask']['size'] == [40, 60] and len(p['bbox']) == 4 for p in predictions)
    assert sorted(p.name for p in (tmp_path / 'out/vis').iterdir()) == [
        'street_0.jpg',
        'street_1.jpg',
    ]
    assert 'Failed to search registry' not in done.stdout + done.stderr
    assert 'starts from random weights' not in done.stdout + done.stderr


def test_errors_and_names(tool, files: Path) -> None:
    def run(*arguments):
        done = tool('infer.py', *arguments)
        return done.returncode, done.stdout, done.stderr

    code, _, error = run('grounding', 'https://example.org/x.jpg', 'a', '--weights', 'none.pth')
    assert code == 1 and error.strip() == 'error: checkpoint none.pth: no such file'
    model = ('--model', 'plvl_tiny_1xb8-150e_refcoco', '--weights', files / 'best.pth')
    code, _, error = run('grounding', 'https://example.org/x.jpg', 'a', *model)
    assert code == 1 and len(error.strip().splitlines()) == 1
    assert 'URLs are not read' in error
    code, out, _ = run('models', 'plvl_tiny_*scenes')
    assert code == 0 and out.split() == [
        'plvl_tiny_1xb16-3k_generalized-scenes',
        'plvl_tiny_1xb16-3k_scenes',
    ]
