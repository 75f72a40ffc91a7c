"""The quick start as a person runs it."""

import json
import subprocess
import sys

import cv2
import pytest


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_quickstart(repo_root, tmp_path):
    command = [sys.executable, 'tools/quickstart.py', 'rvse', '--work-dir', str(tmp_path)]
    run = subprocess.run(command, cwd=repo_root, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert 'RSUM' in run.stdout
    summary = json.loads((tmp_path / 'summary.json').read_text())
    assert summary['images'] == 500 and summary['captions'] == 2500 and summary['seed'] == 0
    recalls = [value for way in summary['recalls'].values() for value in way.values()]
    assert summary['rsum'] == pytest.approx(sum(recalls), abs=0.05) and summary['rsum'] >= 200
    assert summary['rsum_untrained'] < 15  # chance is 7.7
    assert summary['versions']['torch'] and summary['train_seconds']
    page = cv2.imread(str(tmp_path / 'retrieval.png'))
    assert min(page.shape[:2]) > 500 and page.std() > 20
