"""Readers of sentences about no object, one or several, and their way through the pipeline."""

from __future__ import annotations

import json
import pickle

import cv2
import numpy as np
import pytest
from mmengine.dataset import Compose
from mmengine.registry import DATASETS

import projects.plvl.datasets  # noqa: F401  registers
from projects.plvl.datasets.conversion import FORMATS, iter_splits, read_references

NAME = 'COCO_train2014_000000000154.jpg'
VAL_NAME = 'COCO_val2014_000000000042.jpg'
BOXES = {11: [10, 10, 20, 10], 12: [50, 20, 20, 20], 13: [5, 5, 10, 10]}  # x, y, width, height


def polygon(x, y, w, h):
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def instances():
    images = [
        dict(id=154, file_name=NAME, height=60, width=90),
        dict(id=42, file_name=VAL_NAME, height=60, width=90),
    ]
    annotations = [
        dict(
            id=number, image_id=42 if number == 13 else 154, category_id=1, iscrowd=0, bbox=box,
            segmentation=[polygon(*box)],
        )
        for number, box in BOXES.items()
    ]  # fmt: skip
    return dict(images=images, annotations=annotations, categories=[dict(id=1, name='zebra')])


def ref(number, ann_id, texts, image_id=154, split='train', **fields):
    sentences = [
        dict(sent_id=10 * number + i, sent=text, raw=text.upper(), tokens=text.split())
        for i, text in enumerate(texts)
    ]
    return dict(
        ref_id=number, ann_id=ann_id, image_id=image_id, split=split, category_id=[1],
        file_name=NAME, sentences=sentences, sent_ids=[], **fields,
    )  # fmt: skip


GREFS = [
    ref(0, [11], ['left zebra'], no_target=False),
    ref(1, [11, 12], ['both zebras', 'the two'], no_target=False),
    ref(2, [-1], ['the lion'], no_target=True),
    ref(3, 12, ['right one']),  # a single id instead of a list
    ref(4, [13], ['a zebra'], image_id=42, split='val'),
]
ZOM = [
    ref(0, [11, 12], ['two zebras'], source='many'),
    ref(1, 11, ['a zebra'], source='one'),
    ref(2, [11], ['a lion'], source='zero'),  # whose ids mean nothing
    ref(3, [], ['an elephant'], source='zero'),
    ref(4, [13], ['one zebra'], image_id=42),
]


@pytest.fixture
def root(tmp_path):
    for folder in ('grefcoco', 'ref-zom', 'images/train2014', 'images/val2014'):
        (tmp_path / folder).mkdir(parents=True)
    for folder in ('grefcoco', 'ref-zom'):
        (tmp_path / folder / 'instances.json').write_text(json.dumps(instances()))
    write(tmp_path, GREFS)
    (tmp_path / 'ref-zom/refs(final).p').write_bytes(pickle.dumps(ZOM, protocol=2))
    image = np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)
    for folder, name in (('train2014', NAME), ('val2014', VAL_NAME)):
        cv2.imwrite(str(tmp_path / 'images' / folder / name), image)
    return tmp_path


def write(root, grefs):
    (root / 'grefcoco/grefs(unc).json').write_text(json.dumps(grefs))


def grefcoco(root, **kwargs):
    cfg = dict(
        type='GRefCOCODataset', data_root=str(root), data_prefix=dict(img='images/train2014'),
        ann_file='grefcoco/instances.json', split_file='grefcoco/grefs(unc).json', split='train',
    )  # fmt: skip
    return DATASETS.build({**cfg, **kwargs})


def refzom(root, **kwargs):
    cfg = dict(
        type='RefZOMDataset', data_root=str(root), data_prefix=dict(img='images'),
        ann_file='ref-zom/instances.json', split_file='ref-zom/refs(final).p', split='train',
    )  # fmt: skip
    return DATASETS.build({**cfg, **kwargs})


def samples(dataset):
    return [dataset.get_data_info(i) for i in range(len(dataset))]


def xyxy(number):
    x, y, w, h = BOXES[number]
    return [x, y, x + w, y + h]


def facts(dataset):
    """Sentence and boxes of every sample."""
    return [(s['text'], [i['bbox'] for i in s['instances']]) for s in samples(dataset)]


