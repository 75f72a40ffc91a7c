"""Image-text data sets: every layout against what the test itself wrote, and real COCO files."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import TRANSFORMS

import projects.rvse.datasets  # noqa: F401
from projects.rvse.datasets import (
    CaptionFileMatchingDataset,
    COCOCaptionsMatchingDataset,
    KarpathyMatchingDataset,
    LoadRegions,
    PrecompMatchingDataset,
    RegionStore,
    write_regions,
)

CAPTIONS = [f'image {i} caption {j}' for i in range(4) for j in range(5)]


def write_precomp(folder: Path, split: str = 'test', repeat: int = 1, ids: str = 'image'):
    features = np.random.default_rng(0).normal(size=(4, 3, 6)).astype('f4')
    np.save(folder / f'{split}_ims.npy', features.repeat(repeat, axis=0))
    (folder / f'{split}_caps.txt').write_text('\n'.join(CAPTIONS) + '\n')
    names = ['n0', 'n1', 'n2', 'n3']
    if ids == 'caption':
        names = [name for name in names for _ in range(5)]
    if ids:
        (folder / f'{split}_ids.txt').write_text('\n'.join(names))
    return features


@pytest.mark.parametrize('repeat, ids', [(1, 'image'), (5, 'caption'), (1, '')])
def test_precomp(tmp_path, repeat, ids):
    features = write_precomp(tmp_path, repeat=repeat, ids=ids)
    pipeline = [
        dict(type='LoadRegions'),
        dict(
            type='mmpretrain.PackInputs',
            input_key='regions',
            algorithm_keys=['text', 'image_id', 'gt_text_id', 'gt_image_id'],
        ),
    ]
    import mmpretrain.datasets  # noqa: F401  registers PackInputs

    train = PrecompMatchingDataset('test', str(tmp_path), pipeline=pipeline)
    assert (len(train), train.img_size, train.text_size) == (20, 4, 20)
    for i in (0, 7, 19):
        item = train[i]
        assert np.array_equal(item['inputs'].numpy(), features[i // 5])
        assert item['data_samples'].text == CAPTIONS[i]
        assert item['data_samples'].image_id == i // 5
        assert train.get_data_info(i)['ori_id'] == (f'n{i // 5}' if ids else str(i // 5))
    test = PrecompMatchingDataset('test', str(tmp_path), pipeline=pipeline, test_mode=True)
    assert len(test) == 4
    item = test[2]
    assert np.array_equal(item['inputs'].numpy(), features[2])
    assert item['data_samples'].text == CAPTIONS[10:15]
    assert item['data_samples'].gt_text_id == list(range(10, 15))
    assert item['data_samples'].gt_image_id == [2] * 5
    assert test.image_of_caption.tolist() == [i // 5 for i in range(20)]
    assert train.captions() == test.captions() == CAPTIONS
    first = PrecompMatchingDataset('test', str(tmp_path), max_images=2)
    assert (len(first), first.img_size) == (10, 2)


def test_features_stay_on_disk(tmp_path):
    write_precomp(tmp_path)
    dataset = PrecompMatchingDataset('test', str(tmp_path), pipeline=[dict(type='LoadRegions')])
    load = dataset.pipeline.transforms[0]
    assert isinstance(load, LoadRegions)
    dataset[0]
    store = load._stores[dataset.region_file]
    assert isinstance(store.features, np.memmap) and store.features.mode == 'r'
    assert len(pickle.dumps(load)) < 200  # nothing of the file travels to the workers
    assert pickle.loads(pickle.dumps(dataset))[3]['regions'].shape == (3, 6)


def test_ragged_regions_round_trip(tmp_path):
    rng = np.random.default_rng(1)
    pictures = [rng.normal(size=(n, 5)).astype('f4') for n in (3, 1, 4)]
    path = str(tmp_path / 'x_ims.npy')
    assert write_regions(path, iter(pictures)) == 3
    store = RegionStore(path)
    assert len(store) == 3
    assert all(np.array_equal(store[i], pictures[i]) for i in range(3))
    assert np.load(tmp_path / 'x_offsets.npy').tolist() == [0, 3, 4, 8]
    write_regions(path, [p[:1] for p in pictures])  # equal numbers: no offsets are left
    assert np.load(path).shape == (3, 1, 5)
    assert not (tmp_path / 'x_offsets.npy').exists()
    assert np.array_equal(RegionStore(path)[2], pictures[2][:1])
    assert sorted(p.name for p in tmp_path.iterdir()) == ['x_ims.npy']
    with pytest.raises(ValueError, match='image 1 has 4 channels, those before 5'):
        write_regions(path, [pictures[0], pictures[1][:, :4]])
    assert not (tmp_path / 'x_ims.npy.part').exists()


def test_global_features_are_one_region(tmp_path):
    np.save(tmp_path / 'a_ims.npy', np.eye(3))
    assert RegionStore(str(tmp_path / 'a_ims.npy'))[1].tolist() == [[0, 1, 0]]


def test_precomp_that_does_not_fit(tmp_path):
    with pytest.raises(FileNotFoundError, match='dev_caps.txt'):
        PrecompMatchingDataset('dev', str(tmp_path))
    write_precomp(tmp_path)
    (tmp_path / 'test_caps.txt').write_text('\n'.join(CAPTIONS[:19]))
    with pytest.raises(ValueError, match='features of 4 images, but test_caps.txt has 19'):
        PrecompMatchingDataset('test', str(tmp_path))
    (tmp_path / 'test_caps.txt').write_text('\n'.join([*CAPTIONS[:6], ' ', *CAPTIONS[7:]]))
    with pytest.raises(ValueError, match=r'test_caps.txt:7: caption .* not empty'):
        PrecompMatchingDataset('test', str(tmp_path))
    write_precomp(tmp_path)
    (tmp_path / 'test_ids.txt').write_text('1\n2\n3\n')
    with pytest.raises(ValueError, match='test_ids.txt: 3 ids'):
        PrecompMatchingDataset('test', str(tmp_path))
    # As many features as captions, but of different images.
    np.save(tmp_path / 'test_ims.npy', np.random.default_rng(0).normal(size=(20, 3, 6)))
    with pytest.raises(ValueError, match='expected 5 for each image'):
        PrecompMatchingDataset('test', str(tmp_path))
    np.save(tmp_path / 'test_ims.npy', np.array([{}, {}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match='test_ims.npy: no .npy of numbers'):
        PrecompMatchingDataset('test', str(tmp_path))


def test_line_separators_within_captions(tmp_path):
    write_precomp(tmp_path)
    captions = ['a\u2028b', 'c\x85d', *CAPTIONS[2:]]
    (tmp_path / 'test_caps.txt').write_bytes('\r\n'.join(captions).encode())
    assert PrecompMatchingDataset('test', str(tmp_path)).captions() == captions


def karpathy(folder: Path) -> Path:
    images = []
    for i, split in enumerate(['train', 'val', 'restval', 'test', 'train']):
        sentences = [
            dict(raw=f'{split} {i} {j}', tokens=[], sentid=9 * i + j) for j in range(5 + i)
        ]
        name = f'{i}.jpg'
        images.append(
            dict(filepath='val2014', filename=name, imgid=i, cocoid=100 + i, split=split,
                 sentences=sentences)
        )  # fmt: skip
        (folder / 'val2014').mkdir(exist_ok=True)
        (folder / 'val2014' / name).touch()
    (folder / 'dataset_coco.json').write_text(json.dumps(dict(images=images, dataset='coco')))
    return folder / 'dataset_coco.json'


def test_karpathy(tmp_path):
    path = karpathy(tmp_path)
    train = KarpathyMatchingDataset('dataset_coco.json', 'train', data_root=str(tmp_path))
    assert (train.img_size, train.text_size) == (3, 5 + 7 + 9)  # restval belongs to train
    info = train.get_data_info(5)
    assert (info['text'], info['ori_id']) == ('restval 2 0', '102')
    assert info['img_path'] == str(tmp_path / 'val2014' / '2.jpg')
    test = KarpathyMatchingDataset(
        'dataset_coco.json', 'test', max_captions=5, data_root=str(tmp_path), test_mode=True
    )
    assert (len(test), test.text_size) == (1, 5)
    (tmp_path / 'val2014' / '3.jpg').unlink()
    with pytest.raises(FileNotFoundError, match='1 of 1 images do not exist'):
        KarpathyMatchingDataset(str(path), 'test', data_prefix=dict(img=str(tmp_path)))
    with pytest.raises(ValueError, match="split='dev'"):
        KarpathyMatchingDataset(str(path), 'dev')
    path.write_text('{"images": [{"split": "train"}]}')
    with pytest.raises(ValueError, match=r"images\[0\]: no field 'filename'"):
        KarpathyMatchingDataset(str(path), 'train')


def test_real_coco_captions(shared_data):
    root = shared_data / 'coco_sample'
    dataset = COCOCaptionsMatchingDataset(
        'annotations/captions_train2017.json',
        str(root),
        dict(img='train2017'),
        test_mode=True,
        pipeline=[dict(type='LoadImageFromFile')],
    )
    content = json.loads((root / 'annotations' / 'captions_train2017.json').read_text())
    assert len(dataset) == 80 == len(content['images'])  # shared/data/README.md
    assert dataset.text_size == len(content['annotations'])
    expected: dict[int, list[str]] = {}
    for annotation in content['annotations']:
        expected.setdefault(annotation['image_id'], []).append(annotation['caption'].strip())
    for i, image in enumerate(content['images']):
        info = dataset.get_data_info(i)
        assert info['text'] == expected[image['id']]
        assert info['ori_id'] == str(image['id'])
    image = content['images'][3]
    assert 'LoadImageFromFile' in TRANSFORMS
    assert dataset[3]['img'].shape == (image['height'], image['width'], 3)


def test_coco_captions_that_do_not_fit(tmp_path):
    path = tmp_path / 'c.json'
    content = dict(
        images=[dict(id=1, file_name='a.jpg'), dict(id=2, file_name='b.jpg')],
        annotations=[dict(image_id=1, caption='x')],
    )
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match='1 images without captions, the first is 2'):
        COCOCaptionsMatchingDataset(str(path))
    content['annotations'] = [dict(image_id=i, caption='x') for i in (1, 2, 3)]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match='captions of the image 3'):
        COCOCaptionsMatchingDataset(str(path))
    path.write_text('[]')
    with pytest.raises(ValueError, match="lists 'images' and 'annotations'"):
        COCOCaptionsMatchingDataset(str(path))


def test_own_pictures(tmp_path):
    for name in ('a.jpg', 'b c.png'):
        (tmp_path / name).touch()
    (tmp_path / 'captions.txt').write_text('a.jpg#0\tA dog.\nb c.png\tTwo cats.\n\na.jpg#1\tDog!\n')
    lines = [
        dict(image='a.jpg', caption=['A dog.', 'Dog!']),
        dict(image='b c.png', caption='Two cats.'),
    ]
    (tmp_path / 'captions.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    for name in ('captions.txt', 'captions.jsonl'):
        dataset = CaptionFileMatchingDataset(name, str(tmp_path), test_mode=True)
        found = [(d['ori_id'], d['text']) for d in map(dataset.get_data_info, range(len(dataset)))]
        assert found == [('a.jpg', ['A dog.', 'Dog!']), ('b c.png', ['Two cats.'])]
        assert dataset.image_of_caption.tolist() == [0, 0, 1]
    (tmp_path / 'captions.txt').write_text('a.jpg\tA dog.\nb.png Two cats.')
    with pytest.raises(ValueError, match=r'captions.txt:2: .*expected image<TAB>caption'):
        CaptionFileMatchingDataset('captions.txt', str(tmp_path))
    (tmp_path / 'captions.txt').write_text('')
    with pytest.raises(ValueError, match='no image with a caption'):
        CaptionFileMatchingDataset('captions.txt', str(tmp_path))


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('vse-fc_hn_1xb128-20e_f30k', 1000),
        ('vse-fc_hn_1xb128-20e_coco', 1000),
        ('rvsepp-r50_selhn_1xb128-30e_f30k-pictures', 1000),
        ('rvsepp-r50_selhn_1xb128-30e_coco-pictures', 1000),
        ('rvsepp-r50_selhn_1xb128-30e_own-pictures', None),
    ],
)
def test_validation_is_cut_as_documented(repo_root, name, expected):
    """The first 1,000 images of val decide the best checkpoint, of COCO, too; tests are whole."""
    cfg = Config.fromfile(repo_root / f'configs/rvse/{name}.py')
    assert cfg.val_dataloader.dataset.get('max_images') == expected
    assert 'max_images' not in cfg.test_dataloader.dataset
    assert 'max_images' not in cfg.train_dataloader.dataset
