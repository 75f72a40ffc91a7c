"""Annotations as people have them: a table of cases, each through public tools or classes.

A case states its kind, what people have, and what is right.
"""

from __future__ import annotations

import base64
import codecs
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset
from mmdet.datasets.transforms import LoadProposals
from mmdet.evaluation import DumpProposals
from mmengine.dataset import Compose
from mmengine.registry import DATASETS
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

import projects.pdsl.register
import projects.plvl.register
import projects.rvse.register  # noqa: F401
from projects.common.errors import InputError
from projects.common.files.annotation_files import FLAG, check_fields, iter_json_list
from projects.common.files.unpickle import UntrustedPickleError, load_legacy_torch
from projects.pdsl.evaluation import InstanceCocoMetric
from projects.pdsl.proposals import ProposalStore, write_store
from projects.pdsl.pseudo_label_export import LabelParts
from projects.plvl.evaluation import GroundingMetric
from projects.rvse.datasets.butd import butd_offsets, read_butd_at

HALF_EMOJI = '\ud83d'
BOXES = np.array([[1, 2, 9, 9], [0, 0, 5, 6]], np.float32)
SCORES = np.array([0.9, 0.4], np.float32)
CASES = []


def case(kind: str, have: str, right: str) -> Callable:
    """Add a function of the fixture ``field`` to the table."""

    def add(check: Callable) -> Callable:
        CASES.append(pytest.param(check, id=f'{kind}: {have}: {right}'))
        return check

    return add


@pytest.fixture
def field(tmp_path, call_tool, log, monkeypatch) -> SimpleNamespace:
    """A folder, in which the tools run as from the shell."""
    monkeypatch.chdir(tmp_path)
    return SimpleNamespace(folder=tmp_path, run=call_tool, log=log)


# -------------------------------------------------------------------------------------- helpers


def draw(*names: str, size: tuple[int, int] = (12, 16)) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        suffix = Path(name).suffix
        Path(name).write_bytes(cv2.imencode(suffix, np.zeros((*size, 3), np.uint8))[1].tobytes())


def build(kind: str, ann_file: str, **options):
    if kind == 'COCOInstanceDataset':
        options['data_prefix'] = dict(img='')
    options = dict(pipeline=[], serialize_data=False, **options)
    return DATASETS.build(dict(type=kind, ann_file=ann_file, **options))


def tags_of(ann_file: str, text: str | None = None, kind: str = 'TagFileDataset', **options):
    """Return the names of the tags of each image in a file, which is written first."""
    if text is not None:
        Path(ann_file).write_text(text, encoding='utf-8')
    dataset = build(kind, ann_file, **options)
    classes = dataset.metainfo['classes']
    samples = map(dataset.get_data_info, range(len(dataset)))
    return {Path(s['img_path']).name: [classes[tag] for tag in s['tags']] for s in samples}


def captions_of(ann_file: str, text: str | bytes, kind='CaptionFileMatchingDataset', **options):
    """Return the captions of each image in a file, which is written first."""
    content = text if isinstance(text, bytes) else text.encode()
    Path(ann_file).write_bytes(content)
    options = dict(check_images=False, test_mode=True, **options)
    dataset = build(kind, ann_file, **options)
    samples = map(dataset.get_data_info, range(len(dataset)))
    return {Path(sample['img_path']).as_posix(): sample['text'] for sample in samples}


def coco(path: str, ann: dict | None = None, image: dict | None = None, **content) -> None:
    """Write COCO json of a cat (id 4) in the image 7 and a dog (id 9) in the image 8."""
    mask = [[1.0, 2.0, 9.0, 2.0, 9.0, 9.0, 1.0, 9.0]]
    common = dict(bbox=[1, 2, 8, 7], area=56, iscrowd=0, segmentation=mask)
    annotations = [
        {'id': 1, 'image_id': 7, 'category_id': 4, **common, **(ann or {})},
        {'id': 2, 'image_id': 8, 'category_id': 9, **common, **(ann or {})},
    ]
    images = [
        {'id': i, 'file_name': f'{i}.png', 'height': 12, 'width': 16, **(image or {})}
        for i in (7, 8)
    ]
    categories = [dict(id=9, name='dog'), dict(id=4, name='cat')]
    whole = dict(info={}, images=images, annotations=annotations, categories=categories)
    whole.update(content)
    Path(path).write_text(json.dumps({k: v for k, v in whole.items() if v is not None}))
    draw('7.png', '8.png')


def as_floats(value):
    """Return JSON whose integers are floats, as pandas writes columns with a gap."""
    if isinstance(value, dict):
        return {key: as_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_floats(item) for item in value]
    return float(value) if type(value) is int else value


def coco_metric(found: list[tuple[int, int]], classes: tuple[str, ...], **options) -> dict:
    """Return the metric of detections (image id, label) of the object of :func:`coco`."""
    metric = InstanceCocoMetric(**options)
    metric.dataset_meta = dict(classes=classes)
    mask = torch.zeros(1, 12, 16, dtype=torch.bool)
    mask[0, 2:9, 1:9] = True
    for image, label in found:
        pred = dict(
            bboxes=torch.tensor([[1.0, 2, 9, 9]]),
            scores=torch.ones(1),
            labels=torch.tensor([label]),
            masks=mask,
        )
        metric.process({}, [dict(pred_instances=pred, img_id=image, ori_shape=(12, 16))])
    return metric.evaluate(len(found))


def voc(
    names: list[str], objects: list[tuple[str, list[int]]], suffix: str = '.jpg', image_set=None
) -> None:
    """Write a VOCdevkit, in which each image has these objects with rectangular masks."""
    for folder in ('JPEGImages', 'Annotations', 'SegmentationObject', 'ImageSets'):
        Path(folder).mkdir(exist_ok=True)
    mask = np.zeros((12, 16), np.uint8)
    parts = []
    for number, (name, (x1, y1, x2, y2)) in enumerate(objects, 1):
        mask[y1:y2, x1:x2] = number
        corners = zip(('xmin', 'ymin', 'xmax', 'ymax'), (x1 + 1, y1 + 1, x2 + 1, y2 + 1))
        box = ''.join(f'<{side}>{value}</{side}>' for side, value in corners)
        parts.append(f'<object><name>{name}</name><bndbox>{box}</bndbox></object>')
    size = '<size><width>16</width><height>12</height></size>'
    for name in names:
        draw(f'JPEGImages/{name}{suffix}')
        text = f'<annotation>{size}{"".join(parts)}</annotation>'
        Path(f'Annotations/{name}.xml').write_text(text)
        Image.fromarray(mask).save(f'SegmentationObject/{name}.png')
    Path('ImageSets/set.txt').write_text('\n'.join(image_set or names) + '\n')


