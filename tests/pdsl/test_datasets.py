"""Image-level tags from all layouts, and proposals in the pipeline."""

import copy
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree

import cv2
import numpy as np
import pytest
from mmcv.transforms import Compose
from mmdet.datasets.transforms import PackDetInputs, RandomCrop, RandomFlip, Resize
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.registry import DATASETS, TRANSFORMS
from scipy.io import savemat

from projects.common.scenes import write_dataset
from projects.pdsl.datasets import COCOTagDataset, SBDTagDataset, TagFileDataset, VOCTagDataset
from projects.pdsl.proposals import write_store


@pytest.fixture
def pictures(tmp_path):
    for name in 'abc':
        cv2.imwrite(str(tmp_path / f'{name}.jpg'), np.zeros((8, 10, 3), np.uint8))
    return tmp_path


def tags_of(dataset):
    classes = dataset.metainfo['classes']
    return {
        dataset[i]['img_path'].split('/')[-1]: [classes[tag] for tag in dataset[i]['tags']]
        for i in range(len(dataset))
    }


EXPECTED = {'a.jpg': ['cat', 'dog'], 'b.jpg': ['dog'], 'c.jpg': []}


@pytest.mark.parametrize(
    'name, text',
    [
        ('t.txt', 'a.jpg cat dog cat\nb.jpg dog\n\nc.jpg\n'),
        ('t.tsv', 'a.jpg\tcat\tdog\nb.jpg\tdog\nc.jpg\t\n'),
        ('t.csv', '\ufefffile_name,tags\na.jpg,dog,cat\nb.jpg,dog,\nc.jpg,,\n'),
        ('t.json', '{"a.jpg": ["dog", "cat"], "b.jpg": ["dog"], "c.jpg": []}'),
        (
            't.json',
            '[{"file_name": "a.jpg", "tags": ["cat", "dog"]}, {"file_name": "b.jpg", "tags": '
            '["dog"]}, {"file_name": "c.jpg", "tags": []}]',
        ),
    ],
)
def test_tag_files(pictures, name, text):
    (pictures / name).write_text(text, encoding='utf-8')
    config = dict(type='TagFileDataset', ann_file=name, data_root=str(pictures), pipeline=[])
    dataset = DATASETS.build(config)
    assert dataset.metainfo['classes'] == ('cat', 'dog')
    assert tags_of(dataset) == EXPECTED
    assert dataset[0]['img_id'] == 'a' and dataset.get_cat_ids(0) == [0, 1]
    kept = DATASETS.build(dict(config, filter_cfg=dict(filter_empty=True)))
    assert set(tags_of(kept)) == {'a.jpg', 'b.jpg'}
    reversed_ = DATASETS.build(dict(config, metainfo=dict(classes=('dog', 'cat'))))
    assert reversed_[1]['tags'] == [0]


@pytest.mark.parametrize(
    'name, text, error, words',
    [
        ('t.txt', 'a.jpg cat dog\na.jpg dog\n', ValueError, "'a.jpg' comes twice"),
        ('t.txt', 'x.jpg cat\n', FileNotFoundError, "x.jpg' does not exist"),
        ('t.txt', '\n', ValueError, 'names no images'),
        ('t.txt', 'a.jpg cow\n', ValueError, "tag 'cow' is none of the 2 classes"),
        ('t.json', '{"a.jpg": 3}', ValueError, '3, expected a file name and a list'),
        ('t.json', '{"a.jpg": [1]}', ValueError, r'\[1\], expected strings'),
        ('t.json', '3', ValueError, 'holds a int'),
    ],
)
def test_bad_tag_files(pictures, name, text, error, words):
    (pictures / name).write_text(text)
    with pytest.raises(error, match=words):
        TagFileDataset(name, str(pictures), pipeline=[], metainfo=dict(classes=('cat', 'dog')))
    with pytest.raises(FileNotFoundError, match='ann_file of TagFileDataset'):
        TagFileDataset('none.txt', str(pictures))


def test_ignored_tags(pictures):
    (pictures / 't.txt').write_text('a.jpg cow cat\n')
    dataset = TagFileDataset(
        't.txt', str(pictures), metainfo=dict(classes=('cat',)), ignore_unknown=True, pipeline=[]
    )
    assert dataset[0]['tags'] == [0]


