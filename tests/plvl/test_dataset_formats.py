"""Readers of other people's formats, and the mix that leaves val and test images out."""

from __future__ import annotations

import json
import pickle
import re

import cv2
import numpy as np
import pycocotools.mask as mask_utils
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS

import projects.plvl.datasets  # noqa: F401  registers
from projects.common.files.unpickle import load_legacy_torch, load_pickle
from projects.plvl.datasets import Invalid
from projects.plvl.datasets.image_identity import image_keys
from projects.plvl.datasets.masks import check_mask

SQUARE = [10.0, 10.0, 30.0, 10.0, 30.0, 20.0, 10.0, 20.0]
TRIANGLE = [40.0, 20.0, 50.0, 20.0, 50.0, 30.0]
COCO_NAME = 'COCO_train2014_000000000154.jpg'


def build(kind, root, **kwargs):
    cfg = dict(type=kind, data_root=str(root), data_prefix=dict(img='images'), check_images=False)
    return DATASETS.build({**cfg, **kwargs})


def raw_samples(dataset):
    """The samples as they are, without reading sizes from images."""
    return [dataset.get_data_info(i) for i in range(len(dataset))]


def save_pth(path, rows):
    torch.save(rows, path, _use_new_zipfile_serialization=False)


# ---- TransVG, EEVG, PLVL


def test_eevg_polygons_and_collections(tmp_path):
    rows = [
        (COCO_NAME, 'coco', [10, 5, 20, 30, SQUARE, TRIANGLE], 'man', []),
        ('2407890.jpg', 'vg', [1, 2, 3, 4], 'a red kite', []),
        ('36979.jpg', 'flickr', [5, 6, 7, 8], 'two guys', []),
    ]
    save_pth(tmp_path / 'mixed_train.pth', rows)
    folders = dict(coco='mscoco/train2014', vg='visual-genome', flickr30k='flickr30k')
    dataset = build(
        'TransVGGroundingDataset', tmp_path, ann_file='mixed_train.pth', source_folders=folders
    )
    first, second, third = raw_samples(dataset)
    assert first['instances'][0] == dict(
        bbox=[10, 5, 30, 35], bbox_label=0, ignore_flag=0, mask=[SQUARE, TRIANGLE]
    )
    assert first['ann_id'] is None and first['text'] == 'man'
    assert second['instances'][0] == dict(bbox=[1, 2, 4, 6], bbox_label=0, ignore_flag=0)
    names = ['mscoco/train2014/' + COCO_NAME, 'visual-genome/2407890.jpg', 'flickr30k/36979.jpg']
    assert [sample['img_path'] for sample in (first, second, third)] == [
        str(tmp_path / 'images' / name) for name in names
    ]
    assert list(dataset.image_keys.values()) == [
        (('coco', 154),),
        (('vg', 2407890),),
        (('flickr', 36979),),
    ]
    with pytest.raises(ValueError, match=r"entry 1 .*an image of 'vg', which is not in source_f"):
        build(
            'TransVGGroundingDataset',
            tmp_path,
            ann_file='mixed_train.pth',
            source_folders=dict(coco='x'),
        )


def test_transvg_box_formats(tmp_path):
    box = [10, 5, 20, 30]
    save_pth(tmp_path / 'flickr_val.pth', [('36979.jpg', box, 'a hat')])
    save_pth(tmp_path / 'referit_val.pth', [('10_1.jpg', '10_1.pth', box, 'sky', [])])
    save_pth(tmp_path / 'unc_val.pth', [(COCO_NAME, '7.pth', box, 'man', [])])
    expected = {
        'flickr': (box, (('flickr', 36979),)),
        'referit': (box, (('saiapr', '10_1'),)),
        'unc': ([10, 5, 30, 35], (('coco', 154),)),
    }
    for name, (truth, keys) in expected.items():
        dataset = build('TransVGGroundingDataset', tmp_path, ann_file=f'{name}_val.pth')
        assert raw_samples(dataset)[0]['instances'][0]['bbox'] == truth, name
        assert list(dataset.image_keys.values()) == [keys]
    forced = build(
        'TransVGGroundingDataset', tmp_path, ann_file='referit_val.pth', box_format='xywh'
    )
    assert raw_samples(forced)[0]['instances'][0]['bbox'] == [10, 5, 30, 35]
    with pytest.raises(ValueError, match="box_format='cxcywh'"):
        build('TransVGGroundingDataset', tmp_path, ann_file='unc_val.pth', box_format='cxcywh')