def voc_both(classes=('cat', 'dog', 'person')):
    """Return what training and testing read in the VOCdevkit."""
    meta = dict(classes=classes)
    train = build('VOCTagDataset', 'ImageSets/set.txt', metainfo=meta, ignore_unknown=True)
    test = build('VOCInstanceDataset', 'ImageSets/set.txt', metainfo=meta, test_mode=True)
    assert len(train) == len(test)
    for i in range(len(train)):
        tagged, sample = train.get_data_info(i), test.get_data_info(i)
        assert tagged['img_id'] == sample['img_id'] and Path(sample['img_path']).is_file()
        assert Path(tagged['img_path']).resolve() == Path(sample['img_path']).resolve()
        assert tagged['tags'] == sorted({each['bbox_label'] for each in sample['instances']})
    return [test.get_data_info(i) for i in range(len(test))]


def last_line(done) -> str:
    assert 'Traceback' not in done.err
    return done.err.strip().splitlines()[-1]


# ---------------------------------------------------------------------------------- COCO's files


@case('COCO', 'ids written as 3.0 by pandas', 'the integers, in training and testing')
def _(field) -> None:
    coco('a.json')
    content = as_floats(json.loads(Path('a.json').read_text()))
    Path('b.json').write_text(json.dumps(content))
    for kind in ('COCOTagDataset', 'COCOInstanceDataset'):
        options = {} if kind == 'COCOTagDataset' else dict(metainfo=dict(classes=('cat', 'dog')))
        plain, floats = (build(kind, f'{name}.json', **options) for name in 'ab')
        for i in range(2):
            sample = floats.get_data_info(i)
            assert sample['img_id'] == 7 + i and type(sample['img_id']) is int
            assert sample == plain.get_data_info(i)


@case('COCO', 'captions with ids written as 3.0', 'the integers')
def _(field) -> None:
    content = dict(
        images=[dict(id=3.0, file_name='a.png')],
        annotations=[dict(id=1.0, image_id=3.0, caption='a dog')],
    )
    Path('c.json').write_text(json.dumps(content))
    dataset = build('COCOCaptionsMatchingDataset', 'c.json', check_images=False)
    assert dataset.get_data_info(0)['ori_id'] == '3'


@case('COCO', 'an id of 3.5, or true', 'one line: file, entry, field, found, expected')
def _(field) -> None:
    for value in (3.5, True):
        coco('a.json', ann=dict(image_id=value))
        expected = rf'a.json: annotations\[0\]: image_id: expected an integer .* found {value}'
        with pytest.raises(InputError, match=expected):
            build('COCOTagDataset', 'a.json')


@case('COCO', 'iscrowd true, false, 1.0 or missing', 'a flag')
def _(field) -> None:
    for value, crowd in ((True, 1), (False, 0), (1.0, 1), (None, 0)):
        coco('a.json', ann=dict(iscrowd=value))
        dataset = build('COCOInstanceDataset', 'a.json', metainfo=dict(classes=('cat', 'dog')))
        assert dataset.get_data_info(0)['instances'][0]['ignore_flag'] == crowd
        tags = tags_of('a.json', kind='COCOTagDataset', use_crowd=False)
        assert tags['7.png'] == ([] if crowd else ['cat'])
        check_fields(dict(iscrowd=value), 'x', iscrowd=(*FLAG, type(None)))
    coco('a.json', ann=dict(iscrowd='no'))
    with pytest.raises(InputError, match=r"annotations\[0\]: iscrowd: .* found 'no'"):
        build('COCOTagDataset', 'a.json')


@case('COCO', '"segmentation": []', 'boxes are evaluated; if masks are, one line before training')
def _(field) -> None:
    coco('a.json', ann=dict(segmentation=[]))
    dataset = build('COCOInstanceDataset', 'a.json', metainfo=dict(classes=('dog', 'cat')))
    box = dict(bbox=[1, 2, 9, 9], bbox_label=1, ignore_flag=0)
    assert dataset.get_data_info(0)['instances'] == [box]
    found = coco_metric([(7, 1), (8, 0)], ('dog', 'cat'), ann_file='a.json', metric='bbox')
    assert found['coco/bbox_mAP'] == 1
    with pytest.raises(InputError, match=r"a.json: an object of '7.png': .* found None, expected"):
        InstanceCocoMetric(ann_file='a.json', metric=['bbox', 'segm'])
    metric = InstanceCocoMetric(metric='segm')
    pred = dict(bboxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0))
    sample = dict(pred_instances=pred, img_id=1, img_path='x.png', ori_shape=(9, 9))
    with pytest.raises(InputError, match=r'an object of x.png: segmentation: found None'):
        metric.process({}, [dict(sample, instances=[box])])


@case(
    'COCO', 'a size that the image does not have, where masks are evaluated', 'one line, not AP 0'
)
def _(field) -> None:
    coco('a.json', image=dict(height=16, width=12))  # as of a photo that lies on its side
    with pytest.raises(InputError, match=r'7: height and width are \(12, 16\), but a.json'):
        coco_metric([(7, 0), (8, 1)], ('cat', 'dog'), ann_file='a.json', metric='segm')
    coco('a.json')
    with pytest.raises(InputError, match=r'5: .* a.json has no image of the id 5'):
        coco_metric([(5, 0)], ('cat', 'dog'), ann_file='a.json', metric='segm')


@case('COCO', 'no info', 'read, and evaluated by every pycocotools')
def _(field) -> None:
    coco('a.json', info=None)
    metric = InstanceCocoMetric(ann_file='a.json')
    assert metric._coco_api.dataset['info'] == {}  # 2.0.9 and 2.0.10 take it without asking
    assert tags_of('a.json', kind='COCOTagDataset')['8.png'] == ['dog']


@case('COCO', 'pseudo labels for a supervised stage', 'have info, for every pycocotools')
def _(field) -> None:
    parts = LabelParts('p.json', 1, {})
    image = dict(file_name='7.png', height=12, width=16)
    ann = dict(category_id=1, bbox=[1, 2, 8, 7], area=56.0, iscrowd=0, score=0.5)
    parts.write(0, [dict(id='x', image=image, annotations=[ann], missing=0)])
    parts.merge(['cat'])
    truth = COCO('p.json')
    assert isinstance(truth.dataset['info'], dict) and truth.imgs[1]['file_name'] == '7.png'
    assert truth.loadRes([dict(ann, image_id=1)]).anns[1]['area'] == 56


