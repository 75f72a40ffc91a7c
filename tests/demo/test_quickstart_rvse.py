"""The quick start as a person runs it."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from demo.quickstart.rvse import PHRASES, best_images, phrase_scores, phrase_truth
from projects.common.scenes import generate_scene, write_dataset


def test_which_images_hold_what_a_phrase_says(tmp_path):
    write_dataset(tmp_path, num_train=3, num_val=2, num_test=6, image_size=128, progress=False)
    found = phrase_truth(tmp_path / 'annotations/instances_test.json')
    assert found.shape == (72, 6)
    for i in range(6):
        objects = generate_scene(i, split='test').objects
        held = {f'a {o.size} {o.color} {o.shape}' for o in objects}
        assert {PHRASES[row] for row in np.flatnonzero(found[:, i])} == held


def test_best_images_of_a_phrase():
    class Model(torch.nn.Module):
        """Embeds image i as the i-th unit vector, and phrase k as one with entries of its own."""

        def data_preprocessor(self, batch, training):
            return batch

        def encode_images(self, inputs):
            return torch.eye(8)[inputs], None

        def encode_captions(self, phrases):
            table = np.random.default_rng(0).normal(size=(72, 8))
            return torch.from_numpy(table[[PHRASES.index(p) for p in phrases]]).float(), None

    batches = [dict(inputs=torch.arange(0, 5)), dict(inputs=torch.arange(5, 8))]
    scores = phrase_scores(Model().train(), batches)
    expected = np.random.default_rng(0).normal(size=(72, 8))
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    for best, row in zip(best_images(scores), expected, strict=True):
        assert best.tolist() == sorted(range(8), key=lambda i: -row[i])[:5]


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_quickstart(repo_root, tmp_path):
    command = [sys.executable, 'tools/quickstart.py', 'rvse', '--work-dir', str(tmp_path)]
    run = subprocess.run(command, cwd=repo_root, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    images = list((tmp_path / 'validation').glob('*.png'))
    assert images and all(str(path) in run.stdout for path in images)
    assert 'RSUM' in run.stdout
    summary = json.loads((tmp_path / 'summary.json').read_text())
    assert summary['images'] == 500 and summary['captions'] == 2500 and summary['seed'] == 0
    recalls = [value for way in summary['recalls'].values() for value in way.values()]
    assert summary['rsum'] == pytest.approx(sum(recalls), abs=0.05) and summary['rsum'] >= 350
    assert summary['rsum_untrained'] < 15  # chance is 7.7
    assert summary['phrases']['precision_at_5'] > 2 * summary['phrases']['chance']
    assert summary['versions']['torch'] and summary['train_seconds']
    page = cv2.imread(str(tmp_path / 'retrieval.png'))
    assert min(page.shape[:2]) > 500 and page.std() > 20