BAD_ROWS = {
    'oneref': ((COCO_NAME, [640, 427], [1, 2, 3, 4], 'a', [SQUARE]), 'second field: expected'),
    'two': ((COCO_NAME, [1, 2, 3, 4]), r'expected \(image'),
    'image': ((5, '7.pth', [1, 2, 3, 4], 'a', []), 'image: expected a file name'),
}
DAMAGED_ROWS = {
    'short_box': ((COCO_NAME, '7.pth', [1, 2, 3], 'a', []), 'degenerate box'),
    'no_box': ((COCO_NAME, '7.pth', None, 'a', []), 'degenerate box'),
    'polygon': ((COCO_NAME, 'coco', [1, 2, 3, 4, [1, 2, 3]], 'a', []), 'invalid mask'),
    'empty': ((COCO_NAME, 'coco', [1, 2, 3, 4], ' ', []), 'empty sentence'),
}
GOOD_ROW = (COCO_NAME, '7.pth', [1, 2, 3, 4], 'fine', [])


@pytest.mark.parametrize('name', [*BAD_ROWS, *DAMAGED_ROWS])
def test_bad_transvg_rows(tmp_path, name, log):
    row, message = {**BAD_ROWS, **DAMAGED_ROWS}[name]
    save_pth(tmp_path / 'x.pth', [GOOD_ROW, row])
    with pytest.raises(ValueError, match=rf'x\.pth: entry 1.*{message}') as error:
        build('TransVGGroundingDataset', tmp_path, ann_file='x.pth')
    assert '\n' not in str(error.value)
    if name in DAMAGED_ROWS:
        dataset = build('TransVGGroundingDataset', tmp_path, ann_file='x.pth', skip_invalid=True)
        assert len(dataset) == 1
        assert f'1 samples left out: 1 for {message}' in log[-1]


def test_transvg_file_that_is_no_list(tmp_path):
    save_pth(tmp_path / 'x.pth', dict(a=1))
    with pytest.raises(ValueError, match=r'x\.pth: expected a list of tuples, found dict'):
        build('TransVGGroundingDataset', tmp_path, ann_file='x.pth')


# ---- SeqTR


def seqtr_record(**changes):
    record = dict(
        bbox=[10, 10, 20, 10], expressions=['left one', 'the first'], mask=[SQUARE],
        image_id=154, width=80, height=60, data_source='coco',
    )  # fmt: skip
    return {**record, **changes}


def write_seqtr(path, **splits):
    path.write_text(json.dumps(splits))


def test_seqtr_with_mixed_keys(tmp_path):
    rle = mask_utils.encode(np.asfortranarray(np.eye(60, 80, dtype=np.uint8)))
    write_seqtr(
        tmp_path / 'instances.json',
        train=[
            seqtr_record(),
            seqtr_record(image_id=7, data_source='visual-genome', mask=[], expressions=['kite']),
            seqtr_record(image_id='9', data_source='flickr', mask=None, expressions=['hat']),
            seqtr_record(image_id=8, data_source='saiaprtc12', expressions=['sky']),
        ],
        val_refcoco_unc=[
            seqtr_record(
                bbox=[0, 0, 60, 60], mask=dict(size=[60, 80], counts=rle['counts'].decode())
            )
        ],
    )
    folders = {
        'coco': 'mscoco', 'visual-genome': 'visual-genome', 'saiaprtc12': 'saiapr', 'flickr': 'f30k'
    }  # fmt: skip
    args = dict(ann_file='instances.json', source_folders=folders)
    train = build('SeqTRGroundingDataset', tmp_path, split='train', **args)
    samples = raw_samples(train)
    assert [sample['text'] for sample in samples] == ['left one', 'the first', 'kite', 'hat', 'sky']
    assert [sample['sent_id'] for sample in samples] == [0, 1, 2, 3, 4]
    assert [sample['ref_id'] for sample in samples] == [0, 0, 1, 2, 3]
    samples[0].pop('sample_idx')
    assert samples[0] == dict(
        img_path=str(tmp_path / 'images' / 'mscoco' / COCO_NAME),
        img_id=154, height=60, width=80, text='left one', ref_id=0, sent_id=0, ann_id=None,
        kind=None, subset=None, category=None, iscrowd=0,
        instances=[dict(bbox=[10, 10, 30, 20], bbox_label=0, ignore_flag=0, mask=[SQUARE])],
    )  # fmt: skip
    assert [s['img_path'].split('images/')[1] for s in samples[2:]] == [
        'visual-genome/7.jpg', 'f30k/9.jpg', 'saiapr/8.jpg'
    ]  # fmt: skip
    assert ['mask' in s['instances'][0] for s in samples] == [True, True, False, False, True]
    assert [keys[0] for keys in train.image_keys.values()] == [
        ('coco', 154), ('vg', 7), ('flickr', 9), ('saiapr', 8)
    ]  # fmt: skip

    val = build('SeqTRGroundingDataset', tmp_path, split='val_refcoco_unc', **args)
    mask = mask_utils.decode(raw_samples(val)[0]['instances'][0]['mask'])
    np.testing.assert_array_equal(mask, np.eye(60, 80))
    with pytest.raises(ValueError, match=r"no split 'val'; it has \['train', 'val_refcoco_unc'\]"):
        build('SeqTRGroundingDataset', tmp_path, split='val', **args)