def coco(ids):
    return dict(
        images=[dict(id=i, file_name=f'{n}.jpg') for i, n in zip(ids, 'abc')],
        annotations=[
            dict(id=1, image_id=ids[0], category_id=9, bbox=[0, 0, 3, 3], iscrowd=0),
            dict(id=2, image_id=ids[0], category_id=4, bbox=[0, 0, 3, 3], iscrowd=0),
            dict(id=3, image_id=ids[1], category_id=9, bbox=[0, 0, 3, 3], iscrowd=0),
            dict(id=4, image_id=ids[1], category_id=4, bbox=[0, 0, 3, 3], iscrowd=1),
        ],
        categories=[dict(id=9, name='dog'), dict(id=4, name='cat')],
    )


@pytest.mark.parametrize('ids', [(7, 8, 9), ('2007_1', '2007_2', '2007_3')])
def test_coco(pictures, ids):
    (pictures / 'c.json').write_text(json.dumps(coco(ids)))
    dataset = COCOTagDataset('c.json', str(pictures), pipeline=[])
    assert dataset.metainfo['classes'] == ('cat', 'dog')  # by category id
    assert tags_of(dataset) == dict(EXPECTED, **{'b.jpg': ['cat', 'dog']})
    assert dataset[2]['img_id'] == ids[2]
    without = COCOTagDataset('c.json', str(pictures), pipeline=[], use_crowd=False)
    assert tags_of(without) == EXPECTED
    broken = coco(ids)
    broken['annotations'][2]['category_id'] = 5
    (pictures / 'c.json').write_text(json.dumps(broken))
    with pytest.raises(ValueError, match='annotation 3 has category_id 5'):
        COCOTagDataset('c.json', str(pictures))


def test_sbd(pictures):
    (pictures / 'cls').mkdir()
    for name, numbers in (('a', [[8], [12]]), ('b', [[12]])):
        savemat(pictures / 'cls' / f'{name}.mat', dict(GTcls=dict(CategoriesPresent=numbers)))
    savemat(pictures / 'cls' / 'c.mat', dict(GTinst=dict(Categories=[[8], [8]])))
    (pictures / 'train.txt').write_text('a\nb\nc\n')
    dataset = SBDTagDataset('train.txt', str(pictures), data_prefix=dict(img=''), pipeline=[])
    assert tags_of(dataset) == {'a.jpg': ['cat', 'dog'], 'b.jpg': ['dog'], 'c.jpg': ['cat']}


def test_voc_sample(shared_data):
    """Tags of the real files against the names that a regular expression finds in them."""
    root = shared_data / 'voc_sample' / 'VOCdevkit' / 'VOC2012'
    dataset = VOCTagDataset('ImageSets/Main/train.txt', str(root), pipeline=[])
    assert len(dataset) == 36 and len(dataset.metainfo['classes']) == 20
    for name, tags in tags_of(dataset).items():
        text = (root / 'Annotations' / name.replace('.jpg', '.xml')).read_text()
        assert sorted(set(re.findall(r'<object><name>(\w+)</name>', text))) == tags
    easy = VOCTagDataset('ImageSets/Main/train.txt', str(root), pipeline=[], use_difficult=False)
    assert sum(map(len, tags_of(easy).values())) < sum(map(len, tags_of(dataset).values()))


def test_boxes_and_masks_change_nothing(pictures, shared_data, tmp_path):
    """Samples stay equal to the last field when all boxes and masks are others."""
    content = coco((1, 2, 3))
    (pictures / 'c.json').write_text(json.dumps(content))
    before = COCOTagDataset('c.json', str(pictures), pipeline=[], serialize_data=False).data_list
    for annotation in content['annotations']:
        annotation.update(bbox='garbage', segmentation=None, area=-1)
    (pictures / 'c.json').write_text(json.dumps(content))
    after = COCOTagDataset('c.json', str(pictures), pipeline=[], serialize_data=False).data_list
    assert before == after

    root = shared_data / 'voc_sample' / 'VOCdevkit' / 'VOC2012'
    copied = tmp_path / 'VOC2012'
    shutil.copytree(root, copied, ignore=shutil.ignore_patterns('Segmentation*', 'val*'))
    args = dict(pipeline=[], serialize_data=False)
    set_ = str(root / 'ImageSets' / 'Main' / 'train.txt')
    before = VOCTagDataset(set_, str(copied), **args).data_list
    for path in (copied / 'Annotations').iterdir():
        tree = ElementTree.parse(path)
        for entry in tree.getroot().iter('object'):
            entry.remove(entry.find('bndbox'))
        tree.write(path)
    assert VOCTagDataset(set_, str(copied), **args).data_list == before


