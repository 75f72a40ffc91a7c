"""The scripts of docs/real_pictures.md: the split of the data, and the box of a map."""

from __future__ import annotations

import importlib
import json
import sys

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def scripts(repo_root, monkeypatch):
    """The scripts of .dev as modules."""
    monkeypatch.syspath_prepend(str(repo_root / '.dev'))
    yield lambda name: importlib.import_module(name)
    for name in ('box_baselines', 'real_pictures'):
        sys.modules.pop(name, None)


def test_box_of_an_activation_map(scripts):
    heat = np.full((40, 60), -1.0)
    heat[10:20, 5:35] = 1.0
    heat[12:14, 8:10] = 10.0
    heat[30:34, 50:58] = 3.0
    box = scripts('box_baselines').activated_box
    assert box(heat, 0.05).tolist() == [5, 10, 35, 20]  # the largest part
    assert box(heat, 0.2).tolist() == [50, 30, 58, 34]
    assert box(heat, 0.5).tolist() == [8, 12, 10, 14]


def test_data_of_the_page(scripts, tmp_path, monkeypatch):
    """Every third raccoon is held out; images without a tag are the negatives."""
    source = tmp_path / 'source'
    parts = [('coco_sample', 'train'), ('coco_sample', 'val'), ('coco_val_captions', 'val')]
    for part, split in parts:
        folder = source / part / 'annotations'
        folder.mkdir(parents=True, exist_ok=True)
        name = f'{part}_{split}.jpg'
        captions = [dict(image_id=1, caption=f' caption\n{i}') for i in range(6)]
        content = dict(images=[dict(id=1, file_name=name)], annotations=captions)
        (folder / f'captions_{split}2017.json').write_text(json.dumps(content))
        (source / part / f'{split}2017').mkdir(exist_ok=True)
        Image.new('RGB', (8, 8)).save(source / part / f'{split}2017' / name)
    raccoons = source / 'raccoon_sample'
    (raccoons / 'Annotations').mkdir(parents=True)
    (raccoons / 'images').mkdir()
    for number in (1, 2, 3):
        Image.new('RGB', (20, 10)).save(raccoons / f'images/raccoon-{number}.jpg')
        (raccoons / f'Annotations/raccoon-{number}.xml').write_text(
            '<annotation><size><width>20</width><height>10</height></size><object><bndbox>'
            '<xmin>2</xmin><ymin>1</ymin><xmax>12</xmax><ymax>9</ymax></bndbox></object>'
            '</annotation>'
        )
    pages = scripts('real_pictures')
    commands = []
    monkeypatch.setattr(pages, 'run', lambda *command: commands.append(command[1:3]))
    pages.make_data(source, tmp_path / 'out')
    train = (tmp_path / 'out/captions/train.txt').read_text().splitlines()
    assert train == [f'coco_sample_train.jpg\tcaption {i}' for i in range(5)]
    assert len((tmp_path / 'out/captions/val.txt').read_text().splitlines()) == 10
    tags = (tmp_path / 'out/raccoon/tags.txt').read_text().splitlines()
    assert tags == ['raccoon-1.jpg raccoon', 'raccoon-2.jpg raccoon', 'coco_sample_train.jpg']
    held_out = json.loads((tmp_path / 'out/raccoon/instances_test.json').read_text())
    assert [each['file_name'] for each in held_out['images']] == ['raccoon-3.jpg']
    assert held_out['annotations'][0]['bbox'] == [2, 1, 10, 8]
    images = tmp_path / 'out/raccoon/images'
    assert all((images / line.split()[0]).is_file() for line in tags)
    voc = source / 'voc_sample/VOCdevkit/VOC2012/JPEGImages'
    assert [command[0] for command in commands] == [str(images), str(voc)]