@case('COCO', 'classes in another order than the categories', 'labels as in training')
def _(field) -> None:
    coco('a.json')
    for classes in (('cat', 'dog'), ('dog', 'cat'), ('dog',)):
        meta = dict(classes=classes)
        train = build('COCOTagDataset', 'a.json', metainfo=meta, ignore_unknown=True)
        test = build('COCOInstanceDataset', 'a.json', metainfo=meta)
        for i, name in enumerate(('cat', 'dog')):
            labels = [classes.index(name)] if name in classes else []
            assert train.get_data_info(i)['tags'] == labels
            assert [x['bbox_label'] for x in test.get_data_info(i)['instances']] == labels
    found = coco_metric([(7, 1), (8, 0)], ('dog', 'cat'), ann_file='a.json', metric='segm')
    assert found['coco/segm_mAP'] == 1


@case('COCO', 'a test file without one of the classes', 'labels of the others do not shift')
def _(field) -> None:
    coco('a.json')
    classes = ('cat', 'cow', 'dog')
    test = build('COCOInstanceDataset', 'a.json', metainfo=dict(classes=classes), test_mode=True)
    assert [test.get_data_info(i)['instances'][0]['bbox_label'] for i in (0, 1)] == [0, 2]
    assert any('no category of the classes cow' in line for line in field.log)
    options = dict(ann_file='a.json', metric='bbox', classwise=True)
    assert coco_metric([(7, 0), (8, 2)], classes, **options)['coco/bbox_mAP'] == 1


@case('COCO', 'ids of objects that count from 0', 'the first object can be found')
def _(field) -> None:
    coco('a.json')
    content = json.loads(Path('a.json').read_text())
    for annotation in content['annotations']:
        annotation['id'] -= 1
    Path('a.json').write_text(json.dumps(content))
    found = coco_metric([(7, 1), (8, 0)], ('dog', 'cat'), ann_file='a.json', metric='bbox')
    assert found['coco/bbox_mAP'] == 1


@case('COCO', 'a size that the image does not have, or a cut image', 'verify_data.py: one line')
def _(field) -> None:
    config = """
default_scope = 'mmdet'
custom_imports = dict(imports=['projects.pdsl.register'], allow_failed_imports=False)
test_dataloader = dict(dataset=dict(
    type='COCOInstanceDataset', ann_file='a.json', data_prefix=dict(img=''),
    metainfo=dict(classes=('dog', 'cat')), pipeline=[]))
"""
    Path('c.py').write_text(config)
    for own in ('', "ann_file='a.json', "):
        metric = f"test_evaluator = dict(type='InstanceCocoMetric', {own}metric=['bbox', 'segm'])\n"
        Path('m.py').write_text(config + metric)
        coco('a.json')
        for name in ('c.py', 'm.py'):
            assert field.run('misc/verify_data.py', name).out.endswith('complete\n')
        coco('a.json', image=dict(height=16, width=12))
        assert field.run('misc/verify_data.py', 'c.py').out.endswith('complete\n')  # boxes only
        out = field.run('misc/verify_data.py', 'm.py', rc=1).out
        assert '7.png: ' in out and '(12, 16)' in out and '(16, 12)' in out and '2 images' in out
    coco('a.json')
    Path('8.png').write_bytes(Path('8.png').read_bytes()[:50])
    out = field.run('misc/verify_data.py', 'c.py', rc=1).out
    assert 'MISSING  8.png: broken image: ' in out and '(1 images in all)' in out


@case('COCO', 'a test file without areas, or with a broken box', 'verify_data.py: one line each')
def _(field) -> None:
    for fields, words in (
        (dict(area=None), 'annotations[0]: area: expected a number, found None'),
        (dict(bbox=[1, 2, 3]), 'annotations[0]: bbox: expected four numbers (XYWH)'),
        (dict(segmentation=[]), 'an object of 7.png: segmentation: found None, expected polygons'),
        (
            dict(segmentation=dict(size=[16, 12], counts=[192])),
            'expected the size [12, 16]) (2 obj',
        ),
    ):
        coco('a.json', ann=fields)
        config = """
        default_scope = 'mmdet'
        custom_imports = dict(imports=['projects.pdsl'], allow_failed_imports=False)
        test_dataloader = dict(dataset=dict(
            type='COCOInstanceDataset', ann_file='a.json', data_prefix=dict(img=''),
            metainfo=dict(classes=('cat', 'dog')), pipeline=[]))
        test_evaluator = dict(type='InstanceCocoMetric', metric=['bbox', 'segm'])
        """
        Path('c.py').write_text('\n'.join(line[8:] for line in config.splitlines()))
        out = field.run('misc/verify_data.py', 'c.py', rc=1).out
        assert words in out and 'complete' not in out
        mmdets = Path('c.py').read_text().replace('COCOInstanceDataset', 'mmdet.CocoDataset')
        Path('c.py').write_text(mmdets)
        done = field.run('misc/verify_data.py', 'c.py', rc=1)  # mmdet's errors do not name files
        assert 'Traceback' not in done.err
        assert 'MISSING  mmdet.CocoDataset: a.json' in done.out or words in done.out


# --------------------------------------------------------------------------------- grounding data


def refer(ann: dict | None = None, sentences: list | None = None, **image) -> None:
    """Write the refer layout of a cat in the image 7.png, with one reference in the split val."""
    coco('r.json', ann=ann, image=image)
    sentences = sentences or [dict(sent_id=5, sent='the cat')]
    ref = dict(ref_id=1, ann_id=1, image_id=7, split='val', sentences=sentences)
    Path('refs(x).p').write_bytes(pickle.dumps([ref]))


def grounding(**options) -> list[dict]:
    """Return the samples of :func:`refer`, after the pipeline if there is one."""
    names = dict(ann_file='r.json', split_file='refs(x).p', split='val')
    dataset = build('ReferGroundingDataset', **names, **options)
    return [dataset.get_data_info(i) for i in range(len(dataset))]


def seqtr(**fields) -> list[dict]:
    record = dict(bbox=[1, 2, 8, 7], expressions=['it'], image_id=7, width=16, height=12)
    Path('s.json').write_text(json.dumps(dict(val=[{**record, **fields}])))
    dataset = build('SeqTRGroundingDataset', 's.json', split='val', check_images=False)
    return [dataset.get_data_info(i) for i in range(len(dataset))]


