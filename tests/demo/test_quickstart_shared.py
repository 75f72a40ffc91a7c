import json
from types import SimpleNamespace

import cv2
import numpy as np
from mmengine.config import Config
from PIL import Image
from pycocotools.coco import COCO

from demo.quickstart.shared import (
    ValidationImageHook,
    library_output_to,
    print_results,
    save_images,
    write_summary,
)


def test_pictures_replace_those_of_an_earlier_run(tmp_path):
    (tmp_path / 'old.png').write_bytes(b'')
    (tmp_path / 'kept.txt').write_text('x')
    red = np.zeros((4, 6, 3), np.uint8)
    red[..., 0] = 200
    paths = save_images(tmp_path, {'b': red, 'a': red // 2}, np.concatenate([red, red]))
    assert [path.name for path in paths] == ['b.png', 'a.png', 'overview.png']
    assert {path.name for path in tmp_path.iterdir()} == {*(p.name for p in paths), 'kept.txt'}
    assert cv2.imread(str(paths[0]))[0, 0].tolist() == [0, 0, 200]  # BGR
    assert cv2.imread(str(paths[2])).shape == (8, 6, 3)


def test_each_validation_leaves_an_image_of_its_own_drawings(tmp_path, capsys):
    folder = tmp_path / 'log/vis_data/vis_image'
    folder.mkdir(parents=True)
    for name, value in (('a_20', 50), ('b_20', 100), ('a_120', 200)):  # of two validations
        Image.new('RGB', (30, 20), (value, 0, 0)).save(folder / f'val_{name}.png')
    runner = SimpleNamespace(log_dir=tmp_path / 'log', work_dir=tmp_path, iter=20)
    ValidationImageHook().after_val_epoch(runner)
    path = tmp_path / 'validation/iteration_20.png'
    assert capsys.readouterr().out == f'     found after 20 iterations: {path}\n'
    found = cv2.imread(str(path))[..., 2]
    assert found.shape == (40, 30) and (found[:20] == 50).all() and (found[20:] == 100).all()
    runner.iter = 40  # nothing is drawn
    ValidationImageHook().after_val_epoch(runner)
    assert not capsys.readouterr().out


def test_summary_and_table(tmp_path, capsys):
    summary = dict(a=12.3456, seed=3, train_seconds=61.4, test_seconds=2.6, by=dict(b=0.005))
    kept = write_summary(tmp_path / 'new' / 'summary.json', summary)
    assert kept == dict(a=12.35, seed=3, train_seconds=61.4, test_seconds=2.6, by=dict(b=0.01))
    assert json.loads((tmp_path / 'new' / 'summary.json').read_text()) == kept
    print_results('two scenes', [('accuracy', 50), ('b', 1.234)], kept, 'a note')
    assert capsys.readouterr().out.splitlines() == [
        '',
        'two scenes',
        '-' * 18,
        'accuracy   50.00 %',
        'b           1.23 %',
        '-' * 18,
        'a note',
        'training 61 s, testing 3 s, seed 3',
    ]


def test_output_of_libraries_goes_to_the_log(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv('SOME_ROOT', 'here')
    (tmp_path / 'config.py').write_text("root = '{{$SOME_ROOT:there}}'\n")
    (tmp_path / 'coco.json').write_text('{"images": [], "annotations": [], "categories": []}')

    def read():
        COCO(str(tmp_path / 'coco.json'))
        return Config.fromfile(tmp_path / 'config.py').root

    log = tmp_path / 'new' / 'libraries.log'
    with library_output_to(log):
        assert read() == 'here'
        print('ours')
    assert capsys.readouterr().out == 'ours\n'
    text = log.read_text()
    assert 'loading annotations into memory' in text and 'Using env variable `SOME_ROOT`' in text
    read()  # as before afterwards
    out = capsys.readouterr().out
    assert 'loading annotations into memory' in out and 'Using env variable' in out
    assert log.read_text() == text