def test_seqtr_file_of_one_data_set(tmp_path):
    record = seqtr_record()
    record.pop('data_source')
    write_seqtr(tmp_path / 'x.json', val=[record, {**record, 'file_name': 'kitchen.png'}])
    dataset = build('SeqTRGroundingDataset', tmp_path, ann_file='x.json', split='val')
    names = [sample['img_path'].split('images/')[1] for sample in raw_samples(dataset)]
    assert names == [COCO_NAME, COCO_NAME, 'kitchen.png', 'kitchen.png']
    referit = build(
        'SeqTRGroundingDataset', tmp_path, ann_file='x.json', split='val', image_source='referit'
    )
    assert raw_samples(referit)[0]['img_path'].endswith('images/154.jpg')


BAD_RECORDS = {
    'no_dict': ([1], r'expected a record \(dict\)'),
    'no_expressions': (dict(bbox=[1, 2, 3, 4], image_id=1), 'expressions: expected a list'),
    'expression': (seqtr_record(expressions='left'), 'expressions: expected a list'),
    'source': (seqtr_record(data_source='web'), 'data_source: expected one of'),
    'source_type': (seqtr_record(data_source=3), 'data_source: expected a string'),
    'image_id': (seqtr_record(image_id=None), 'image_id: expected a number, found None'),
    'file_name': (seqtr_record(file_name=3), 'file_name: expected a string'),
    'width': (seqtr_record(width='80'), 'width: expected a positive integer'),
    'kinds': (seqtr_record(kinds=['a']), 'kinds: expected one for each of the 2 expressions'),
    'sent_ids': (seqtr_record(sent_ids=5), 'sent_ids: expected one for each'),
}
DAMAGED_RECORDS = {
    'no_box': (seqtr_record(bbox=None), 'degenerate box'),
    'mask': (seqtr_record(mask=[[1, 2, 3]]), 'invalid mask'),
    'outside': (seqtr_record(bbox=[70, 10, 20, 10]), 'degenerate box'),
}


@pytest.mark.parametrize('name', [*BAD_RECORDS, *DAMAGED_RECORDS])
def test_bad_seqtr_records(tmp_path, name, log):
    record, message = {**BAD_RECORDS, **DAMAGED_RECORDS}[name]
    write_seqtr(tmp_path / 'x.json', val=[seqtr_record(), record])
    args = dict(ann_file='x.json', split='val')
    with pytest.raises(ValueError, match=rf'x\.json: val\[1\].*{message}') as error:
        build('SeqTRGroundingDataset', tmp_path, **args)
    assert '\n' not in str(error.value)
    if name in DAMAGED_RECORDS:
        dataset = build('SeqTRGroundingDataset', tmp_path, skip_invalid=True, **args)
        assert len(dataset) == 2 and f'2 for {message}' in log[-1]


@pytest.mark.parametrize(
    'text, message',
    [
        ('{"a"', 'not a JSON file'),
        ('[1]', "not a file of SeqTR's"),
        ('{"val": 1}', "not a file of SeqTR's"),
        ('{"images": [], "annotations": []}', 'a COCO annotation file'),
    ],
)
def test_files_that_are_not_of_seqtr(tmp_path, text, message):
    (tmp_path / 'x.json').write_text(text)
    with pytest.raises(ValueError, match=rf'x\.json: {message}'):
        build('SeqTRGroundingDataset', tmp_path, ann_file='x.json', split='val')


# ---- Flickr30K Entities

CAPTIONS = """\
[/EN#1/people Two young guys] with [/EN#2/bodyparts shaggy hair] in [/EN#3/scene the yard] .
[/EN#1/people/other Two guys] look at [/EN#0/notvisual this] .
"""
BOXES = """<annotation><filename>36979.jpg</filename>
<size><width>80</width><height>60</height><depth>3</depth></size>
<object><name>1</name><bndbox>
 <xmin>11</xmin><ymin>6</ymin><xmax>30</xmax><ymax>35</ymax></bndbox></object>
<object><name>1</name><name>2</name><bndbox>
 <xmin>41</xmin><ymin>1</ymin><xmax>50</xmax><ymax>20</ymax></bndbox></object>
<object><name>3</name><scene>1</scene><nobndbox>1</nobndbox></object>
</annotation>"""