@case('grounding', 'iscrowd true and false, ids and sizes such as 3.0, no masks', 'as usual')
def _(field) -> None:
    refer()
    (plain,) = grounding()
    for crowd, floats in ((False, False), (True, False), (0.0, True)):
        refer(ann=dict(iscrowd=crowd, segmentation=[]))
        if floats:
            Path('r.json').write_text(json.dumps(as_floats(json.loads(Path('r.json').read_text()))))
        (sample,) = grounding()
        assert sample['iscrowd'] == int(crowd) and 'mask' not in sample['instances'][0]
        for key in ('img_id', 'ann_id', 'height', 'width', 'category', 'text'):
            assert sample[key] == plain[key] and type(sample[key]) is type(plain[key])
    (sample,) = seqtr(image_id=7.0, width=16.0, iscrowd=True, ann_id=2.0, mask=[], sent_ids=[4.0])
    assert (sample['img_id'], sample['ann_id'], sample['sent_id']) == (7, 2, 4)
    assert Path(sample['img_path']).name == 'COCO_train2014_000000000007.jpg'
    assert sample['iscrowd'] == 1 and type(sample['width']) is int
    for fields in (dict(image_id=7.5), dict(image_id=True), dict(width=16.5)):
        with pytest.raises(InputError, match=rf's.json: val\[0\].*found {[*fields.values()][0]}'):
            seqtr(**fields)
    line = dict(image='7.png', sentence='a', bbox=[1, 2, 9, 9], mask=[], width=16.0, height=12.0)
    Path('j.jsonl').write_bytes(codecs.BOM_UTF8 + json.dumps(dict(line, object_id=2.0)).encode())
    sample = build('JSONLinesGroundingDataset', 'j.jsonl').get_data_info(0)
    assert (sample['ann_id'], sample['height']) == (2, 12) and type(sample['ann_id']) is int


@case(
    'grounding', 'half an emoji in a sentence or a category', 'named before training, or left out'
)
def _(field) -> None:
    half = f'cat {HALF_EMOJI}'
    refer(sentences=[dict(sent_id=5, sent=half), dict(sent_id=6, sent='a whole 😀')])
    with pytest.raises(
        InputError, match=r'ref_id 1, ann_id 1: half a character: sent_id 5: .*d83d'
    ):
        grounding()
    assert [sample['sent_id'] for sample in grounding(skip_invalid=True)] == [6]
    with pytest.raises(InputError, match=r's.json: val\[0\].*: half a character: category'):
        seqtr(category=half)
    with pytest.raises(InputError, match=r's.json: val\[0\].*: half a character: kind'):
        seqtr(kinds=[half])
    images = [dict(image_id=1, url='x/V/1.jpg', width=16, height=12, coco_id=None, flickr_id=None)]
    region = dict(image_id=1, region_id=3, x=1, y=2, width=8, height=7, phrase=half)
    Path('i.json').write_text(json.dumps(images))
    Path('g.json').write_text(json.dumps([dict(id=1, regions=[region])]))
    with pytest.raises(InputError, match='g.json: entry 0: region_id 3: half a character'):
        build('VisualGenomeRegionDataset', 'g.json', vg_image_data='i.json', check_images=False)


@case('grounding', 'sentences of one text and one sent_id', 'each counts')
def _(field) -> None:
    refer(sentences=[dict(sent_id=5, sent='the cat')] * 3)
    samples = grounding()
    assert [sample['sent_id'] for sample in samples] == [5, '5#2', '5#3']
    metric = GroundingMetric()
    for sample, x2 in zip(samples, (9, 5, 1.001)):
        truth = dict(bboxes=torch.tensor([[1.0, 2, 9, 9]]))
        found = dict(bboxes=torch.tensor([[1.0, 2, x2, 9]]), scores=torch.ones(1))
        metric.process({}, [dict(sample, gt_instances=truth, pred_instances=found)])
    assert metric.evaluate(3)['grounding/rec_acc50'] == pytest.approx(200 / 3)


@case('grounding', 'skip_invalid in testing', 'leaves out and counts what would stop it')
def _(field) -> None:
    masks = {'small': np.ones((9, 9)), 'zero': np.zeros((12, 16)), 'fine': np.ones((12, 16))}
    draw('a.png', 'cut.png', 'turned.png')
    for name, mask in masks.items():
        Image.fromarray((255 * mask).astype(np.uint8)).save(f'{name}.png')
    Path('bad.png').write_text('no image')
    Path('cut.png').write_bytes(Path('cut.png').read_bytes()[:50])
    size = dict(height=16, width=12)
    box = dict(sentence='it', bbox=[1, 2, 9, 9])
    bad = [
        dict(box, image='gone.png'), dict(box, image='cut.png'), dict(box, image='bad.png'),
        dict(box, image='turned.png', **size), dict(box, image='a.png', bbox=[1, 2, 90, 9]),
        dict(box, image='a.png', mask=[[90, 90, 99, 90, 99, 99]]),
        *[dict(box, image='a.png', mask=f'{name}.png') for name in ('small', 'zero', 'bad')],
    ]  # fmt: skip
    good = [dict(box, image='a.png'), dict(box, image='a.png', mask='fine.png')]
    Path('j.jsonl').write_text('\n'.join(map(json.dumps, bad + good)))
    load = [dict(type='LoadImageFromFile'), dict(type='LoadGroundingAnnotations')]
    options = dict(type='JSONLinesGroundingDataset', ann_file='j.jsonl', pipeline=load)
    dataset = DATASETS.build(dict(options, skip_invalid=True, test_mode=True))
    assert [dataset[i]['with_mask'] for i in range(len(dataset))] == [False, True]
    counts = {reason: count for reason, (count, _) in dataset.left_out.items()}
    assert counts == {
        'missing image': 1, 'broken image': 2, 'wrong image size': 1, 'degenerate box': 1,
        'invalid mask': 4,
    }  # fmt: skip
    # in training another sample takes the place of what turns out to be broken
    dataset = DATASETS.build(dict(options, skip_invalid=True))
    assert len(dataset) > 2
    assert all(Path(dataset[i]['img_path']).name == 'a.png' for i in range(len(dataset)))
    for line in bad:  # one by one, verify_data.py says what is wrong
        Path('j.jsonl').write_text(json.dumps(line))
        Path('c.py').write_text(
            "default_scope = 'mmdet'\n"
            "custom_imports = dict(imports=['projects.plvl.register'])\n"
            "val_dataloader = dict(dataset=dict(type='JSONLinesGroundingDataset',"
            " ann_file='j.jsonl', pipeline=[]))\n"
        )
        out = field.run('misc/verify_data.py', 'c.py', rc=1).out
        assert 'MISSING  j.jsonl:1: ' in out and 'complete' not in out


@case('grounding', '--verify --images', 'finds what training would stop at')
def _(field) -> None:
    refer()
    Path('d').mkdir()
    for name in ('r.json', 'refs(x).p'):
        Path(name).rename(Path('d', name.replace('r.json', 'instances.json')))
    tool = 'dataset_converters/grounding.py', 'd', '--verify', '--images', '.'
    assert 'nothing to compare with' in field.run(*tool).out
    Path('7.png').write_bytes(Path('7.png').read_bytes()[:50])
    out = field.run(*tool, rc=1).out
    assert 'MISSING  val: ' in out and '1 for broken image (first: ' in out and '7.png' in out


