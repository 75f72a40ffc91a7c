"""The quick starts on scenes of photographed things; the cut-outs are drawn here, not fetched."""

import json
import subprocess
import sys
from functools import partial

import cv2
import numpy as np
import pytest

from demo.quickstart import pdsl, photos, plvl
from demo.quickstart.shared import load_quietly
from projects.common.scenes import write_collages


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Cut-outs of three names, four of each but of the last, and photographs."""
    folder = tmp_path / 'photos'
    rng = np.random.default_rng(0)
    (folder / 'backgrounds').mkdir(parents=True)
    for i in range(3):
        grain = rng.integers(0, 255, (140, 140, 3), np.uint8)
        cv2.imwrite(str(folder / f'backgrounds/{i}.png'), grain)
    for name, count in (('ball', 4), ('bird', 5), ('cow', 2)):
        (folder / 'cutouts' / name).mkdir(parents=True)
        for i in range(count):
            image = rng.integers(0, 255, (40, 50, 4), np.uint8)
            image[..., 3] = 0
            cv2.circle(image, (25, 20), 17, (*rng.integers(0, 255, 3).tolist(), 255), -1)
            cv2.imwrite(str(folder / f'cutouts/{name}/{i}.png'), image)
    monkeypatch.setattr(photos, 'SOURCE', folder)
    monkeypatch.setattr(photos, 'fetch', lambda out: None)
    return folder


def test_scenes_of_names_with_several_cutouts(source, tmp_path, capsys):
    summary = photos.write_photo_scenes(
        tmp_path / 'scenes', num_train=0, num_val=1, num_test=1, num_test_seen=1
    )
    assert summary['names'] == {'ball': 4, 'bird': 5}
    assert capsys.readouterr().out == '     2 names; 2 of 9 objects are held out of training\n'
    assert len(list((tmp_path / 'scenes/images').iterdir())) == 3


def test_matching_has_no_such_quick_start(repo_root):
    command = [sys.executable, 'tools/quickstart.py', 'rvse', '--data', 'photos']
    run = subprocess.run(command, cwd=repo_root, capture_output=True, text=True)
    assert run.returncode == 2 and 'expected plvl or pdsl' in run.stderr


def write_few(source, out, **numbers):
    few = dict(num_train=8, num_val=2, num_test=2, num_test_seen=2)
    return write_collages(
        out, source / 'cutouts', source / 'backgrounds', min_cutouts=4, progress=False, **few
    )


def load_short(backbone, classes, config, seed):
    """Two iterations from random weights."""
    cfg = load_quietly(config, seed)
    backbone(cfg.model.backbone).pretrained = None
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.default_hooks.checkpoint.interval = 2
    if classes:
        cfg.model.roi_head.bbox_head.num_classes = cfg.model.roi_head.mask_head.num_classes = 2
        for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
            loader.dataset.metainfo = dict(classes=classes)
    return cfg


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize('project', ['plvl', 'pdsl'])
def test_whole_run(project, source, tmp_path, monkeypatch, capsys):
    module, stem, classes, measured = {
        'plvl': (plvl, lambda backbone: backbone.stem, None, ('rec_acc50', 'res_miou')),
        'pdsl': (pdsl, lambda backbone: backbone, ('ball', 'bird'), ('box_ap50', 'mask_ap50')),
    }[project]
    monkeypatch.setattr(module, 'PHOTO_SCENES', tmp_path / 'scenes')
    monkeypatch.setattr(module, 'write_photo_scenes', partial(write_few, source))
    monkeypatch.setattr(module, 'load_quietly', partial(load_short, stem, classes))
    module.main(tmp_path / 'work', seed=3, photos=True)
    summary = json.loads((tmp_path / 'work/summary.json').read_text())
    assert summary['images'] == 2 and summary['seed'] == 3
    for name in measured:
        assert 0 <= summary[name] <= 100 and 0 <= summary[f'{name}_seen'] <= 100
    drawn = [path.name for path in (tmp_path / 'work/pictures').glob('*0*.png')]
    assert drawn and not [name for name in drawn if 'test_seen' in name]
    printed = capsys.readouterr().out
    assert 'things seen in training' in printed and 'overview.png' in printed