def write_entities(root, name='36979'):
    folder = root / 'flickr30k_entities'
    for part in ('Sentences', 'Annotations'):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / 'val.txt').write_text(f'{name}\n')
    (folder / 'Sentences' / f'{name}.txt').write_text(CAPTIONS)
    (folder / 'Annotations' / f'{name}.xml').write_text(BOXES)
    return folder


def test_flickr30k_entities(tmp_path, log):
    folder = write_entities(tmp_path)
    args = dict(ann_file='flickr30k_entities/val.txt')
    dataset = build('Flickr30kEntitiesDataset', tmp_path, **args)
    samples = raw_samples(dataset)
    shown = [(s['text'], s['kind'], s['ann_id'], s['instances'][0]['bbox']) for s in samples]
    # By hand: pixels 11 to 30 counted from 1 are the edges 10 to 30; object 1 has two boxes.
    assert shown == [
        ('Two young guys', 'people', 1, [10, 0, 50, 35]),
        ('Two guys', 'people', 1, [10, 0, 50, 35]),
        ('shaggy hair', 'bodyparts', 2, [40, 0, 50, 20]),
    ]
    assert {(s['height'], s['width'], s['img_id']) for s in samples} == {(60, 80, 36979)}
    assert list(dataset.image_keys.values()) == [(('flickr', 36979),)]
    assert '2 phrases have no box' in log[-1]

    (folder / 'Annotations' / '36979.xml').write_text('<annotation></annotation>')
    with pytest.raises(ValueError, match=r'36979\.xml: annotation: .* Flickr30K Entities'):
        build('Flickr30kEntitiesDataset', tmp_path, **args)
    (folder / 'Annotations' / '36979.xml').unlink()
    with pytest.raises(FileNotFoundError, match=r'36979\.xml'):
        build('Flickr30kEntitiesDataset', tmp_path, **args)


# ---- ReferItGame in the refer layout


def test_masks_of_several_rle_parts():
    # As refclef/instances.json has them: a list of RLEs.
    masks = np.zeros((2, 60, 80), dtype=np.uint8)
    masks[0, 5:10, 20:30] = 1
    masks[1, 40:50, 2:9] = 1
    parts = [mask_utils.encode(np.asfortranarray(mask)) for mask in masks]
    np.testing.assert_array_equal(mask_utils.decode(check_mask(parts, 60, 80)), masks.any(axis=0))
    np.testing.assert_array_equal(mask_utils.decode(check_mask(parts[:1], 60, 80)), masks[0])
    other = mask_utils.encode(np.asfortranarray(masks[0].T))
    with pytest.raises(Invalid, match='different sizes'):
        check_mask([parts[0], other], None, None)


# ---- Visual Genome


def vg_image(image_id, coco_id=None, flickr_id=None):
    return dict(
        image_id=image_id, width=80, height=60, coco_id=coco_id, flickr_id=flickr_id,
        url=f'https://cs.stanford.edu/people/rak248/VG_100K_2/{image_id}.jpg',
    )  # fmt: skip


def vg_region(region_id, image_id, phrase, box=(10, 5, 20, 30)):
    x, y, width, height = box
    return dict(region_id=region_id, image_id=image_id, phrase=phrase, x=x, y=y, width=width,
                height=height)  # fmt: skip


def write_vg(root, images, regions):
    folder = root / 'visual_genome'
    folder.mkdir(exist_ok=True)
    (folder / 'image_data.json').write_text(json.dumps(images))
    by_image = [
        dict(
            id=image['image_id'], regions=[r for r in regions if r['image_id'] == image['image_id']]
        )
        for image in images
    ]
    (folder / 'region_descriptions.json').write_text(json.dumps(by_image))
    return dict(
        ann_file='visual_genome/region_descriptions.json',
        vg_image_data='visual_genome/image_data.json',
    )