def test_grefcoco(root):
    dataset = grefcoco(root)
    assert facts(dataset) == [
        ('left zebra', [xyxy(11)]),
        ('both zebras', [xyxy(11), xyxy(12)]),
        ('the two', [xyxy(11), xyxy(12)]),
        ('the lion', []),
        ('right one', [xyxy(12)]),
    ]
    found = samples(dataset)
    assert [s['ann_id'] for s in found] == [11, (11, 12), (11, 12), (-1,)[:0], 12]
    assert [s['category'] for s in found] == ['zebra', 'zebra', 'zebra', None, 'zebra']
    assert found[1]['instances'][1]['mask'] == [polygon(*BOXES[12])]
    assert [s['sent_id'] for s in found] == [0, 10, 11, 20, 30]
    raw = grefcoco(root, sentence_key='raw')
    assert [s['text'] for s in samples(raw)][:2] == ['LEFT ZEBRA', 'BOTH ZEBRAS']
    dataset = grefcoco(root, split='val', data_prefix=dict(img='images/val2014'))
    assert facts(dataset) == [('a zebra', [xyxy(13)])]


def test_refzom(root):
    dataset = refzom(root)
    assert facts(dataset) == [
        ('two zebras', [xyxy(11), xyxy(12)]),
        ('a zebra', [xyxy(11)]),
        ('a lion', []),
        ('an elephant', []),
        ('one zebra', [xyxy(13)]),
    ]
    images = [s['img_path'].replace('\\', '/') for s in samples(dataset)]
    assert images[0].endswith(f'images/train2014/{NAME}')
    assert images[-1].endswith(f'images/val2014/{VAL_NAME}')


def test_pickles_run_no_code(root):
    class Bomb:
        def __reduce__(self):
            return print, ('code of the file ran',)

    (root / 'ref-zom/refs(final).p').write_bytes(pickle.dumps([Bomb()]))
    with pytest.raises(Exception, match=r'refs\(final\)\.p.*print'):
        refzom(root)


def test_single_targets_alone(root, log):
    dataset = grefcoco(root, targets='single')
    assert [text for text, _ in facts(dataset)] == ['left zebra', 'right one']
    assert '3 of 5 sentences, about no object or several, left out' in '\n'.join(log)
    assert [s['sent_id'] for s in samples(dataset)] == [0, 30]
    with pytest.raises(ValueError, match=r'ref_id 1.*targets: expected one object \(targets="any"'):
        grefcoco(root, targets='one')
    with pytest.raises(ValueError, match="targets='many': expected one of"):
        grefcoco(root, targets='many')


BAD = {
    'unknown id': (ref(9, [11, 99], ['x']), 'ann_id: expected an annotation of .*, found 99'),
    'other image': (ref(9, [13], ['x']), 'ann_id: expected an annotation of image 154'),
    'none and one': (ref(9, [-1, 11], ['x']), r'ann_id: expected ids of objects, or \[-1\] alone'),
    'no_target': (ref(9, [11], ['x'], no_target=True), 'expected .-1. alone, as no_target is True'),
    'target': (ref(9, [-1], ['x'], no_target=False), 'expected ids of objects, as no_target is F'),
    'no ids': (ref(9, [[11]], ['x']), 'ann_id: expected a number or a string'),
    'image': (ref(9, [-1], ['x'], image_id=7), 'image_id: expected an image of .*, found 7'),
    'same id': (ref(0, [11], ['x']), "ref_id: expected no earlier reference's id"),
}


@pytest.mark.parametrize('name', BAD)
def test_bad_references(root, name):
    entry, message = BAD[name]
    write(root, [*GREFS[:1], entry])
    with pytest.raises(ValueError, match=rf'grefs\(unc\)\.json: .*{message}') as error:
        grefcoco(root)
    assert '\n' not in str(error.value)


def test_bad_files(root):
    write(root, dict(refs=GREFS))
    with pytest.raises(ValueError, match=r'expected a list of references \(dicts\)'):
        grefcoco(root)
    with pytest.raises(ValueError, match="no split 'testA'; it has"):
        write(root, GREFS)
        grefcoco(root, split='testA')
    (root / 'ref-zom/refs(final).p').write_bytes(
        pickle.dumps([ref(0, [], ['x'], source='one')], protocol=2)
    )
    with pytest.raises(ValueError, match="ann_id: expected an object, unless source is 'zero'"):
        refzom(root)


# ---- JSON lines


def json_lines(root, *lines, **kwargs):
    (root / 'x.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    cfg = dict(
        type='JSONLinesGroundingDataset', data_root=str(root), ann_file='x.jsonl',
        data_prefix=dict(img='images/train2014'), targets='any',
    )  # fmt: skip
    return DATASETS.build({**cfg, **kwargs})