def test_scenes(tmp_path):
    write_dataset(tmp_path / 's', 3, 0, 0, 64, progress=False)
    args = dict(data_root=str(tmp_path / 's'), data_prefix=dict(img='images'), pipeline=[])
    tags = TagFileDataset('annotations/tags_train.json', **args)
    boxes = COCOTagDataset('annotations/instances_train.json', **args)
    assert len(tags) == 3
    # Classes are in alphabetical order here and in that of the categories there.
    found, expected = tags_of(tags), tags_of(boxes)
    assert {k: set(v) for k, v in found.items()} == {k: set(v) for k, v in expected.items()}


# ----------------------------------------------------------------------------------- pipeline


@pytest.fixture
def store(tmp_path):
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, 60, (60, 2))
    boxes = np.hstack([corner, corner + rng.uniform(4, 40, (60, 2))]).clip(0, [100, 80, 100, 80])
    scores = np.linspace(1, 0, 60)
    write_store(tmp_path / 'p', [('154', boxes, scores), ('sub/b', boxes[:3], scores[:3])])
    return str(tmp_path / 'p'), boxes.astype(np.float32), scores.astype(np.float32)


def test_loading(store):
    folder, boxes, scores = store
    load = TRANSFORMS.build(dict(type='LoadStoredProposals', folder=folder, max_proposals=10))
    found = load(dict(img_path='x/154.jpg', img_id=7))
    assert np.array_equal(found['ori_proposals'], boxes[:10])
    assert np.array_equal(found['ori_proposals_scores'], scores[:10])
    assert len(load(dict(img_path='data/sub/b.png'))['ori_proposals']) == 3
    with pytest.raises(
        ValueError, match=r'no proposals of other/b\.png \(id None; .* \[\'154\'\]\)'
    ):
        load(dict(img_path='other/b.png'))
    empty = TRANSFORMS.build(dict(type='LoadStoredProposals', folder=folder, missing='empty'))
    found = empty(dict(img_path='other/b.png', img_shape=(80, 100)))
    projected = TRANSFORMS.build(dict(type='ProjectProposals'))(found)
    assert projected['proposals'].shape == (0, 4) and projected['proposals_scores'].shape == (0,)
    with pytest.raises(ValueError, match="found 'skip'"):
        TRANSFORMS.build(dict(type='LoadStoredProposals', folder=folder, missing='skip'))


@pytest.mark.parametrize('seed', range(6))
def test_boxes_follow_the_picture_with_their_scores(store, seed):
    """Against mmdet's own transforms of ground truth, to which the boxes are given as well."""
    folder, boxes, scores = store
    results = dict(
        img=np.zeros((80, 100, 3), np.uint8),
        img_path='154.jpg',
        img_shape=(80, 100),
        ori_shape=(80, 100),
        gt_bboxes=HorizontalBoxes(boxes.copy()),
        gt_bboxes_labels=np.arange(60),
        gt_ignore_flags=np.zeros(60, bool),
    )
    np.random.seed(seed)
    pipeline = Compose(
        [
            TRANSFORMS.build(dict(type='LoadStoredProposals', folder=folder)),
            Resize(scale_factor=[0.7, 1.0, 1.9][seed % 3]),
            RandomCrop(crop_size=(0.6, 0.6), crop_type='relative_range'),
            RandomFlip(prob=float(seed % 2)),
            Resize(scale=(150, 130), keep_ratio=False),
            TRANSFORMS.build(dict(type='ProjectProposals', min_side=0.01, deduplicate=False)),
        ]
    )
    found = pipeline(results)
    rows = found['gt_bboxes_labels']  # those that the crop left
    expected = found['gt_bboxes'].tensor.numpy()
    wide = ((expected[:, 2:] - expected[:, :2]) >= 0.01).all(axis=1)
    kept = np.searchsorted(-scores, -found['proposals_scores'])
    assert set(rows[wide]) == set(kept) and len(kept) > 0
    order = {row: i for i, row in enumerate(rows)}
    assert np.allclose(found['proposals'], expected[[order[row] for row in kept]], atol=0.02)

    sample = PackDetInputs(meta_keys=('img_path', 'homography_matrix', 'ori_proposals'))(
        copy.deepcopy(found)
    )['data_samples']
    assert np.array_equal(sample.proposals.bboxes, found['proposals'])
    assert np.array_equal(sample.proposals.scores, found['proposals_scores'])
    assert np.array_equal(sample.ori_proposals, boxes)


