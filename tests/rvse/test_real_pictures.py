"""A small model fits real pictures and their captions."""

import pytest
from mmengine.config import Config

from projects.common.cli import build_runner, prepare

CONFIG = 'configs/rvse/rvse_tiny_1xb40-60e_coco-sample.py'


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_fits_real_captions(shared_data, repo_root, tmp_path, monkeypatch):
    """80 pictures of COCO with five captions each; the other 20 through the test loop."""
    monkeypatch.chdir(repo_root)
    monkeypatch.setenv('COCO_SAMPLE_ROOT', str(shared_data / 'coco_sample'))
    cfg = Config.fromfile(CONFIG)
    cfg.randomness.seed = 0
    cfg.log_level = 'WARNING'
    prepare(cfg, CONFIG, launcher='none', work_dir=str(tmp_path))
    runner = build_runner(cfg)
    runner.train()
    assert runner.val_dataloader.dataset.img_size == 80
    assert runner.val_dataloader.dataset.text_size == 400
    fitted = runner.val_loop.run()
    print(fitted)
    assert fitted['matching/rsum'] >= 550
    assert 0 < runner.test()['matching/rsum'] < fitted['matching/rsum']
