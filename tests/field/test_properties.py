"""What verify_data.py calls complete trains, validates and tests; what it does not, it names.

Hypothesis writes small data sets for every reader, with the oddities of annotations that people
have (booleans for numbers, ids such as 3.0, empty masks, byte order marks, sentences with equal
ids, images of any mode and suffix, links), and sometimes with real damage. Then either all of the
data goes through an epoch of loading, validation and testing, with the pipelines and metrics of a
config and made-up predictions, or the tool has said in one line what is wrong with which file.
"""

from __future__ import annotations

import codecs
import functools
import gc
import importlib.util
import json
import os
import pickle
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmengine.config import Config, ConfigDict
from mmengine.registry import METRICS, DefaultScope
from mmengine.runner import Runner
from PIL import Image
from pycocotools import mask as coco_mask

import projects.pdsl.register
import projects.plvl.register
import projects.rvse.register  # noqa: F401
from projects.common.cli.config import load_config
from projects.pdsl.proposals import write_store
from projects.rvse.evaluation import matrix_scores, retrieval_ranks

ROOT = Path(__file__).resolve().parents[2]
HALF = '\ud83d'  # of an emoji
CONFIGS = dict(
    plvl='configs/plvl/plvl_tiny_1xb16-3k_scenes.py',
    pdsl='configs/pdsl/pdsl_tiny_1xb4-600_scenes.py',
    second_stage='configs/pdsl/second_stage/mask-rcnn_tiny_1xb8-2k_scenes-pseudo.py',
    rvse='configs/rvse/rvse_tiny_1xb32-3e_scenes.py',
    regions='configs/rvse/rvse-mlp_selhn_1xb128-20e_f30k.py',
)
CLASSES = ('cat', 'dog')
READERS: list = []


def reader(project: str) -> Callable:
    """Add a function that writes files and returns the data sets for training and testing."""

    def add(write: Callable) -> Callable:
        READERS.append(pytest.param(write, project, id=write.__name__))
        return write

    return add


# ---------------------------------------------------------------------------------- what is drawn