def test_visual_genome(tmp_path, log):
    regions = [
        vg_region(100, 1, 'the clock is green'),
        vg_region(101, 1, 'outside', (70, 5, 20, 10)),
        vg_region(102, 2, 'a kite'),
    ]
    args = write_vg(tmp_path, [vg_image(1, coco_id=154, flickr_id=99), vg_image(2)], regions)
    with pytest.raises(ValueError, match='entry 0: region_id 101: degenerate box'):
        build('VisualGenomeRegionDataset', tmp_path, **args)
    dataset = build('VisualGenomeRegionDataset', tmp_path, skip_invalid=True, **args)
    first, second = raw_samples(dataset)
    assert '1 for degenerate box' in log[-1]
    assert first['instances'] == [dict(bbox=[10, 5, 30, 35], bbox_label=0, ignore_flag=0)]
    assert (first['text'], first['height'], first['width']) == ('the clock is green', 60, 80)
    assert (first['img_id'], first['ann_id'], second['ann_id']) == (1, 100, 102)
    assert first['img_path'] == str(tmp_path / 'images' / 'VG_100K_2' / '1.jpg')
    assert list(dataset.image_keys.values()) == [
        (('vg', 1), ('coco', 154), ('flickr', 99)),
        (('vg', 2),),
    ]
    # All images in one folder, as SeqTR's users have them.
    (tmp_path / 'images').mkdir()
    for i in (1, 2):
        cv2.imwrite(str(tmp_path / 'images' / f'{i}.jpg'), np.zeros((60, 80, 3), np.uint8))
    flat = build(
        'VisualGenomeRegionDataset', tmp_path, skip_invalid=True, check_images=True, **args
    )
    assert flat.get_data_info(0)['img_path'] == str(tmp_path / 'images' / '1.jpg')


def test_visual_genome_files_of_another_form(tmp_path):
    args = write_vg(tmp_path, [vg_image(1)], [vg_region(100, 1, 'a')])
    folder = tmp_path / 'visual_genome'
    (folder / 'region_descriptions.json').write_text(json.dumps([dict(id=1, regions=[dict(a=1)])]))
    with pytest.raises(ValueError, match=r'entry 0: no field .image_id'):
        build('VisualGenomeRegionDataset', tmp_path, **args)
    for content, message in ((dict(image_id=1), 'coco_id'), (dict(coco_id=None), 'image_id')):
        (folder / 'image_data.json').write_text(json.dumps([content]))
        with pytest.raises(ValueError, match=rf"image_data\.json: entry 0: no field '{message}'"):
            build('VisualGenomeRegionDataset', tmp_path, **args)
    (folder / 'image_data.json').unlink()
    with pytest.raises(FileNotFoundError, match='vg_image_data of VisualGenomeRegionDataset'):
        build('VisualGenomeRegionDataset', tmp_path, **args)


# ---- which images are the same


@pytest.mark.parametrize(
    'path, source, keys',
    [
        ('a/COCO_train2014_000000000154.jpg', None, [('coco', 154)]),
        ('b/COCO_val2014_000000000154.jpg', 'coco', [('coco', 154)]),
        ('c/000000000154.jpg', None, [('coco', 154)]),
        ('d/154.jpg', 'coco', [('coco', 154)]),
        ('d/154.jpg', 'vg', [('vg', 154)]),
        ('VG_100K/154.jpg', 'vg', [('vg', 154)]),
        ('/x/154.jpg', None, [('file', '/x/154.jpg')]),
        ('/x/shop_7.png', 'shop', [('shop', 'shop_7')]),
    ],
)
def test_image_keys(path, source, keys):
    assert list(image_keys(path, source)) == keys


def test_image_that_visual_genome_does_not_list():
    with pytest.raises(ValueError, match=r'5\.jpg: no image 5 in image_data\.json'):
        image_keys('a/5.jpg', 'vg', {1: vg_image(1)})


# ---- the mix


def coco_ids(names):
    """Ids by the file names, without any of our code."""
    return {int(re.search(r'(\d{12})\.jpg$', name)[1]) for name in names}


def refer_cfg(root, name, by, split, **kwargs):
    return dict(
        type='ReferGroundingDataset',
        data_root=str(root),
        data_prefix=dict(img='images/train2014'),
        ann_file=f'{name}/instances.json',
        split_file=f'{name}/refs({by}).p',
        split=split,
        **kwargs,
    )


