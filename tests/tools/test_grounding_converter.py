"""tools/dataset_converters/grounding.py: round trips, and counts against the published ones."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_utils
import pytest
import torch

from projects.common.files.unpickle import load_legacy_torch
from projects.common.scenes import write_dataset
from projects.plvl.datasets.published import PUBLISHED, compare, published_split

SQUARE = [10.0, 10.0, 30.0, 10.0, 30.0, 20.0, 10.0, 20.0]
NAME = 'COCO_train2014_{:012d}.jpg'


@pytest.fixture
def run(call_tool):
    return partial(call_tool, 'dataset_converters/grounding.py')


# ---- what is in a folder of the refer layout, read without any code of ours


def pixels(segmentation, image) -> bytes:
    if isinstance(segmentation, list):
        parts = mask_utils.frPyObjects(segmentation, image['height'], image['width'])
        segmentation = mask_utils.merge(parts)
    return mask_utils.decode(segmentation).tobytes()


def content(folder: Path, by: str) -> dict:
    """(split, ref_id) -> image, box, mask, sentences and all else that has to survive."""
    coco = json.loads((folder / 'instances.json').read_text())
    images = {image['id']: image for image in coco['images']}
    annotations = {annotation['id']: annotation for annotation in coco['annotations']}
    categories = {category['id']: category['name'] for category in coco['categories']}
    found = {}
    for ref in pickle.loads((folder / f'refs({by}).p').read_bytes()):
        annotation = annotations[ref['ann_id']]
        image = images[ref['image_id']]
        assert annotation['image_id'] == ref['image_id']
        assert annotation['category_id'] == ref['category_id']
        key = ref['split'], ref['ref_id']
        assert key not in found
        found[key] = dict(
            image={k: image[k] for k in ('id', 'file_name', 'width', 'height')},
            ann_id=ref['ann_id'],
            box=annotation['bbox'],
            mask=pixels(annotation['segmentation'], image),
            iscrowd=annotation['iscrowd'],
            category=(ref['category_id'], categories[ref['category_id']]),
            sentences=[(s['sent_id'], s['sent'], s.get('kind')) for s in ref['sentences']],
        )
    return found


@pytest.fixture(scope='module')
def scenes(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('scenes')
    write_dataset(root, num_train=6, num_val=3, num_test=3, image_size=64, progress=False)
    return root


def around(run, source: Path, by: str, images: Path, out: Path) -> None:
    """refer -> SeqTR -> JSON lines -> refer, and refer -> JSON lines -> SeqTR -> refer."""
    before = content(source, by)
    for middle in (('seqtr', 'jsonl'), ('jsonl', 'seqtr')):
        folder = source
        for step, kind in enumerate((*middle, 'refer')):
            target = out / '-'.join(middle) / f'{step}'
            arguments = ['--by', by] if kind == 'refer' or step == 0 else []
            run(folder, '--to', kind, '--out', target, '--images', images, *arguments)
            folder = target
        after = content(folder, by)
        assert set(after) == set(before)
        for split in {split for split, _ in before}:  # in its old order
            assert [k for k in after if k[0] == split] == [k for k in before if k[0] == split]
        for key, reference in before.items():
            assert after[key] == reference, (middle, key)


def test_round_trip_of_scenes(scenes, run, tmp_path):
    around(run, scenes / 'scenes', 'scenes', scenes / 'images', tmp_path)
    kinds = {
        s[2] for ref in content(scenes / 'scenes', 'scenes').values() for s in ref['sentences']
    }
    assert len(kinds) > 1  # several kinds about one object become lines of their own


@pytest.mark.parametrize(
    'name, by, sentences',
    [('refcoco', 'unc', 70), ('refcoco+', 'unc', 71), ('refcocog', 'umd', 15)],
)
def test_round_trip_of_real_data(shared_data, run, tmp_path, name, by, sentences):
    root = shared_data / 'refcoco_sample'
    around(run, root / name, by, root / 'images' / 'train2014', tmp_path)
    splits = json.loads((tmp_path / 'seqtr-jsonl' / '0' / 'instances.json').read_text())
    records = [record for split in splits.values() for record in split]
    assert sum(len(record['expressions']) for record in records) == sentences
    # As SeqTR itself finds the image.
    assert all(record['data_source'] == 'coco' for record in records)
    assert all(NAME.format(record['image_id']) == record['file_name'] for record in records)


def test_sentences_as_written(scenes, run, tmp_path):
    source = tmp_path / 'source'
    source.mkdir()
    for name in ('instances.json', 'refs(scenes).p'):
        (source / name).write_bytes((scenes / 'scenes' / name).read_bytes())
    refs = pickle.loads((source / 'refs(scenes).p').read_bytes())
    for ref in refs:
        for sentence in ref['sentences']:
            sentence['raw'] = sentence['sent'].upper() + ' !'
    (source / 'refs(scenes).p').write_bytes(pickle.dumps(refs, protocol=2))
    run(source, '--to', 'refer', '--out', tmp_path / 'raw', '--sentence-key', 'raw')
    raw = content(tmp_path / 'raw', 'scenes')
    for ref in refs:
        texts = [s[1] for s in raw[ref['split'], ref['ref_id']]['sentences']]
        assert texts == [sentence['raw'] for sentence in ref['sentences']]


# ---- the formats that are only read


def test_transvg_sentences_about_one_object_come_together(shared_data, run, tmp_path):
    file = shared_data / 'refcoco_sample' / 'transvg' / 'unc' / 'unc_val.pth'
    result = run(file, '--to', 'jsonl', '--out', tmp_path)
    assert result.out.split()[3:7] == ['val', '1,500', '3,811', '10,834']
    lines = [json.loads(line) for line in (tmp_path / 'val.jsonl').read_text().splitlines()]
    assert len(lines) == 3811
    written = Counter()
    for line in lines:
        x1, y1, x2, y2 = line['bbox']
        box = tuple(round(value, 6) for value in (x1, y1, x2 - x1, y2 - y1))
        for text in line.get('sentences') or [line['sentence']]:
            written[line['image'], line['object_id'], box, text] += 1
    rows = Counter()
    for name, mask, box, text, _ in load_legacy_torch(file):
        box = tuple(round(value, 6) for value in box)
        rows[name, int(mask.removesuffix('.pth')), box, text.strip()] += 1
    assert written == rows


def save_pth(path: Path, rows: list) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(rows, path, _use_new_zipfile_serialization=False)
    return path


def draw(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), np.zeros((60, 80, 3), np.uint8))
    return folder


def test_eevg_to_refer(run, tmp_path):
    images = draw(tmp_path / 'images', f'coco/{NAME.format(7)}', 'flickr/7.jpg')
    rows = [
        (NAME.format(7), 'coco', [10, 10, 20, 10, SQUARE], 'the mug', []),
        ('7.jpg', 'flickr', [1, 2, 30, 40], 'two guys', []),
        (NAME.format(7), 'coco', [10, 10, 20, 10, SQUARE], 'red one', []),
    ]
    file = save_pth(tmp_path / 'mixed_train.pth', rows)
    arguments = (file, '--to', 'refer', '--source-folders', 'coco=coco', 'flickr=flickr')
    result = run(*arguments, '--out', tmp_path / 'a', rc=1)
    assert 'entry 0' in result.err and 'say --images' in result.err
    run(*arguments, '--out', tmp_path / 'b', '--images', images)
    coco = json.loads((tmp_path / 'b' / 'instances.json').read_text())
    refs = pickle.loads((tmp_path / 'b' / 'refs(converted).p').read_bytes())
    # Both images have the id 7 in their collections: they are numbered anew.
    assert [(i['id'], i['file_name'], i['width'], i['height']) for i in coco['images']] == [
        (1, f'coco/{NAME.format(7)}', 80, 60), (2, 'flickr/7.jpg', 80, 60)
    ]  # fmt: skip
    assert [(a['bbox'], a.get('segmentation'), a['area']) for a in coco['annotations']] == [
        ([10, 10, 20, 10], [SQUARE], 200), ([1, 2, 30, 40], None, 1200)
    ]  # fmt: skip
    assert [[s['sent'] for s in ref['sentences']] for ref in refs] == [
        ['the mug', 'red one'], ['two guys']
    ]  # fmt: skip
    assert coco['categories'] == [dict(id=1, name='object')]


def test_flickr30k_and_visual_genome(run, tmp_path):
    folder = tmp_path / 'flickr30k_entities'
    for part in ('Sentences', 'Annotations'):
        (folder / part).mkdir(parents=True)
    (folder / 'val.txt').write_text('36979\n')
    (folder / 'Sentences' / '36979.txt').write_text(
        '[/EN#8/people A man] in [/EN#9/scene a yard] .'
    )
    (folder / 'Annotations' / '36979.xml').write_text(
        '<annotation><size><width>80</width><height>60</height></size><object><name>8</name><bndbox>'
        '<xmin>1</xmin><ymin>1</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object></annotation>'
    )
    run(folder, '--to', 'seqtr', '--out', tmp_path / 'flickr')
    written = json.loads((tmp_path / 'flickr' / 'instances.json').read_text())
    assert written == dict(
        val=[
            dict(
                bbox=[0, 0, 30, 40], expressions=['A man'], image_id=36979, width=80, height=60,
                data_source='flickr', file_name='36979.jpg', ref_id=0, ann_id=8, sent_ids=[0],
                kinds=['people'], iscrowd=0,
            )
        ]
    )  # fmt: skip

    folder = tmp_path / 'visual_genome'
    folder.mkdir()
    image = dict(image_id=1, width=80, height=60, coco_id=None, url='http://a/VG_100K/1.jpg')
    (folder / 'image_data.json').write_text(json.dumps([image]))
    box = dict(x=1, y=2, width=30, height=40)
    regions = [
        dict(region_id=5, image_id=1, phrase='a kite', **box),
        dict(region_id=6, image_id=1, phrase='outside', **{**box, 'x': 79}),
    ]
    entries = [dict(id=1, regions=regions)]
    (folder / 'region_descriptions.json').write_text(json.dumps(entries))
    arguments = (folder, '--to', 'jsonl', '--out', tmp_path / 'vg')
    result = run(*arguments, rc=1)
    assert result.err.count('\n') == 1 and 'region_id 6: degenerate box' in result.err
    result = run(*arguments, '--skip-invalid')
    assert '1 samples left out: 1 for degenerate box' in result.out + result.err
    (line,) = (json.loads(text) for text in (tmp_path / 'vg' / 'train.jsonl').open())
    assert (line['image'], line['sentence']) == ('VG_100K/1.jpg', 'a kite')
    assert line['bbox'] == [1, 2, 31, 42] and line['meta']['refer']['source'] == 'vg'


def test_peoples_own_json_lines(run, tmp_path):
    images = draw(tmp_path / 'images', 'a.png', 'sub/b.png')
    mask = np.zeros((60, 80), dtype=np.uint8)
    mask[20:25, 30:50] = 200
    cv2.imwrite(str(tmp_path / 'm.png'), mask)
    lines = [
        dict(
            image='a.png', sentence='box', bbox=[1, 2, 30.5, 40], object_id='x', meta=dict(refer=1)
        ),
        dict(image='sub/b.png', sentences=['one', 'two'], mask='m.png', category='mug'),
        dict(image='sub/b.png', sentence='kind', bbox=[1, 2, 3, 4], kind='position'),
    ]
    (tmp_path / 'train.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    run(tmp_path, '--to', 'refer', '--out', tmp_path / 'out', '--images', images, '--by', 'me')
    coco = json.loads((tmp_path / 'out' / 'instances.json').read_text())
    refs = pickle.loads((tmp_path / 'out' / 'refs(me).p').read_bytes())
    assert [image['file_name'] for image in coco['images']] == ['a.png', 'sub/b.png']
    assert [a['bbox'] for a in coco['annotations']] == [
        [1, 2, 29.5, 38], [30, 20, 20, 5], [1, 2, 2, 2]
    ]  # fmt: skip
    decoded = mask_utils.decode(coco['annotations'][1]['segmentation'])
    np.testing.assert_array_equal(decoded, mask != 0)
    assert [category['name'] for category in coco['categories']] == ['object', 'mug']
    assert [[(s['sent'], s.get('kind')) for s in ref['sentences']] for ref in refs] == [
        [('box', None)], [('one', None), ('two', None)], [('kind', 'position')]
    ]  # fmt: skip
    sent_ids = [number for ref in refs for number in ref['sent_ids']]
    assert sent_ids == [0, 1, 2, 3]


# ---- counting


def test_published_counts_add_up():
    # PLVL, section 4.1: images, expressions, objects.
    paper = {
        'refcoco': (19994, 142210, 50000),
        'refcoco+': (19992, 141564, 49856),
        'refcocog-umd': (25799, 95010, 49822),
    }
    assert set(paper) == set(PUBLISHED)
    for name, (images, sentences, objects) in paper.items():
        splits = dict(PUBLISHED[name])
        total = splits.pop('total')
        assert total == dict(images=images, references=objects, sentences=sentences)
        assert sum(split['sentences'] for split in splits.values()) == sentences


@pytest.mark.parametrize(
    'name, split, meaning',
    [
        ('refcoco', 'val', ('refcoco', 'val')),
        (None, 'val_refcoco_unc', ('refcoco', 'val')),
        (None, 'testA_refcocoplus_unc', ('refcoco+', 'testA')),
        (None, 'test_refcocog_umd', ('refcocog-umd', 'test')),
        (None, 'val_refcocog_google', (None, 'val')),
        (None, 'val_flickr30k', (None, 'val_flickr30k')),
        (None, 'train', (None, 'train')),
    ],
)
def test_names_of_splits(name, split, meaning):
    assert published_split(name, split) == meaning


def test_differences_both_ways():
    found = dict(images=1500, references=3800, sentences=10900)
    assert compare('val', found, dict(images=1500, references=3811, sentences=10834)) == [
        'val: 3,800 of 3,811 references: 11 missing',
        'val: 10,900 of 10,834 sentences: 66 too many',
    ]


def test_verify_real_val_splits(shared_data, run):
    root = shared_data / 'refcoco_sample' / 'transvg'
    whole = run(root / 'unc' / 'unc_val.pth', '--verify')
    assert 'complete: as published (refcoco val)' in whole.out
    whole = run(root / 'gref_umd', '--verify', '--splits', 'val')
    assert whole.out.split()[3:7] == ['val', '1,300', '2,573', '4,896']
    assert 'complete: as published (refcocog-umd val)' in whole.out
    folder = run(root / 'unc', '--verify', rc=1)
    missing = [line for line in folder.out.splitlines() if line.startswith('MISSING')]
    assert [line.split()[1] for line in missing] == ['train:', 'testA:', 'testB:']
    assert '120,624 sentences missing' in missing[0]


def test_verify_names_what_is_missing(shared_data, run, tmp_path):
    root = shared_data / 'refcoco_sample'
    rows = load_legacy_torch(root / 'transvg' / 'unc' / 'unc_val.pth')
    file = save_pth(tmp_path / 'unc' / 'unc_val.pth', rows[:-3])
    assert 'MISSING  val: 10,831 of 10,834 sentences: 3 missing' in run(file, '--verify', rc=1).out
    images = root / 'images' / 'train2014'
    names = sorted({row[0] for row in rows[:-3]})
    absent = [name for name in names if not (images / name).is_file()]
    result = run(file, '--verify', '--images', images, rc=1)
    assert f'{len(absent):,} of {len(names):,} images are not in {images}' in result.out
    assert f': {absent[0]}, {absent[1]}, ' in result.out

    result = run(root / 'refcoco', '--verify', '--images', images, rc=1)
    assert 'train: 41 of 120,624 sentences: 120,583 missing' in result.out
    assert 'val: 1 of 1,500 images: 1,499 missing' in result.out
    assert 'total: 9 of 19,994 images: 19,985 missing' in result.out
    assert 'images are not in' not in result.out


def test_verify_mixed_keys(run, tmp_path):
    record = dict(bbox=[1, 2, 3, 4], expressions=['a'], image_id=7)
    splits = dict(train=[record], val_refcoco_unc=[record], val_flickr30k=[record])
    (tmp_path / 'instances.json').write_text(json.dumps(splits))
    result = run(tmp_path, '--verify', rc=1)
    missing = [line for line in result.out.splitlines() if line.startswith('MISSING')]
    assert missing == [
        'MISSING  val_refcoco_unc: 1 of 1,500 images: 1,499 missing',
        'MISSING  val_refcoco_unc: 1 of 3,811 references: 3,810 missing',
        'MISSING  val_refcoco_unc: 1 of 10,834 sentences: 10,833 missing',
    ]
    result = run(tmp_path, '--verify', '--splits', 'train')
    assert 'nothing to compare with' in result.out


# ---- messages


def test_messages(scenes, run, tmp_path):
    source = scenes / 'scenes'
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'two').mkdir()
    for by in ('a', 'b'):
        (tmp_path / 'two' / f'refs({by}).p').write_bytes(pickle.dumps([]))
    out = ('--to', 'jsonl', '--out', tmp_path / 'out')
    cases = [
        ((tmp_path / 'none', *out), 'none: no such file or folder'),
        ((tmp_path / 'empty', *out), 'found no refs(*).p, grefs(*).json, Ref-ZOM(*).p, *.pth'),
        ((tmp_path / 'two', *out), "found ['refs(a).p', 'refs(b).p'], expected one refs(*).p"),
        ((source, *out, '--by', 'x'), 'expected refs(x).p'),
        (
            (source, *out, '--splits', 'val', 'vall'),
            "no split vall; it has ['train', 'val', 'test']",
        ),
        ((source, *out, '--box-format', 'xywh'), "--box-format: only for the format 'transvg'"),
        (
            (source, *out, '--source-folders', 'a'),
            '--source-folders: found a, expected NAME=FOLDER',
        ),
        ((source, *out, '--images', tmp_path / 'empty'), 'missing image'),
        (
            (source, '--verify', 'refcocog'),
            '--verify refcocog: there are published counts of refcoco',
        ),
        ((source, '--verify', '--images', tmp_path / 'none'), 'no such folder'),
    ]
    for arguments, message in cases:
        result = run(*arguments, rc=1)
        assert result.err.startswith('error: ') and result.err.count('\n') == 1, result.err
        assert message in result.err, (message, result.err)
    assert not (tmp_path / 'out').exists()
    run(source, *out)
    result = run(source, *out, rc=1)
    assert 'train.jsonl: exists already; --overwrite replaces it' in result.err
    run(source, *out, '--overwrite')


def test_from_the_shell(scenes, tool, tmp_path):
    result = tool(
        'dataset_converters/grounding.py', scenes / 'scenes', '--to', 'seqtr', '--out', tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert str(tmp_path / 'instances.json') in result.stdout