# ------------------------------------------------------------------------------------------ text


@case('text', 'a byte order mark in any annotation file', 'read as without it')
def _(field) -> None:
    bom = codecs.BOM_UTF8
    draw('a.jpg')
    for name, text in (
        ('t.txt', 'a.jpg cat'),
        ('t.csv', 'a.jpg,cat'),
        ('u.csv', 'file_name,cat\na.jpg,1'),
        ('t.json', '{"a.jpg": ["cat"]}'),
    ):
        Path(name).write_bytes(bom + text.encode())
        assert tags_of(name) == {'a.jpg': ['cat']}
    coco('c.json')
    Path('c.json').write_bytes(bom + Path('c.json').read_bytes())
    assert tags_of('c.json', kind='COCOTagDataset') == {'7.png': ['cat'], '8.png': ['dog']}
    assert len(build('COCOInstanceDataset', 'c.json', metainfo=dict(classes=('cat',)))) == 2
    assert InstanceCocoMetric(ann_file='c.json')._coco_api.imgs.keys() == {7, 8}
    for name, text in (
        ('c.txt', 'a.jpg\tA dog.'),
        ('c.csv', 'image,caption\na.jpg,A dog.'),
        ('c.jsonl', '{"image": "a.jpg", "caption": "A dog."}'),
    ):
        assert captions_of(name, bom + text.encode()) == {'a.jpg': ['A dog.']}
    entries = [
        dict(filename='a.jpg', split=split, sentences=[dict(raw='A dog.')])
        for split in ('train', 'val', 'test')
    ]
    Path('k.json').write_bytes(bom + json.dumps(dict(images=entries)).encode())
    done = field.run('dataset_converters/itm.py', 'verify', 'k.json', '--name', 'f30k', rc=1)
    assert 'test: 1 images, 1 captions' in done.out
    numbers = [base64.b64encode(np.ones(4, '<f4').tobytes()).decode()] * 2
    Path('f.tsv').write_bytes(bom + '\t'.join(['12', '9', '9', '1', *numbers]).encode() + b'\n')
    (place,) = butd_offsets('f.tsv').items()
    assert place[0] == '12' and read_butd_at('f.tsv', place[1]).image_id == '12'
    Path('list.json').write_bytes(bom + b'[{"a": 1}, {"b": "\xc3\xa9"}]')
    assert list(iter_json_list('list.json', chunk_size=4)) == [{'a': 1}, {'b': 'é'}]


@case('text', "UTF-16 with its mark, as a spreadsheet's Unicode text", 'read')
def _(field) -> None:
    draw('a.jpg')
    for encoding in ('utf-16-le', 'utf-16-be'):
        text = '\ufefffile_name\tcafé\tdog\r\na.jpg\t1\t0\r\n'
        Path('t.txt').write_bytes(text.encode(encoding))
        assert tags_of('t.txt') == {'a.jpg': ['café']}
        Path('l.json').write_bytes('\ufeff[{"a": "é"}]'.encode(encoding))
        assert list(iter_json_list('l.json', chunk_size=3)) == [{'a': 'é'}]
    Path('t.txt').write_bytes(codecs.BOM_UTF16_LE + b'a')
    with pytest.raises(InputError, match='t.txt: not UTF-16 text .* at byte 2'):
        tags_of('t.txt')


@case('text', 'half an emoji in a caption', 'named before training, or left out')
def _(field) -> None:
    lines = [
        json.dumps(dict(image='a.jpg', caption=f'A dog {HALF_EMOJI}')),
        json.dumps(dict(image='a.jpg', caption='A whole dog 😀')),
    ]
    expected = r'c.jsonl:1: caption: found half a character .*skip_invalid_captions=True'
    with pytest.raises(InputError, match=expected):
        captions_of('c.jsonl', '\n'.join(lines))
    command = 'dataset_converters/itm.py', 'vocab', 'c.jsonl', '--out', 'v.json', '--min-count', '1'
    assert 'c.jsonl:1: caption: found half a' in last_line(field.run(*command, rc=1))
    found = captions_of('c.jsonl', '\n'.join(lines), skip_invalid_captions=True)
    assert found == {'a.jpg': ['A whole dog 😀']}
    assert any('c.jsonl: left out 1 captions' in line for line in field.log)
    assert 'all: 1 captions' in field.run(*command, '--skip-invalid-captions').out


@case('text', 'half an emoji in a tag or a category', 'named before training')
def _(field) -> None:
    coco('c.json', categories=[dict(id=9, name='dog'), dict(id=4, name=f'cat {HALF_EMOJI}')])
    for kind in ('COCOTagDataset', 'COCOInstanceDataset'):
        with pytest.raises(InputError, match=r'c.json: categories: name: found half a character'):
            build(kind, 'c.json')
    draw('a.jpg')
    with pytest.raises(InputError, match=r't.json: tag: found half a character'):
        tags_of('t.json', '{"a.jpg": []}', metainfo=dict(classes=('cat', HALF_EMOJI)))
    Path('t.json').write_text(json.dumps({'a.jpg': [f'cat {HALF_EMOJI}']}))
    with pytest.raises(InputError, match=r"t.json: tag: found half a character .*'cat \\ud83d'"):
        tags_of('t.json')


# ------------------------------------------------------------------------------------------- VOC

THREE = [('person', [1, 1, 6, 6]), ('cat', [8, 2, 14, 9]), ('dog', [0, 8, 5, 12])]


@case('VOC', 'a test set on some of the classes', "each object has its own mask, not another's")
def _(field) -> None:
    voc(['a'], THREE)
    for classes in (('cat',), ('dog', 'cat'), ('person', 'cat', 'dog')):
        (sample,) = voc_both(classes)
        boxes = dict(THREE)
        for instance in sample['instances']:
            x1, y1, x2, y2 = boxes[classes[instance['bbox_label']]]
            assert instance['bbox'] == [x1, y1, x2, y2]
            mask = coco_mask.decode(instance['mask'])
            assert mask[y1:y2, x1:x2].all() and mask.sum() == (y2 - y1) * (x2 - x1)
        assert len(sample['instances']) == len(classes)
    voc_both(('cat',))
    assert any('objects of no class left out: dog (1), person (1)' in line for line in field.log)


@case('VOC', 'the image set of a class, with columns of -1, 0 and 1', 'all of its images')
def _(field) -> None:
    for image_set in (
        ['2008_1  1', '2008_2 -1', '2008_3  0'],
        ['\ufeff2008_1\r', '2008_2 \t\r', '', ' 2008_3\r'],
    ):
        voc(['2008_1', '2008_2', '2008_3'], THREE, image_set=image_set)
        assert [sample['img_id'] for sample in voc_both()] == ['2008_1', '2008_2', '2008_3']


