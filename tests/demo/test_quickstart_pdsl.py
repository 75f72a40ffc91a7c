"""The quick start as a person runs it: it must reach what the README promises."""

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_quickstart(repo_root, tmp_path):
    command = [sys.executable, 'tools/quickstart.py', 'pdsl', '--work-dir', str(tmp_path)]
    run = subprocess.run(command, cwd=repo_root, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    images = list((tmp_path / 'validation').glob('*.png'))
    assert images and all(str(path) in run.stdout for path in images)
    assert 'box AP50' in run.stdout and 'CorLoc' in run.stdout
    summary = json.loads((tmp_path / 'summary.json').read_text())
    assert summary['images'] == 200 and summary['seed'] == 0
    assert summary['box_ap50'] >= 80
    assert summary['mask_ap50'] >= 70
    assert summary['corloc'] >= 85
    assert summary['mask_ap75'] <= summary['mask_ap50'] <= summary['mask_ap25']
    assert summary['versions']['torch'] and summary['train_seconds'] and summary['test_seconds']
    assert len(list((tmp_path / 'pictures').glob('*.png'))) == 13