def test_mix_leaves_out_every_val_and_test_image_of_real_files(shared_data, tmp_path, log):
    root = shared_data / 'refcoco_sample'
    pth = {'unc': 'transvg/unc/unc_val.pth', 'gref': 'transvg/gref_umd/gref_umd_val.pth'}
    rows = {name: load_legacy_torch(root / path) for name, path in pth.items()}
    ids = {name: coco_ids(row[0] for row in entries) for name, entries in rows.items()}
    sets = (('refcoco', 'unc'), ('refcoco+', 'unc'), ('refcocog', 'umd'))
    refs = {name: load_pickle(root / name / f'refs({by}).p') for name, by in sets}
    splits = {
        (name, by): sorted({ref['split'] for ref in refs[name]} - {'train'}) for name, by in sets
    }
    held_out = {ref['image_id'] for name in refs for ref in refs[name] if ref['split'] != 'train'}
    held_out |= ids['unc']
    # The complete real val split of RefCOCOg stands for a train split here: images of RefCOCO's
    # complete val split are in it. So does a Visual Genome that holds some of both.
    shared = sorted(ids['unc'])[:40]
    images = [vg_image(10_000 + i, coco_id=coco_id) for i, coco_id in enumerate(shared)]
    images += [vg_image(20_000), vg_image(20_001, coco_id=581929)]
    assert 581929 not in held_out
    regions = [vg_region(i, image['image_id'], 'a thing') for i, image in enumerate(images)]
    vg = dict(
        type='VisualGenomeRegionDataset',
        data_root=str(tmp_path),
        check_images=False,
        **write_vg(tmp_path, images, regions),
    )

    def pth_cfg(name):
        return dict(
            type='TransVGGroundingDataset',
            data_root=str(root),
            ann_file=pth[name],
            check_images=False,
        )

    mix = DATASETS.build(
        dict(
            type='MixedGroundingDataset',
            datasets=[*(refer_cfg(root, *each, 'train') for each in sets), pth_cfg('gref'), vg],
            exclude=[
                *(refer_cfg(root, *each, split) for each in sets for split in splits[each]),
                pth_cfg('unc'),
            ],
        )
    )

    paths = {path for member in mix.datasets for path in member.image_keys}
    left = [mix.get_data_info(i)['img_path'] for i in range(len(mix))]
    assert set(left) < paths  # the members themselves have more
    coco_left = coco_ids(path for path in left if 'VG_100K' not in path)
    vg_left = {int(re.search(r'(\d+)\.jpg', path)[1]) for path in left if 'VG_100K' in path}
    assert coco_left and not coco_left & held_out
    assert vg_left == {20_000, 20_001}

    # Nothing else is gone, counted from the files themselves.
    overlap = ids['gref'] & held_out
    assert len(ids['unc'] & ids['gref']) == 62 and len(overlap) >= 62
    kept_gref = sum(not coco_ids([row[0]]) & held_out for row in rows['gref'])
    kept_refer = sum(
        len(ref['sentences'])
        for name in refs
        for ref in refs[name]
        if ref['split'] == 'train' and ref['image_id'] not in held_out
    )
    assert len(mix) == kept_gref + kept_refer + 2
    removed = len(rows['gref']) - kept_gref
    (message,) = [line for line in log if line.startswith('MixedGroundingDataset')]
    assert f'gref_umd_val.pth, coco: removed {len(overlap)} of 1,300 images' in message
    assert f'with {removed} of 4,896 sentences' in message
    assert 'vg: removed 40 of 42 images with 40 of 42 sentences' in message
    # RefCOCOg's only training image in the sample is one of RefCOCO's testA.
    assert 'refcocog/refs(umd).p train, coco: removed 1 of 1 images' in message
    assert len(mix.datasets) == 4


def mix_of(tmp_path, members, exclude, **kwargs):
    return DATASETS.build(
        dict(type='MixedGroundingDataset', datasets=members, exclude=exclude, **kwargs)
    )


def pth_member(tmp_path, name, rows, **kwargs):
    save_pth(tmp_path / f'{name}.pth', rows)
    return dict(
        type='TransVGGroundingDataset',
        data_root=str(tmp_path),
        ann_file=f'{name}.pth',
        check_images=False,
        **kwargs,
    )


def test_mix_across_collections(tmp_path):
    box = [1, 2, 30, 40]
    (tmp_path / 'image_data.json').write_text(
        json.dumps([vg_image(7, coco_id=154), vg_image(8, flickr_id=36979), vg_image(9)])
    )
    train = [
        ('COCO_val2014_000000000154.jpg', 'coco', box, 'same id, other folder', []),
        ('COCO_train2014_000000000155.jpg', 'coco', box, 'kept coco', []),
        *((f'{i}.jpg', 'vg', box, f'vg {i}', []) for i in (7, 8, 9)),
        ('36979.jpg', 'flickr', box, 'flickr', []),
        ('154.jpg', 'flickr', box, 'kept flickr', []),
    ]
    val = [(COCO_NAME, '3.pth', box, 'a', []), ('9.jpg', '3.pth', box, 'another collection', [])]
    members = [pth_member(tmp_path, 'train', train, vg_image_data='image_data.json')]
    exclude = [
        pth_member(tmp_path, 'val', val),
        pth_member(tmp_path, 'flickr_val', [('36979.jpg', box, 'a')]),
    ]
    mix = mix_of(tmp_path, members, exclude)
    # ReferItGame's, Flickr30K's and Visual Genome's names look alike: 9.jpg and 154.jpg stay.
    assert texts_of(mix) == ['kept coco', 'vg 9', 'kept flickr']
    members = [pth_member(tmp_path, 'train', train)]
    with pytest.raises(ValueError, match=r'train\.pth: it has images of Visual Genome.*vg_im'):
        mix_of(tmp_path, members, exclude)
    assert len(mix_of(tmp_path, members, [])) == len(train)