@case('VOC', 'blanks in names of images and of classes', 'part of the one, not of the other')
def _(field) -> None:
    voc(['my cat 1', 'my cat b'], [(' cat\n', [1, 1, 6, 6])])
    samples = voc_both()
    assert [sample['img_id'] for sample in samples] == ['my cat 1', 'my cat b']
    assert [each['bbox_label'] for each in samples[0]['instances']] == [0]


@case('VOC', 'images with other suffixes', 'found, in training and testing')
def _(field) -> None:
    voc(['a', 'b'], THREE, suffix='.png')
    draw('JPEGImages/c.JPEG')
    for folder, suffix in (('Annotations', '.xml'), ('SegmentationObject', '.png')):
        content = Path(folder, f'a{suffix}').read_bytes()
        Path(folder, f'c{suffix}').write_bytes(content)
    Path('ImageSets/set.txt').write_text('a\nb.png\nc\n')
    names = [Path(sample['img_path']).name for sample in voc_both()]
    assert names == ['a.png', 'b.png', 'c.JPEG']
    draw('JPEGImages/a.bmp')
    for kind in ('VOCTagDataset', 'VOCInstanceDataset'):
        with pytest.raises(InputError, match='found both a.bmp and a.png, expected one'):
            build(kind, 'ImageSets/set.txt')


@case('VOC', 'lists of images and masks for semantic segmentation', 'the images')
def _(field) -> None:
    pairs = [f'/JPEGImages/{n}.jpg /SegmentationClassAug/{n}.png' for n in ('2007_1', '2007_2')]
    voc(['2007_1', '2007_2'], THREE, image_set=pairs)
    assert [sample['img_id'] for sample in voc_both()] == ['2007_1', '2007_2']


@case('VOC', 'sizes and corners as decimals, an empty difficult, no size', 'read')
def _(field) -> None:
    voc(['a', 'b'], THREE)
    path = Path('Annotations/a.xml')
    text = path.read_text().replace('>16<', '>16.0<').replace('>2<', '>2.0<')
    path.write_text(text.replace('<bndbox>', '<difficult> </difficult><bndbox>'))
    path = Path('Annotations/b.xml')
    path.write_text(path.read_text().replace('>16<', '>0<'))
    for sample in voc_both():
        assert (sample['height'], sample['width']) == (12, 16)
        assert [each['ignore_flag'] for each in sample['instances']] == [0, 0, 0]
        assert sample['instances'][0]['bbox'] == [1, 1, 6, 6]


@case('VOC', 'an object without a corner, an image listed twice', 'one line')
def _(field) -> None:
    voc(['a'], THREE)
    path = Path('Annotations/a.xml')
    whole = path.read_text()
    path.write_text(whole.replace('<ymin>3</ymin>', ''))
    with pytest.raises(InputError, match=r'a.xml: object 2: bndbox/ymin: .* found None'):
        build('VOCInstanceDataset', 'ImageSets/set.txt')
    path.write_text(whole.replace('<bndbox>', '<difficult>maybe</difficult><bndbox>'))
    for kind in ('VOCTagDataset', 'VOCInstanceDataset'):
        with pytest.raises(InputError, match=r"a.xml: object 1: difficult: .* found 'maybe'"):
            build(kind, 'ImageSets/set.txt')
    path.write_text(whole)
    Path('ImageSets/set.txt').write_text('a\na\n')
    for kind in ('VOCTagDataset', 'VOCInstanceDataset'):
        with pytest.raises(InputError, match=r"set.txt: image 'a' comes twice"):
            build(kind, 'ImageSets/set.txt')


# -------------------------------------------------------------------------------------- captions


@case('captions', "Kaggle's Flickr8k: image,caption", 'read, also where a caption has commas')
def _(field) -> None:
    text = 'image,caption\n1_a.jpg,A child .\n1_a.jpg,"A girl, ""Ann"", runs ."\n2_b.jpg,Two dogs\n'
    expected = {'1_a.jpg': ['A child .', 'A girl, "Ann", runs .'], '2_b.jpg': ['Two dogs']}
    for name in ('captions.txt', 'captions.csv'):
        assert captions_of(name, text) == expected
    assert captions_of('c.csv', text.replace('\n', '\r\n')) == expected
    out = field.run('dataset_converters/itm.py', 'vocab', 'captions.csv', '--out', 'v.json').out
    assert 'captions.csv: all: 3 captions' in out


FLICKR30K = (
    'image_name| comment_number| comment\n'
    '1000092795.jpg| 0| Two young guys with shaggy hair , " look " .\n'
    '2199200615.jpg| 4   A dog runs across the grass .\n'
    '2199200615.jpg| 3| A brown dog\n'
)


@case('captions', "Kaggle's Flickr30k: image_name| comment_number| comment", 'read')
def _(field) -> None:
    whole = FLICKR30K.replace('4   A', '4| A')
    assert captions_of('results.csv', whole) == {
        '1000092795.jpg': ['Two young guys with shaggy hair , " look " .'],
        '2199200615.jpg': ['A dog runs across the grass .', 'A brown dog'],
    }


@case('captions', 'its row without a comment', 'named, or left out and counted')
def _(field) -> None:
    with pytest.raises(InputError, match=r"results.csv:3: caption '', expected .*skip_invalid_cap"):
        captions_of('results.csv', FLICKR30K)
    found = captions_of('results.csv', FLICKR30K, skip_invalid_captions=True)
    assert found['2199200615.jpg'] == ['A brown dog'] and len(found) == 2
    command = 'dataset_converters/itm.py', 'verify', 'results.csv', '--skip-invalid-captions'
    assert '2 images, 2 captions' in field.run(*command, '--name', 'f30k', rc=1).out


@case('captions', "open_clip's pairs: filepath<TAB>title", 'read')
def _(field) -> None:
    text = 'filepath\ttitle\nimages/a.jpg\tA dog, running\nimages/b.jpg\t"Two ""cats"""\n'
    expected = {'images/a.jpg': ['A dog, running'], 'images/b.jpg': ['Two "cats"']}
    for name in ('train.csv', 'train.tsv'):
        assert captions_of(name, text) == expected
    swapped = 'title\tfilepath\nA dog, running\timages/a.jpg\n"Two ""cats"""\timages/b.jpg\n'
    assert captions_of('train.csv', swapped) == expected