def test_json_lines(root):
    objects = [dict(bbox=[1, 2, 30, 40]), dict(mask=[[50, 5, 80, 5, 80, 50]], object_id='b')]
    dataset = json_lines(
        root,
        dict(image=NAME, sentence='the cup', objects=[]),
        dict(image=NAME, sentence='the forks', objects=objects),
        dict(image=NAME, sentence='a fork', bbox=[1, 2, 30, 40], object_id='a'),
    )
    assert facts(dataset) == [
        ('the cup', []),
        ('the forks', [[1, 2, 30, 40], [50, 5, 80, 50]]),
        ('a fork', [[1, 2, 30, 40]]),
    ]
    assert [s['ann_id'] for s in samples(dataset)] == [(), (None, 'b'), 'a']


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        (dict(objects={}), r'objects: expected a list of objects, such as .*, or \[\], found \{\}'),
        (dict(objects=[[1, 2, 3, 4]]), 'objects: expected a list of objects'),
        (dict(objects=[], bbox=[1, 2, 3, 4]), "objects: expected either 'objects' or bbox, mask"),
        (dict(objects=[dict(box=[1, 2, 3, 4])]), "unknown field 'box'.*expected 'bbox'"),
        (dict(objects=[{}]), "bbox: expected a 'bbox' or a 'mask'"),
        (dict(objects=[dict(bbox=[5, 5, 1, 1])]), 'degenerate box: bbox'),
    ],
)
def test_bad_json_lines(root, line, message):
    with pytest.raises(ValueError, match=f'x.jsonl:1: .*{message}'):
        json_lines(root, dict(image=NAME, sentence='a', **line))


def test_conversion_keeps_the_objects(root, tmp_path):
    found = FORMATS['grefcoco'].holds
    assert any((root / 'grefcoco').glob(found[0]))
    splits = {
        split: read_references(dataset, 'grefcoco')
        for split, dataset in iter_splits(root / 'grefcoco', 'grefcoco', targets='any')
    }
    out = tmp_path / 'out'
    out.mkdir()
    paths = [out / f'{split}.jsonl' for split in splits]
    FORMATS['jsonl'].write(splits, paths)
    again = dict(iter_splits(out, 'jsonl'))
    assert set(again) == {'train', 'val'}
    back = read_references(again['train'], 'jsonl')
    for before, after in zip(splits['train'], back, strict=True):
        assert [s.text for s in before.sentences] == [s.text for s in after.sentences]
        assert [s.sent_id for s in before.sentences] == [s.sent_id for s in after.sentences]
        for a, b in zip(before.targets, after.targets, strict=True):
            assert (a.bbox, a.mask, a.ann_id, a.category_id) == (
                b.bbox, b.mask, b.ann_id, b.category_id
            )  # fmt: skip
    with pytest.raises(ValueError, match='found sentences about 2 objects, expected one'):
        FORMATS['refer'].write(splits, [out / 'instances.json', out / 'refs(x).p'])


@pytest.mark.parametrize('published', [False, True])
def test_refzom_is_converted(root, tmp_path, call_tool, published):
    """By name, or by the name of the published file."""
    kind = ['--from', 'refzom']
    if published:
        (root / 'ref-zom/refs(final).p').rename(root / 'ref-zom/Ref-ZOM(final).p')
        kind = []
    out = tmp_path / 'out'
    call_tool('dataset_converters/grounding.py', root / 'ref-zom', *kind, '--to', 'jsonl',
              '--out', out)  # fmt: skip
    lines = [json.loads(line) for line in (out / 'train.jsonl').read_text().splitlines()]
    assert [(line['sentence'], len(line['objects'])) for line in lines if 'objects' in line] == [
        ('two zebras', 2), ('a lion', 0), ('an elephant', 0),
    ]  # fmt: skip


# ---- pipeline

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadGroundingAnnotations'),
    dict(type='RandomSafeCrop', prob=1.0, short_sides=None, crop_range=(30, 50)),
    dict(type='RandomFlipWithWords', prob=1.0),
    dict(type='GroundingResize', scale=(64, 64), keep_ratio=False),
    dict(type='mmdet.PackDetInputs', meta_keys=('text', 'with_mask', 'ori_shape', 'flip')),
]


def test_pipeline_keeps_all_objects_and_none(root):
    dataset = grefcoco(root, pipeline=PIPELINE)
    counts = []
    for i in range(len(dataset)):
        sample = dataset[i]['data_samples']
        truth = sample.gt_instances
        counts.append(len(truth))
        assert tuple(dataset[i]['inputs'].shape) == (3, 64, 64)
        assert truth.masks.masks.shape == (len(truth), 64, 64)
        assert sample.with_mask and sample.flip
        for box, mask in zip(truth.bboxes.tensor, truth.masks.masks):
            rows, columns = np.nonzero(mask)
            tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(box, tight, atol=2.5)
    assert counts == [1, 2, 2, 0, 1]


def test_a_crop_of_no_object_goes_anywhere(root):
    crop = Compose(PIPELINE[:3])
    dataset = grefcoco(root, pipeline=[])
    np.random.seed(0)
    shapes = set()
    for _ in range(20):
        result = crop(samples(dataset)[3])
        assert result['gt_masks'].masks.shape == (0, *result['img_shape'])
        shapes.add(result['img_shape'])
    assert len(shapes) > 10