def texts_of(mix):
    return [mix.get_data_info(i)['text'] for i in range(len(mix))]


def test_mix_excludes_images_of_samples_that_cannot_be_used(tmp_path):
    box = [1, 2, 30, 40]
    train = [(COCO_NAME, '3.pth', box, 'a', []), GOOD_ROW[:3] + ('b', [])]
    train[1] = ('COCO_train2014_000000000155.jpg', *train[1][1:])
    val = [(COCO_NAME, '3.pth', [0, 0, 0, 0], 'no box', []),
           ('COCO_train2014_000000000156.jpg', '3.pth', box, 'fine', [])]  # fmt: skip
    mix = mix_of(
        tmp_path,
        [pth_member(tmp_path, 'train', train)],
        [pth_member(tmp_path, 'val', val, skip_invalid=True)],
    )
    assert texts_of(mix) == ['b']


def test_mix_loads_samples_with_and_without_masks(tmp_path):
    (tmp_path / 'images').mkdir()
    for name in ('a.jpg', 'b.jpg'):
        cv2.imwrite(str(tmp_path / 'images' / name), np.zeros((60, 80, 3), np.uint8))
    lines = [
        dict(image='a.jpg', sentence='box', bbox=[1, 2, 30, 40]),
        dict(image='b.jpg', sentence='mask', mask=[SQUARE]),
    ]
    for name, rows in (('train', lines), ('val', lines[:1])):
        (tmp_path / f'{name}.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    member = dict(
        type='JSONLinesGroundingDataset',
        data_root=str(tmp_path),
        ann_file='train.jsonl',
        data_prefix=dict(img='images'),
    )
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadGroundingAnnotations'),
        dict(type='mmdet.PackDetInputs', meta_keys=('text', 'with_mask')),
    ]
    mix = mix_of(tmp_path, [member], [], pipeline=pipeline)
    assert [(mix[i]['data_samples'].text, mix[i]['data_samples'].with_mask) for i in (0, 1)] == [
        ('box', False), ('mask', True)
    ]  # fmt: skip
    assert mix.metainfo['task_name'] == 'visual_grounding'
    # Images of no known collection are themselves.
    less = mix_of(tmp_path, [member], [{**member, 'ann_file': 'val.jsonl'}], pipeline=pipeline)
    assert texts_of(less) == ['mask']
    lazy = mix_of(tmp_path, [member], [], lazy_init=True)
    assert not lazy.datasets[0]._fully_initialized and len(lazy) == 2
    with pytest.raises(ValueError, match='nothing is left'):
        mix_of(tmp_path, [member], [member])
    with pytest.raises(ValueError, match='datasets is empty'):
        mix_of(tmp_path, [], [])
    with pytest.raises(ValueError, match='CocoDataset is no grounding data set'):
        mix_of(tmp_path, [dict(type='mmdet.CocoDataset', ann_file='x')], [])


# ---- configs