def test_repetitions_and_slivers_leave_with_their_scores():
    boxes = np.float32([[0, 0, 20, 20], [40, 0, 60, 20], [0.2, 0, 20.4, 20], [50, 0, 70, 20]])
    results = dict(
        ori_proposals=boxes,
        ori_proposals_scores=np.float32([0.9, 0.8, 0.7, 0.6]),
        homography_matrix=np.diag([0.5, 0.5, 1]),
        img_shape=(40, 26),
    )
    project = TRANSFORMS.build(dict(type='ProjectProposals', min_side=2))
    found = project(results)
    assert found['proposals'].tolist() == [[0, 0, 10, 10], [20, 0, 26, 10]]
    assert found['proposals_scores'].tolist() == np.float32([0.9, 0.8]).tolist()


@pytest.mark.parametrize(
    ('exposure', 'saturation'), [(1.4, 1.0), (0.7, 1.0), (1.0, 1.4), (0.8, 0.7)]
)
def test_exposure_and_saturation_by_hand(monkeypatch, exposure, saturation):
    """HSV: V = max, S = (max - min) / max; both scaled, the hue kept. Released: blends."""
    image = np.array([[[40, 80, 120], [100, 100, 100], [0, 0, 0], [150, 30, 60]]], np.uint8)
    monkeypatch.setattr(np.random, 'uniform', lambda *_: (exposure, saturation))

    def changed(space):
        transform = TRANSFORMS.build(dict(type='RandomExposureSaturation', space=space))
        return transform(dict(img=image.copy()))['img'].astype(float)

    pixels = image.astype(float)
    top, low = pixels.max(2, keepdims=True), pixels.min(2, keepdims=True)
    share = np.where(top > 0, (top - low) / np.maximum(top, 1), 0)
    new_top, new_share = np.minimum(top * exposure, 255), np.minimum(share * saturation, 1)
    # a channel lies between min and max as before: the hue
    place = np.where(top > low, (pixels - low) / np.maximum(top - low, 1), 1)
    expected = new_top * (1 - new_share * (1 - place))
    assert np.abs(changed('hsv') - expected).max() <= 4  # OpenCV's hue has steps of 2 degrees

    bright = np.floor(np.minimum(pixels * exposure, 255))
    grey = (bright * [0.299, 0.587, 0.114]).sum(2, keepdims=True)
    expected = np.clip(grey + saturation * (bright - grey), 0, 255)
    assert np.abs(changed('blend') - expected).max() <= 1


def test_exposure_is_drawn_anew_and_within_its_range(monkeypatch):
    drawn = []
    uniform = np.random.uniform
    monkeypatch.setattr(np.random, 'uniform', lambda *a: drawn.append(a) or uniform(*a))
    transform = TRANSFORMS.build(dict(type='RandomExposureSaturation', factor=2.0))
    found = [transform(dict(img=np.full((1, 1, 3), 90, np.uint8)))['img'].max() for _ in range(20)]
    assert drawn == [(0.5, 2.0, 2)] * 20
    assert len(set(found)) > 5 and min(found) >= 44 and max(found) <= 181
    with pytest.raises(ValueError, match='factor 0.5'):
        TRANSFORMS.build(dict(type='RandomExposureSaturation', factor=0.5))