@case('captions', 'blank ones in any layout', 'left out on request; images without others, too')
def _(field) -> None:
    skip = dict(skip_invalid_captions=True)
    images = [dict(id=i, file_name=f'{i}.jpg') for i in (1, 2)]
    annotations = [dict(image_id=i, caption=c) for i, c in ((1, 'a'), (1, ' '), (2, '\n'))]
    content = json.dumps(dict(images=images, annotations=annotations))
    found = captions_of('c.json', content, kind='COCOCaptionsMatchingDataset', **skip)
    assert found == {'1.jpg': ['a']}
    assert any('left out 2 captions' in x and '1 images without' in x for x in field.log)
    sentences = [dict(raw=text) for text in ('', 'a', 'b', 'c')]
    entry = dict(filename='1.jpg', split='train', sentences=sentences)
    options = dict(kind='KarpathyMatchingDataset', split='train', max_captions=2, **skip)
    found = captions_of('k.json', json.dumps(dict(images=[entry])), **options)
    assert found == {'1.jpg': ['a', 'b']}
    np.save('x_ims.npy', np.arange(12, dtype=np.float32).reshape(3, 2, 2))
    Path('x_caps.txt').write_text('a\n\n\n\nb\nc\n')
    options = dict(type='PrecompMatchingDataset', split='x', captions_per_image=2, pipeline=[])
    dataset = DATASETS.build(dict(options, **skip))
    assert dataset.captions() == ['a', 'b', 'c'] and dataset.image_of_caption.tolist() == [0, 1, 1]
    assert [dataset.get_data_info(i)['region_row'] for i in range(3)] == [0, 2, 2]
    with pytest.raises(InputError, match=r"x_caps.txt:2: caption ''"):
        DATASETS.build(options)


@case(
    'captions', 'a blank line among captions that become sets', 'named before anything is written'
)
def _(field) -> None:
    lines = ['a dog runs', 'two cats', 'a red car', ' ', 'a bird', 'the sun']
    Path('c.txt').write_text('\n'.join(lines))
    options = ['--captions-per-image', 3, '--region-captions', 2, '--train', 1, '--test', 1]
    done = field.run(
        'dataset_converters/itm_caption_sets.py', 'c.txt', '--out', 'o', *options, rc=1
    )
    assert 'c.txt:4: found a blank line' in last_line(done) and not Path('o').exists()


@case('captions', 'a table with an open quote, other columns, or an unquoted comma', 'one line')
def _(field) -> None:
    for text, words in (
        ('image,caption\na.jpg,"A dog\nb.jpg,A cat\n', r'c.csv:3: not a CSV file'),
        ('drawing,caption\na.jpg,A dog\n', r'c.csv:1: columns .* expected a header with an image'),
        ('image,caption\na.jpg,A dog, running\n', r'c.csv:2: 3 cells, .* has to be in quotes'),
        ('a.jpg,A dog\n', r'c.csv:1: .* expected image<TAB>caption or a header'),
        ('image,caption\n ,A dog\n', r'c.csv:2: image: found nothing'),
    ):
        with pytest.raises(InputError, match=words):
            captions_of('c.csv', text)


# ------------------------------------------------------------------------------------------ tags

ANIMALS = {'a.jpg': ['cat', 'dog'], 'b.jpg': ['dog'], 'c.jpg': []}


@case('tags', 'a column of 0 and 1 for each', 'the tags of the ones; all columns are classes')
def _(field) -> None:
    draw('a.jpg', 'b.jpg', 'c.jpg')
    for name, text in (
        ('t.csv', 'filename, cow, dog, cat\na.jpg, 0, 1, 1\nb.jpg, 0, 1, 0\nc.jpg, 0, 0, 0\n'),
        ('t.csv', 'image;cow;dog;cat\na.jpg;0;1.0;1\nb.jpg;0;1.0;0\nc.jpg;0;0.0;0\n'),
        ('t.tsv', 'file_name\tcow\tdog\tcat\na.jpg\t0\t1\t1\nb.jpg\t0\t1\t0\nc.jpg\t0\t0\t0\n'),
        ('t.txt', 'file_name cow dog cat\na.jpg 0 1 1\nb.jpg 0 1 0\nc.jpg 0 0 0\n'),
    ):
        found = {key: sorted(tags) for key, tags in tags_of(name, text).items()}
        assert found == ANIMALS
        assert build('TagFileDataset', name).metainfo['classes'] == ('cow', 'dog', 'cat')


@case('tags', 'columns of 0 and 1 without a header', "the config's classes, or one line")
def _(field) -> None:
    draw('a.jpg', 'b.jpg', 'c.jpg')
    text = 'a.jpg 1 0 1\nb.jpg 0 0 1\nc.jpg 0 0 0\n'
    meta = dict(metainfo=dict(classes=('cat', 'cow', 'dog')))
    assert tags_of('t.txt', text, **meta) == ANIMALS
    with pytest.raises(InputError, match='t.txt: the tags are 0 and 1, expected names of classes'):
        tags_of('t.txt')
    with pytest.raises(InputError, match=r't.txt:1: 3 cells of 0 and 1, expected 2'):
        tags_of('t.txt', metainfo=dict(classes=('cat', 'dog')))
    digits = dict(metainfo=dict(classes=('0', '1')))
    assert tags_of('d.csv', 'image,label\na.jpg,0\nb.jpg,1\n', **digits) == {
        'a.jpg': ['0'],
        'b.jpg': ['1'],
    }


@case('tags', 'all labels in one cell', 'several tags')
def _(field) -> None:
    draw('a.jpg', 'b.jpg', 'c.jpg')
    for cell in ('dog;cat', 'dog|cat', '"dog,cat"', '"dog, cat"'):
        text = f'file_name,labels\na.jpg,{cell}\nb.jpg,dog\nc.jpg,\n'
        assert tags_of('t.csv', text) == ANIMALS
        assert tags_of('t.csv', f'a.jpg,{cell}\nb.jpg,dog\nc.jpg,\n') == ANIMALS
    assert tags_of('t.json', '{"a.jpg": "dog;cat", "b.jpg": "dog", "c.jpg": ""}') == ANIMALS
    text = 'Image Index,Finding Labels,Age\na.jpg,cat|dog,41\nb.jpg,dog,7\nc.jpg,,8\n'
    assert tags_of('t.csv', text) == ANIMALS
    planet = 'image_name,tags\na.jpg,cat dog\nb.jpg,dog\nc.jpg,\n'
    assert tags_of('t.csv', planet, separator=' ') == ANIMALS
    meta = dict(metainfo=dict(classes=('bear, polar', 'dog')))
    assert tags_of('t.csv', 'a.jpg,"bear, polar"\n', **meta) == {'a.jpg': ['bear, polar']}