def write_data_root(root):
    """A little of every data set, in the tree that the data bases of configs/ expect."""
    box = [1, 2, 30, 40]
    names = [f'train2014/COCO_train2014_{i:012d}.jpg' for i in range(6)]
    names += ['saiapr/5_1.jpg', 'saiapr/6_1.jpg', 'flickr30k/36979.jpg', 'flickr30k/7.jpg']
    names += [f'visual-genome/VG_100K/{i}.jpg' for i in (1, 2)]
    for name in names:
        path = root / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((60, 80, 3), np.uint8))
    splits = {
        'refcoco': ('unc', ('train', 'val', 'testA', 'testB')),
        'refcoco+': ('unc', ('train', 'val', 'testA', 'testB')),
        'refcocog': ('umd', ('val', 'train', 'test')),  # its image 1 is in RefCOCO's val
    }
    for name, (by, order) in splits.items():
        coco = dict(images=[], annotations=[], categories=[dict(id=1, name='cat')])
        refs = []
        for i, split in enumerate([*order, 'train']):
            file_name = f'COCO_train2014_{i:012d}.jpg'
            coco['images'].append(dict(id=i, file_name=file_name, width=80, height=60))
            coco['annotations'].append(
                dict(id=i, image_id=i, category_id=1, bbox=[10, 10, 20, 10], segmentation=[SQUARE])
            )
            sentences = [dict(sent_id=i, sent=f'{name} {i}', raw=f'{name} {i}')]
            refs.append(dict(ref_id=i, ann_id=i, image_id=i, split=split, sentences=sentences))
        (root / name).mkdir()
        (root / name / 'instances.json').write_text(json.dumps(coco))
        (root / name / f'refs({by}).p').write_bytes(pickle.dumps(refs, protocol=2))
    for folder in ('unc', 'referit', 'refcoco-unc'):
        (root / folder).mkdir()
    for i, split in enumerate(('train', 'val', 'testA', 'testB')):
        row = (f'COCO_train2014_{i:012d}.jpg', '1.pth', box, f'pth {i}', [])
        save_pth(root / 'unc' / f'unc_{split}.pth', [row])
    for name, split in ((5, 'train'), (6, 'val'), (6, 'test')):
        row = (f'{name}_1.jpg', f'{name}_1.pth', box, f'referit {name}', [])
        save_pth(root / 'referit' / f'referit_{split}.pth', [row])
    write_seqtr(
        root / 'refcoco-unc' / 'instances.json',
        train=[seqtr_record(image_id=0)],
        **{
            split: [seqtr_record(image_id=i)]
            for i, split in enumerate(('val', 'testA', 'testB'), start=1)
        },
    )
    write_entities(root)
    folder = write_entities(root, '7')
    (folder / 'train.txt').write_text('36979')
    (folder / 'test.txt').write_text('7')
    images = [vg_image(1, coco_id=1), vg_image(2, coco_id=0)]
    for image in images:
        image['url'] = image['url'].replace('VG_100K_2', 'VG_100K')
    write_vg(root, images, [vg_region(10, 1, 'vg 1'), vg_region(11, 2, 'vg 2')])


BASES = {
    'refcoco_448': ['refcoco 0', 'refcoco 4'],
    'refcoco_256_plain': ['refcoco 0', 'refcoco 4'],
    'refcoco_pth_448': ['pth 0'],
    'refcoco_seqtr_448': ['left one', 'the first'],
    'referit_448': ['referit 5'],
    'flickr30k_448': ['Two young guys', 'Two guys', 'shaggy hair'],
    # Images 1, 2 and 3 are RefCOCO's val, testA and testB, images 0 and 2 RefCOCOg's val, test.
    'mixed_coco_448': ['refcoco 4', 'refcoco+ 4'],
    'mixed_pretrain_448': [
        'refcoco 4', 'refcoco+ 4', 'Two young guys', 'Two guys', 'shaggy hair'
    ],
}  # fmt: skip


REFCOCO = ['refcoco_val', 'refcoco_testA', 'refcoco_testB']
EIGHT = [
    *REFCOCO, 'refcoco+_val', 'refcoco+_testA', 'refcoco+_testB', 'refcocog-umd_val',
    'refcocog-umd_test',
]  # fmt: skip
SUBSETS = {
    'refcoco_448': REFCOCO,
    'refcoco_pth_448': REFCOCO,
    'refcoco_seqtr_448': REFCOCO,
    'mixed_coco_448': EIGHT,
    'mixed_pretrain_448': EIGHT,
}


def test_data_bases_build_on_their_tree(tmp_path, monkeypatch, repo_root):
    write_data_root(tmp_path)
    monkeypatch.setenv('DATA_ROOT', str(tmp_path))
    for name, texts in BASES.items():
        cfg = Config.fromfile(repo_root / 'configs' / '_base_' / 'datasets' / f'{name}.py')
        train = DATASETS.build(cfg.train_dataloader.dataset)
        assert texts_of(train) == texts, name
        side = 256 if '256' in name else 448
        val, test = (DATASETS.build(cfg[f'{n}_dataloader'].dataset) for n in ('val', 'test'))
        for dataset in (train, val, test):
            assert dataset[0]['inputs'].shape == (3, side, side), name
        samples = [test[i]['data_samples'] for i in range(len(test))]
        names = [sample.subset for sample in samples if sample.subset is not None]
        assert list(dict.fromkeys(names)) == SUBSETS.get(name, []), name