class Draw:
    """Values that Hypothesis chooses, and files made of them."""

    KINDS = (
        ('RGB', 'jpeg'), ('L', 'jpeg'), ('RGB', 'png'), ('P', 'png'), ('RGBA', 'png'),
        ('1', 'png'), ('I;16', 'png'), ('CMYK', 'jpeg'), ('RGB', 'webp'), ('RGB', 'bmp'),
        ('RGB', 'tiff'), ('P', 'gif'), ('turned', 'jpeg'),
    )  # fmt: skip

    def __init__(self, data: st.DataObject, root: Path) -> None:
        self.data, self.root = data, root
        self.damaged = data.draw(st.sets(st.integers(0, 24), max_size=2))  # which of the chances
        self.chances = 0

    def pick(self, *values: Any) -> Any:
        return self.data.draw(st.sampled_from(values))

    def count(self, low: int, high: int) -> int:
        return self.data.draw(st.integers(low, high))

    def seldom(self) -> bool:
        """Whether to damage something: there is little damage, so that none hides another."""
        self.chances += 1
        return self.chances - 1 in self.damaged

    def good(self, *values: Any, bad: tuple = ()) -> Any:
        return self.pick(*bad) if bad and self.seldom() else self.pick(*values)

    # ---- files

    def image(self, name: str) -> tuple[int, int]:
        """Write an image whose content need not be what its suffix says; return width, height."""
        mode, form = self.pick(*self.KINDS)
        width, height = self.pick((16, 12), (12, 16), (20, 20))
        values = np.random.default_rng(0).integers(0, 255, (height, width), dtype=np.uint8)
        image, options = Image.fromarray(values), {}
        if mode == 'turned':
            image, options = image.convert('RGB'), dict(exif=Image.Exif())
            options['exif'][0x0112] = 6
            width, height = height, width
        elif mode == 'I;16':
            image = Image.fromarray(values.astype(np.uint16) * 256)
        else:
            image = image.convert(mode)
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, form, **options)
        if self.pick(False, False, True):  # a link
            target = self.root / f'{path.name}.original'
            path.rename(target)
            path.symlink_to(target)
        if self.seldom():
            self.damage(path)
        return width, height

    def damage(self, path: Path) -> None:
        content, how = path.read_bytes(), self.pick('html', 'empty', 'dir', 'link', 'cut', 'gone')
        path.unlink()
        if how == 'dir':
            path.mkdir()
        elif how == 'link':
            path.symlink_to(self.root / 'nowhere')
        elif how != 'gone':
            contents = dict(cut=content[: len(content) * 2 // 3], empty=b'', html=b'<html></html>')
            path.write_bytes(contents[how])

    def text_file(self, name: str, text: str, utf16: bool = False) -> str:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.pick(False, True):
            text = text.replace('\n', '\r\n')
        mark = self.pick(b'', codecs.BOM_UTF8, *[codecs.BOM_UTF16_LE] * utf16)
        encoding = 'utf-16-le' if mark == codecs.BOM_UTF16_LE else 'utf-8'
        content = mark + text.encode(encoding)
        path.write_bytes(content[:-9] if self.seldom() else content)
        return str(path)

    def json_file(self, name: str, content: Any) -> str:
        return self.text_file(name, json.dumps(content), utf16=True)

    # ---- fields

    def number(self, value: int, bad: tuple = (None, True, 2.5, 'x', -1)) -> Any:
        return self.good(value, value, float(value), bad=bad)

    def flag(self) -> Any:
        return self.good(0, False, True, 1, 1.0, None, bad=('no', []))

    def sentence(self) -> str:
        texts = ('the left dog', ' it', 'the left dog', 'ein Hund 😀', "right man's hat")
        return self.good(*texts, bad=('', ' ', HALF, f'half {HALF}', 3, None))

    def box(self, width: int, height: int) -> Any:
        """XYWH."""
        good = ([1, 2, 8, 7], [0, 0, width, height], [1.5, 2, 8.0, 7], [0, 0, width + 1, height])
        bad = ([1, 2, 3], [1, 2, 0, 7], None, 'box', [1, 2, float('nan'), 3], [40, 40, 9, 9],
               [1, 2, 80, 7], [1e300, 0, 1e300, 5])  # fmt: skip
        return self.good(*good, bad=bad)

    def mask(self, width: int, height: int, none: bool = True) -> Any:
        """COCO's segmentation."""
        values = np.zeros((height, width), np.uint8, order='F')
        values[3:8, 2:7] = 1
        rle = coco_mask.encode(values)
        rle = dict(size=[height, width], counts=rle['counts'].decode())
        flat = values.T.reshape(-1)
        edges = np.flatnonzero(np.diff(flat)) + 1
        runs = np.diff([0, *edges.tolist(), len(flat)]).tolist()
        polygon = [2, 3, 7.0, 3, 7, 8, 2, 8]
        good = ([polygon], rle, dict(size=[height, width], counts=runs), [polygon, polygon])
        bad = (
            [[1, 2]], 'abc', dict(size=[5, 5], counts=[25]), dict(rle, counts='zz~'), dict(a=1),
            [polygon[:7]], [[500, 500, 510, 500, 510, 510]], dict(rle, size=[height + 1, width]),
            [[1e12] * 8], 7, [[[1, 2]]],
        )  # fmt: skip
        return self.good(*good, *([None, []] if none else []), bad=bad)


# ------------------------------------------------------------------------------------------- PLVL


def sizes(draw: Draw, width: int, height: int) -> dict:
    """Annotated sizes, seldom those of another image."""
    if draw.seldom():
        width, height = draw.pick((height, width + 1), (0, height), (width, 10**9))
    return dict(width=draw.number(width), height=draw.number(height))


def common(draw: Draw) -> dict:
    return dict(data_root=str(draw.root), skip_invalid=draw.pick(False, True))


@reader('plvl')
def refer(draw: Draw) -> dict:
    images, annotations, refs = [], [], []
    for i in range(1, draw.count(1, 3) + 1):
        name = f'{i}{draw.pick(".jpg", ".png", ".JPEG")}'
        width, height = draw.image(f'images/{name}')
        images.append(dict(id=draw.number(i), file_name=name, **sizes(draw, width, height)))
        annotations.append(
            dict(
                id=draw.number(i), image_id=draw.number(i), category_id=draw.number(1),
                bbox=draw.box(width, height), segmentation=draw.mask(width, height),
                iscrowd=draw.flag(),
            )
        )  # fmt: skip
        sentences = [
            dict(sent_id=draw.pick(7, 7.0, j), sent=draw.sentence(), raw='It', kind=draw.pick('a'))
            for j in range(draw.count(1, 3))
        ]
        refs.append(
            dict(ref_id=draw.number(i), ann_id=draw.number(i), image_id=draw.number(i),
                 split='train', sentences=sentences)
        )  # fmt: skip
    categories = [dict(id=draw.number(1), name=draw.good('dog', bad=(HALF, 3)))]
    content = dict(images=images, annotations=annotations, categories=categories)
    draw.json_file('instances.json', content)
    (draw.root / 'refs(x).p').write_bytes(pickle.dumps(refs, protocol=draw.pick(2, 4)))
    return dict(
        type='ReferGroundingDataset', ann_file='instances.json', split_file='refs(x).p',
        split='train', data_prefix=dict(img='images'), **common(draw),
    )  # fmt: skip


@reader('plvl')
def seqtr(draw: Draw) -> dict:
    records = []
    for i in range(draw.count(1, 3)):
        width, height = draw.image(f'COCO_train2014_{i:012d}.jpg')
        texts = [draw.sentence() for _ in range(draw.count(1, 3))]
        record = dict(
            bbox=draw.box(width, height), expressions=texts, mask=draw.mask(width, height),
            image_id=draw.good(i, float(i), str(i), bad=(i + 0.5, True, None, [])),
            iscrowd=draw.flag(), ann_id=draw.pick(None, draw.number(i)),
            sent_ids=draw.pick(None, [5] * len(texts), [5.0] * len(texts)),
            kinds=draw.pick(None, ['a'] * len(texts), [None] * len(texts)),
            category=draw.good(None, 'dog', bad=(HALF,)), **sizes(draw, width, height),
        )  # fmt: skip
        keys = draw.pick((), (), ('mask',), ('width', 'height', 'iscrowd'))
        records.append({key: value for key, value in record.items() if key not in keys})
    draw.json_file('instances.json', dict(train=records))
    return dict(type='SeqTRGroundingDataset', ann_file='instances.json', split='train',
                **common(draw))  # fmt: skip


@reader('plvl')
def transvg(draw: Draw) -> dict:
    entries = []
    for i in range(draw.count(1, 3)):
        name = f'{i}.jpg'
        width, height = draw.image(name)
        box = draw.box(width, height)
        if isinstance(box, list) and draw.pick(False, True):
            mask = draw.mask(width, height)
            box = [*box, *mask] if isinstance(mask, list) else box
        second = draw.good(f'{i}.pth', 'coco', i, float(i), bad=(None, 1.5, [1]))
        for _ in range(draw.count(1, 2)):
            entries.append((draw.good(name, bad=(3, HALF)), second, box, draw.sentence(), []))
    torch.save(entries, draw.root / 'x_val.pth', _use_new_zipfile_serialization=draw.pick(True))
    return dict(type='TransVGGroundingDataset', ann_file='x_val.pth', **common(draw))


@reader('plvl')
def json_lines(draw: Draw) -> dict:
    lines = []
    for i in range(draw.count(1, 3)):
        name = draw.pick(f'{i}.jpg', f'a b/{i}.png')
        width, height = draw.image(name)
        line = dict(image=draw.good(name, bad=(HALF, '', '\0', f'{HALF}/{name}', 7)))
        box, mask = draw.box(width, height), draw.mask(width, height)
        if isinstance(box, list) and len(box) == 4:
            box = [box[0], box[1], box[0] + box[2], box[1] + box[3]]
        if draw.pick(False, True):  # a mask image
            values = np.full(draw.good((height, width), bad=((9, 9),)), 255, np.uint8)
            mask = f'masks/{i}.png'
            (draw.root / 'masks').mkdir(exist_ok=True)
            Image.fromarray(values * draw.good(1, bad=(0,))).save(draw.root / mask)
            if draw.seldom():
                draw.damage(draw.root / mask)
        line |= draw.pick(dict(bbox=box, mask=mask), dict(bbox=box), dict(bbox=box, mask=mask))
        if mask and draw.pick(False, True):
            line = dict(line, mask=mask)
            line.pop('bbox')
        line |= draw.pick({}, sizes(draw, width, height))
        line |= draw.pick({}, dict(kind=draw.good('a', None, bad=(HALF, 3))))
        line |= draw.pick({}, dict(object_id=draw.good(1, 1.0, 'x', bad=(1.5, True))))
        texts = [draw.sentence() for _ in range(draw.count(1, 2))]
        lines.append(line | draw.pick(dict(sentences=texts), dict(sentence=texts[0])))
    draw.text_file('x.jsonl', ''.join(json.dumps(line) + '\n' for line in lines), utf16=True)
    return dict(type='JSONLinesGroundingDataset', ann_file='x.jsonl', **common(draw))


@reader('plvl')
def visual_genome(draw: Draw) -> dict:
    entries, regions = [], []
    flat = draw.pick(False, True)
    for i in range(1, draw.count(1, 3) + 1):
        width, height = draw.image(f'{i}.jpg' if flat else f'VG_100K/{i}.jpg')
        entries.append(
            dict(image_id=draw.number(i), url=f'https://x/VG_100K/{i}.jpg', flickr_id=None,
                 coco_id=draw.good(None, 5, 5.0, bad=('a',)), **sizes(draw, width, height))
        )  # fmt: skip
        own = []
        for j in range(draw.count(1, 2)):
            x, y, w, h = draw.good([1, 2, 8, 7], bad=([40, 2, 8, 7], [1, 2, 0, 3]))
            own.append(
                dict(region_id=draw.number(10 * i + j), image_id=draw.number(i), x=x, y=y,
                     width=float(w), height=h, phrase=draw.sentence())
            )  # fmt: skip
        regions.append(dict(id=i, regions=own))
    draw.json_file('region_descriptions.json', regions)
    draw.json_file('image_data.json', entries)
    return dict(type='VisualGenomeRegionDataset', ann_file='region_descriptions.json',
                vg_image_data='image_data.json', **common(draw))  # fmt: skip


@reader('plvl')
def flickr30k_entities(draw: Draw) -> dict:
    names = [f'{i}' for i in range(1, draw.count(1, 3) + 1)]
    for name in names:
        width, height = draw.image(f'{name}.jpg')
        number = draw.good('1', ' 1 ', '1.0', bad=('x', '2'))
        annotated = draw.good(f'{width}', f'{width}.0', bad=('',))
        corners = zip(('xmin', 'ymin', 'xmax', 'ymax'), draw.good([1, 2, 9, 9.0], bad=([9, 9],)))
        box = ''.join(f'<{side}>{value}</{side}>' for side, value in corners)
        draw.text_file(
            f'Annotations/{name}.xml',
            f'<annotation><size><width>{annotated}</width><height>{height}</height></size><object>'
            f'<name>{number}</name><bndbox>{box}</bndbox></object></annotation>',
        )
        caption = draw.pick('[/EN#1/people A man] on [/EN#2/other a dog]', '[/EN#3/scene A street]')
        draw.text_file(f'Sentences/{name}.txt', f'{caption} .\n[/EN#1/people A man] runs .\n')
    draw.text_file('val.txt', '\n'.join(names) + '\n')
    return dict(type='Flickr30kEntitiesDataset', ann_file='val.txt', **common(draw))


# ------------------------------------------------------------------------------------------- PDSL


def proposals(draw: Draw, names: list[str], keys: str | None) -> str:
    folder = draw.root / 'proposals'
    boxes, scores = np.array([[0, 0, 9, 9], [1, 1, 11, 10]], np.float32), np.ones(2, np.float32)
    if draw.seldom():
        names = names[1:]
    write_store(folder, ((name, boxes, scores) for name in names), keys=keys)
    return str(folder)


def meta(draw: Draw) -> dict:
    return dict(metainfo=dict(classes=draw.pick(CLASSES, CLASSES[::-1])))


def coco(draw: Draw, name: str) -> tuple[list[str], str]:
    """Write COCO's instances; return the names of the images and the file."""
    images, annotations = [], []
    for i in range(1, draw.count(1, 3) + 1):
        file = f'{i}{draw.pick(".jpg", ".png")}'
        width, height = draw.image(file)
        images.append(dict(id=draw.number(i), file_name=file, **sizes(draw, width, height)))
        annotations += [
            dict(
                id=draw.number(len(annotations) + j), image_id=draw.number(i), area=56.0,
                category_id=draw.number(draw.pick(4, 9)), bbox=draw.box(width, height),
                segmentation=draw.mask(width, height, none=draw.seldom()), iscrowd=draw.flag(),
            )
            for j in range(draw.count(int(i == 1), 2))
        ]  # fmt: skip
    names = draw.good(('dog', 'cat'), (' dog', 'cat'), bad=(('dog', 'dog '), ('dog', HALF)))
    categories = [dict(id=draw.number(i), name=each) for i, each in zip((9, 4), names)]
    content = dict(images=images, annotations=annotations, categories=categories)
    return [image['file_name'] for image in images], draw.json_file(name, content)


@reader('pdsl')
def coco_instances(draw: Draw) -> tuple:
    names, file = coco(draw, 'a.json')
    options = dict(ann_file=file, data_prefix=dict(img=str(draw.root)), **meta(draw))
    train = dict(type='COCOTagDataset', use_crowd=draw.pick(True, False), **options)
    test = dict(type='COCOInstanceDataset', **options)
    evaluator = draw.pick({}, dict(ann_file=file))
    return train, test, evaluator, proposals(draw, names, 'paths')


@reader('second_stage')
def pseudo_labels(draw: Draw) -> dict:
    _, file = coco(draw, 'a.json')
    return dict(type='COCOInstanceDataset', ann_file=file, data_prefix=dict(img=str(draw.root)),
                **meta(draw))  # fmt: skip


@reader('pdsl')
def voc(draw: Draw) -> tuple:
    names = [draw.pick(f'2008_{i}', f'my cat x{i}') for i in range(draw.count(1, 3))]
    for name in names:
        width, height = draw.image(f'JPEGImages/{name}{draw.pick(".jpg", ".png", ".JPEG")}')
        objects, values = '', np.zeros((height, width), np.uint8)
        for number in range(1, draw.count(0, 2) + 1):
            values[3 * number : 3 * number + 2, 2:8] = number
            corners = zip(('xmin', 'ymin', 'xmax', 'ymax'), (3, 3 * number + 1, 9, 3 * number + 3))
            box = ''.join(f'<{side}> {draw.number(v, ("",))}\n</{side}>' for side, v in corners)
            label = draw.good('cat', ' dog\n', bad=('', 'cow'))
            difficult = draw.good('', '<difficult> </difficult>', '<difficult>1</difficult>',
                                  bad=('<difficult>x</difficult>',))  # fmt: skip
            objects += f'<object><name>{label}</name>{difficult}<bndbox>{box}</bndbox></object>'
        size = sizes(draw, width, height)
        size = draw.pick(''.join(f'<{side}>{v}</{side}>' for side, v in size.items()), '')
        draw.text_file(
            f'Annotations/{name}.xml', f'<annotation><size>{size}</size>{objects}</annotation>'
        )
        values[0, :3] = draw.good(0, 255, bad=(9,))
        (draw.root / 'SegmentationObject').mkdir(exist_ok=True)
        Image.fromarray(values).save(draw.root / f'SegmentationObject/{name}.png')
    column = draw.pick('', '  1')
    draw.text_file('ImageSets/set.txt', ''.join(f'{name}{column}\n' for name in names))
    options = dict(data_root=str(draw.root), ann_file='ImageSets/set.txt', **meta(draw))
    train = dict(type='VOCTagDataset', ignore_unknown=draw.pick(True, False), **options)
    test = dict(type='VOCInstanceDataset', data_prefix=dict(sub_data_root=''), **options)
    return train, test, {}, proposals(draw, names, 'names')


@reader('pdsl')
def tag_file(draw: Draw) -> tuple:
    names = [f'{i}.jpg' for i in range(1, draw.count(1, 3) + 1)]
    for name in names:
        draw.image(name)
    tags = {name: draw.good(['cat'], ['cat', 'dog'], [], bad=(['cow'],)) for name in names}
    layout = draw.pick('json', 'cells', 'flags', 'rows', 'joined')
    if layout == 'json':
        half = [HALF] if draw.seldom() else []
        file = draw.json_file('t.json', {name: [*each, *half] for name, each in tags.items()})
    else:
        header = 'file_name,cat,dog' if layout == 'flags' else 'image,label'
        rows = {
            'cells': [','.join([name, *each]) for name, each in tags.items()],
            'flags': [f'{n},{int("cat" in t)},{int("dog" in t)}' for n, t in tags.items()],
            'rows': [f'{name},{tag}' for name, each in tags.items() for tag in each or ['cat']],
            'joined': [f'{name},{";".join(each)}' for name, each in tags.items()],
        }[layout]
        lines = rows if layout == 'cells' else [header, *rows]
        suffix, separator = draw.pick(('csv', ','), ('tsv', '\t'))
        text = '\n'.join(lines).replace(',', separator)
        file = draw.text_file(f't.{suffix}', text, utf16=True)
    data = dict(type='TagFileDataset', ann_file=file, data_prefix=dict(img=str(draw.root)),
                ignore_unknown=draw.pick(True, False), **meta(draw))  # fmt: skip
    return data, None, {}, proposals(draw, names, 'paths')


# ------------------------------------------------------------------------------------------- RVSE


def captions(draw: Draw) -> dict:
    return dict(data_prefix=dict(img=str(draw.root)), skip_invalid_captions=draw.pick(False, True))


@reader('rvse')
def coco_captions(draw: Draw) -> dict:
    images, annotations = [], []
    for i in range(1, draw.count(1, 3) + 1):
        draw.image(f'{i}.jpg')
        images.append(dict(id=draw.number(i), file_name=f'{i}.jpg'))
        annotations += [
            dict(image_id=draw.number(i), caption=draw.sentence()) for _ in range(draw.count(1, 3))
        ]
    file = draw.json_file('c.json', dict(images=images, annotations=annotations))
    return dict(type='COCOCaptionsMatchingDataset', ann_file=file, **captions(draw))


@reader('rvse')
def karpathy(draw: Draw) -> dict:
    images = []
    for i in range(draw.count(1, 3)):
        draw.image(f'val2014/{i}.jpg')
        sentences = [dict(raw=draw.sentence()) for _ in range(draw.count(1, 3))]
        images.append(dict(filepath='val2014', filename=f'{i}.jpg', cocoid=draw.number(i),
                           split='test', sentences=sentences))  # fmt: skip
    file = draw.json_file('k.json', dict(images=images))
    return dict(type='KarpathyMatchingDataset', ann_file=file, split='test', **captions(draw))


@reader('rvse')
def caption_file(draw: Draw) -> dict:
    rows = []
    for i in range(draw.count(1, 3)):
        name = draw.pick(f'{i}.jpg', f'a b/{i}.png')
        draw.image(name)
        rows += [(name, draw.sentence()) for _ in range(draw.count(1, 2))]
    layout = draw.pick('tabs', 'csv', 'jsonl')
    rows = [(n, t if layout == 'jsonl' or t not in (None, 3) else 'a') for n, t in rows]
    if layout == 'jsonl':
        text = ''.join(json.dumps(dict(image=n, caption=t)) + '\n' for n, t in rows)
    else:
        rows = [(n, t.replace(HALF, '')) for n, t in rows]
        lines = [f'{n}{"#0" if draw.pick(0, 1) else ""}\t{t}\n' for n, t in rows]
        csv = ['image,caption\n', *(f'{n},"{t}"\n' for n, t in rows)]
        text = ''.join(lines if layout == 'tabs' else csv)
    suffix = dict(tabs='txt', csv='csv', jsonl='jsonl')[layout]
    file = draw.text_file(f'c.{suffix}', text, utf16=True)
    return dict(type='CaptionFileMatchingDataset', ann_file=file, **captions(draw))


@reader('regions')
def precomputed(draw: Draw) -> dict:
    count, each = draw.count(1, 3), draw.pick(1, 2)
    texts = [draw.good('a dog', 'it 😀', bad=('', ' ')) for _ in range(count * each)]
    draw.text_file('x_caps.txt', '\n'.join(texts) + '\n')
    rows = draw.good(count, count * each, bad=(count + 1,))
    owner = np.arange(rows) * count // rows  # the image of each row
    features = np.broadcast_to(owner[:, None, None], (rows, 2, 8)).astype(np.float32)
    np.save(draw.root / 'x_ims.npy', features)
    if draw.seldom():
        path = draw.root / 'x_ims.npy'
        path.write_bytes(path.read_bytes()[:-40])
    if draw.pick(False, True):
        draw.text_file('x_ids.txt', ''.join(f'{i}\n' for i in range(count)))
    return dict(type='PrecompMatchingDataset', data_root=str(draw.root), split='x',
                captions_per_image=each, skip_invalid_captions=draw.pick(False, True))  # fmt: skip


# ----------------------------------------------------------------------------------- the property


@functools.cache
def base_config(project: str) -> Config:
    return load_config(str(ROOT / CONFIGS[project]), None)


@functools.cache
def verify_data() -> Any:
    path = ROOT / 'tools/misc/verify_data.py'
    spec = importlib.util.spec_from_file_location('verify_data', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_config(project: str, written: Any) -> Config:
    """A config with the pipelines and metrics of a real one, and the data sets written."""
    base = base_config(project)
    train, test, options, folder = (
        written
        if isinstance(written, tuple)
        else (written,) * 2
        + (
            {},
            '',
        )
    )
    cfg = Config(dict(default_scope=base.default_scope))
    for loader, data in (('train', train), ('val', test), ('test', test)):
        if data is None:
            continue
        own = base[f'{loader}_dataloader'].dataset
        pipeline = [
            dict(step, folder=folder) if step.type == 'LoadStoredProposals' else step
            for step in own.pipeline
        ]
        extra = {k: own[k] for k in ('filter_cfg', 'all_captions') if k in own}
        data = dict(data, pipeline=pipeline, test_mode=loader != 'train')
        cfg[f'{loader}_dataloader'] = dict(dataset=ConfigDict(data, **extra))
        if loader != 'train':
            metrics = base[f'{loader}_evaluator']
            metrics = metrics if isinstance(metrics, list) else [metrics]
            cfg[f'{loader}_evaluator'] = [
                ConfigDict(m, **(options if m.type == 'InstanceCocoMetric' else {}))
                for m in metrics
            ]
    return cfg


def predicted(sample: Any, classes: int) -> dict:
    """A data sample with the objects that it has as predictions, as a model would return it."""
    height, width = sample.ori_shape[:2]
    found = dict(sample.to_dict())
    masks = torch.zeros(1, height, width, dtype=torch.bool)
    masks[:, 2:7, 2:7] = True
    found['pred_instances'] = dict(
        bboxes=torch.tensor([[2.0, 2, 7, 7]]), scores=torch.ones(1), masks=masks,
        labels=torch.zeros(1, dtype=torch.int64), image_scores=torch.rand(classes),
    )  # fmt: skip
    return found


def run_epochs(cfg: Config) -> None:
    """Load everything, and evaluate made-up predictions."""
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        for loader in ('train', 'val', 'test'):
            if f'{loader}_dataloader' not in cfg:
                continue
            options = dict(
                batch_size=2, num_workers=0, collate_fn=dict(type='pseudo_collate'),
                sampler=dict(type='DefaultSampler', shuffle=loader == 'train'),
            )  # fmt: skip
            loaded = Runner.build_dataloader({**cfg[f'{loader}_dataloader'], **options})
            dataset = loaded.dataset
            metrics = [METRICS.build(m) for m in cfg.get(f'{loader}_evaluator', ())]
            for metric in metrics:
                metric.dataset_meta = dataset.metainfo
            for batch in loaded:
                assert batch['inputs']
                for metric in metrics:
                    if not hasattr(dataset, 'image_of_caption'):
                        number = len(dataset.metainfo['classes'])
                        metric.process({}, [predicted(s, number) for s in batch['data_samples']])
            for metric in metrics:
                if hasattr(dataset, 'image_of_caption'):
                    scores = np.random.default_rng(0).random((dataset.img_size, dataset.text_size))
                    owner = dataset.image_of_caption
                    ranks = retrieval_ranks(matrix_scores(scores), owner, dataset.img_size)
                    metric.process({}, [ranks])
                assert metric.evaluate(len(dataset))


def holds(write: Callable, project: str, data: st.DataObject, verdicts: Counter) -> None:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        draw = Draw(data, Path(folder))
        cfg = make_config(project, write(draw))
        lines = verify_data().verify(cfg)
        verdicts['incomplete' if lines else 'complete'] += 1
        assert draw.damaged or not lines  # oddities are no damage
        for line in lines:
            assert folder in line and '\n' not in line
            assert 'Traceback' not in line and not line.startswith(tuple(TYPES))
        if not lines:
            run_epochs(cfg)


# What begins with the class of a data set is an error that its reader did not mean to raise.
TYPES = [f'{name}Dataset: ' for name in (
    'ReferGrounding', 'SeqTRGrounding', 'TransVGGrounding', 'JSONLinesGrounding',
    'VisualGenomeRegion', 'Flickr30kEntities', 'COCOTag', 'COCOInstance', 'VOCTag', 'VOCInstance',
    'TagFile', 'COCOCaptionsMatching', 'KarpathyMatching', 'CaptionFileMatching',
    'PrecompMatching',
)]  # fmt: skip


def check(write: Callable, project: str, examples: int) -> None:
    verdicts: Counter[str] = Counter()

    @settings(
        max_examples=examples, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.data())
    def run(data):
        holds(write, project, data, verdicts)

    gc.freeze()  # MMEngine collects garbage whenever it reads a data set
    try:
        run()
    finally:
        gc.unfreeze()
    assert verdicts['complete'] and verdicts['incomplete'], verdicts


@pytest.mark.parametrize(('write', 'project'), READERS)
def test_complete_data_is_usable(write, project):
    check(write, project, 50)


@pytest.mark.slow
@pytest.mark.parametrize(('write', 'project'), READERS)
def test_complete_data_is_usable_at_length(write, project):
    check(write, project, int(os.environ.get('PROPERTY_EXAMPLES', 300)))