@case('tags', 'one row for each tag', 'the tags of all rows')
def _(field) -> None:
    draw('a.jpg', 'b.jpg')
    expected = {'a.jpg': ['cat', 'dog'], 'b.jpg': ['dog']}
    assert tags_of('t.csv', 'image,label\na.jpg,dog\nb.jpg,dog\na.jpg,cat\n') == expected
    assert tags_of('t.txt', 'a.jpg dog\nb.jpg dog\na.jpg cat\na.jpg cat\n') == expected
    objects = (
        'filename,width,height,class,xmin\na.jpg,9,9,dog,1\na.jpg,9,9,cat,2\nb.jpg,9,9,dog,3\n'
    )
    assert tags_of('t.csv', objects) == expected
    with pytest.raises(InputError, match="t.csv:2: image 'a.jpg' comes twice"):
        tags_of('t.csv', 'a.jpg,dog,cat\na.jpg,dog\n')


@case('tags', 'columns of numbers that are no flags', 'one line, not classes called 0.7 and 640')
def _(field) -> None:
    draw('a.jpg')
    for text in ('file_name,cat,dog\na.jpg,0.7,0\n', 'file_name,width,breed\na.jpg,640,pug\n'):
        with pytest.raises(
            InputError, match=r't.csv:2: found the number (0.7|640), expected a tag'
        ):
            tags_of('t.csv', text)


@case('tags', 'tags called like columns', 'tags')
def _(field) -> None:
    draw('a.jpg', 'b.jpg')
    for name, text in (
        ('t.csv', 'a.jpg,path\nb.jpg,file\n'),
        ('t.txt', 'a.jpg path\nb.jpg file\n'),
    ):
        assert tags_of(name, text) == {'a.jpg': ['path'], 'b.jpg': ['file']}
    found = tags_of('t.csv', 'filename,path,road\na.jpg,1,0\nb.jpg,0,1\n')
    assert found == {'a.jpg': ['path'], 'b.jpg': ['road']}


# ------------------------------------------------------------------------------ labels, proposals


@case('labels', '.pth with NumPy values', 'read in both formats of torch.save')
def _(field) -> None:
    data = [('a.jpg', np.float64(1.5), np.arange(4, dtype=np.float32), {'id': np.int64(7)})]
    for as_zip in (False, True):
        torch.save(data, 'x.pth', _use_new_zipfile_serialization=as_zip)
        ((name, number, box, rest),) = load_legacy_torch('x.pth')
        assert (name, number, rest) == ('a.jpg', 1.5, {'id': 7}) and box.tolist() == [0, 1, 2, 3]


@case('labels', '.pth with tensors', 'arrays, in both formats of torch.save')
def _(field) -> None:
    for as_zip in (False, True):
        torch.save(
            [('a.jpg', torch.tensor([1.0, 2]))], 'x.pth', _use_new_zipfile_serialization=as_zip
        )
        ((_, box),) = load_legacy_torch('x.pth')
        assert type(box) is np.ndarray and box.tolist() == [1, 2]
        torch.save([torch.ones(2), np.ones(2)], 'x.pth', _use_new_zipfile_serialization=as_zip)
        with pytest.raises(UntrustedPickleError, match='x.pth: .* beside tensors'):
            load_legacy_torch('x.pth')


@case('proposals', "what mmdet's DumpProposals writes", 'a store that training finds images in')
def _(field) -> None:
    names = ['images/b.png', 'images/a.jpg']
    draw(*names)
    metric = DumpProposals(output_dir='.', proposals_file='p.pkl')
    for i, name in enumerate(names):
        pred = dict(bboxes=torch.from_numpy(BOXES + i), scores=torch.from_numpy(SCORES))
        metric.process({}, [dict(pred_instances=pred, img_path=f'data/{name}')])
    metric.evaluate(2)
    assert type(pickle.loads(Path('p.pkl').read_bytes())['images/a.jpg']).__name__ == 'InstanceData'
    field.run('dataset_converters/proposals.py', 'p.pkl', 'store', '--images', 'images')
    load = Compose(
        [dict(type='LoadImageFromFile'), dict(type='LoadStoredProposals', folder='store')]
    )
    for i, name in enumerate(names):
        found = load(dict(img_path=name))
        assert np.array_equal(found['ori_proposals'], BOXES + i)
        assert np.array_equal(found['ori_proposals_scores'], SCORES)


@case('proposals', 'a store of file names or ids for mmdet', "mmdet's data set finds each image")
def _(field) -> None:
    coco('a.json')
    draw('val/7.png', 'val/8.png')
    entries = {7: BOXES, 8: BOXES + 1}
    for keys, images in (('names', ['val']), ('ids', ['a.json', '--folder', 'val'])):
        write_store(keys, ((str(i), box, SCORES) for i, box in entries.items()), keys=keys)
        command = 'dataset_converters/proposals.py', keys, f'{keys}.pkl', '--to', 'mmdet'
        field.run(*command, '--images', *images)
        dataset = CocoDataset(
            ann_file='a.json',
            data_prefix=dict(img='val/'),
            metainfo=dict(classes=('cat', 'dog')),
            proposal_file=f'{keys}.pkl',
            pipeline=[LoadProposals(num_max_proposals=1)],
        )
        for i in range(2):
            assert np.array_equal(dataset[i]['proposals'], entries[7 + i][:1])
            assert dataset[i]['proposals_scores'].tolist() == SCORES[:1].tolist()
        # and back
        field.run('dataset_converters/proposals.py', f'{keys}.pkl', f'{keys}_back')
        assert ProposalStore(f'{keys}_back').find('data/val/8.png') is not None


@case('proposals', 'a store for mmdet whose files are not known', 'one line, not keys of no image')
def _(field) -> None:
    coco('a.json')
    write_store('s', [('7', BOXES, SCORES)], keys='ids')
    write_store('n', [('x/7', BOXES, SCORES), ('y/7', BOXES, SCORES)], keys='paths')
    draw('d/x/z/7.png', 'd/y/z/7.png', 'd/x/8.png')
    tool = 'dataset_converters/proposals.py'
    for arguments, words in (
        (('s',), "no image file of '7': the store does not name it"),
        (('s', '--images', 'a.json'), "the folder of '7.png' is not known"),
        (('n', '--images', 'd'), "no image file of 'x/7': d has none"),
    ):
        source, *options = arguments
        done = field.run(tool, source, 'o.pkl', '--to', 'mmdet', *options, rc=1)
        assert words in last_line(done) and not Path('o.pkl').exists()
    write_store('z', [('x/z/7', BOXES, SCORES), ('y/z/7', BOXES, SCORES)], keys='paths')
    done = field.run(tool, 'z', 'o.pkl', '--to', 'mmdet', '--images', 'd', rc=1)
    assert "two images have the key 'z/7.png' of mmdet" in last_line(done)


@pytest.mark.parametrize('check', CASES)
def test_annotations(check: Callable, field) -> None:
    check(field)
