import json
import pickle
import time

import cv2
import mmdet.datasets.transforms  # noqa: F401  registers
import numpy as np
import pycocotools.mask as mask_utils
import pytest
import torch
from mmengine.registry import DATASETS
from PIL import Image
from torch.utils.data import DataLoader

import projects.plvl.datasets  # noqa: F401  registers
from projects.plvl.datasets import Invalid, ReferGroundingDataset
from projects.plvl.datasets.checks import check_box
from projects.plvl.datasets.image_sizes import read_image_size
from projects.plvl.datasets.masks import check_mask, mask_box

META_KEYS = (
    'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'text', 'ref_id',
    'sent_id', 'ann_id', 'kind', 'with_mask',
)  # fmt: skip
LOAD = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='LoadGroundingAnnotations'),
]
TEST_PIPELINE = [
    LOAD[0],
    dict(type='mmdet.Resize', scale=(64, 64), keep_ratio=False),
    LOAD[1],
    dict(type='mmdet.PackDetInputs', meta_keys=META_KEYS),
]
SQUARE = [[10.0, 10.0, 30.0, 10.0, 30.0, 20.0, 10.0, 20.0]]


def _image(path, width=80, height=60, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    cv2.imwrite(str(path), rng.integers(0, 255, (height, width, 3), dtype=np.uint8))


def _truncate(path, keep=0.6):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


class Refer:
    """A small data set in the refer layout that tests can damage before it is written."""

    def __init__(self, root):
        self.root = root
        self.images = [dict(id=i, file_name=f'img{i}.jpg', height=60, width=80) for i in (1, 2)]
        for image in self.images:
            _image(root / 'images' / image['file_name'], seed=image['id'])
        rle = mask_utils.encode(np.asfortranarray(np.eye(60, 80, dtype=np.uint8)))
        self.annotations = [
            dict(id=10, image_id=1, category_id=3, iscrowd=0, bbox=[10, 10, 20, 10],
                 segmentation=SQUARE),
            dict(id=11, image_id=1, category_id=3, iscrowd=0, bbox=[40, 20, 20.5, 30.25],
                 segmentation=[[40, 20, 50, 20, 50, 30], [50, 40, 60, 40, 60, 50, 50, 50]]),
            dict(id=12, image_id=2, category_id=4, iscrowd=1, bbox=[0, 0, 60, 60],
                 segmentation=dict(size=[60, 80], counts=rle['counts'].decode())),
        ]  # fmt: skip
        self.refs = [
            self._ref(0, 10, 1, 'train', ['Left one', 'the first']),
            self._ref(1, 11, 1, 'train', ['right one']),
            self._ref(2, 12, 2, 'val', ['diagonal', 'a  line ', 'thing']),
        ]

    @staticmethod
    def _ref(ref_id, ann_id, image_id, split, texts):
        sentences = [
            dict(sent_id=10 * ref_id + i, raw=text, sent=text.lower(), tokens=text.split())
            for i, text in enumerate(texts)
        ]
        return dict(ref_id=ref_id, ann_id=ann_id, image_id=image_id, split=split,
                    category_id=3, file_name=f'img{image_id}_{ref_id}.jpg',
                    sent_ids=[s['sent_id'] for s in sentences], sentences=sentences)  # fmt: skip

    def build(self, split='train', pipeline=(), **kwargs):
        folder = self.root / 'mydata'
        folder.mkdir(exist_ok=True)
        coco = dict(
            images=self.images,
            annotations=self.annotations,
            categories=[dict(id=3, name='cat'), dict(id=4, name='line')],
        )
        (folder / 'instances.json').write_text(json.dumps(coco))
        (folder / 'refs(me).p').write_bytes(pickle.dumps(self.refs, protocol=2))
        cfg = dict(
            type='ReferGroundingDataset',
            data_root=str(self.root),
            ann_file='mydata/instances.json',
            split_file='mydata/refs(me).p',
            data_prefix=dict(img='images'),
            split=split,
            pipeline=list(pipeline),
        )
        return DATASETS.build({**cfg, **kwargs})


@pytest.fixture
def refer(tmp_path):
    return Refer(tmp_path)


# ---- the refer layout


def test_samples_of_the_refer_layout(refer):
    dataset = refer.build()
    assert len(dataset) == 3
    sample = dataset.get_data_info(2)
    sample.pop('sample_idx')
    assert sample == dict(
        img_path=str(refer.root / 'images' / 'img1.jpg'),
        img_id=1,
        height=60,
        width=80,
        text='right one',
        ref_id=1,
        sent_id=10,
        ann_id=11,
        kind=None,
        subset=None,
        category='cat',
        iscrowd=0,
        instances=[
            dict(
                bbox=[40.0, 20.0, 60.5, 50.25],
                bbox_label=0,
                ignore_flag=0,
                mask=[[40, 20, 50, 20, 50, 30], [50, 40, 60, 40, 60, 50, 50, 50]],
            )
        ],
    )
    assert [dataset.get_data_info(i)['text'] for i in range(2)] == ['left one', 'the first']
    assert dataset.metainfo['classes'] == ('object',)


def test_sentence_key_and_kind(refer):
    refer.refs[0]['sentences'][0]['kind'] = 'position'
    raw = refer.build(sentence_key='raw')
    assert raw.get_data_info(0)['text'] == 'Left one'
    assert raw.get_data_info(0)['kind'] == 'position'
    val = refer.build(split='val', sentence_key='raw')
    assert [val.get_data_info(i)['text'] for i in range(3)] == ['diagonal', 'a  line', 'thing']
    assert val.get_data_info(0)['iscrowd'] == 1
    with pytest.raises(ValueError, match="sentence_key='sents'"):
        refer.build(sentence_key='sents')


def test_pipeline_polygons_united_and_rle(refer):
    dataset = refer.build(pipeline=TEST_PIPELINE, test_mode=True)
    sample = dataset[2]['data_samples']
    truth = sample.gt_instances
    # Ground truth stays in original pixels; both polygons are in one mask.
    assert truth.masks.masks.shape == (1, 60, 80)
    polygons = dataset.get_data_info(2)['instances'][0]['mask']
    separate = [mask_utils.decode(mask_utils.frPyObjects([p], 60, 80))[..., 0] for p in polygons]
    np.testing.assert_array_equal(truth.masks.masks[0], separate[0] | separate[1])
    assert separate[0].any() and separate[1].any()
    np.testing.assert_allclose(truth.bboxes.tensor, [[40, 20, 60.5, 50.25]])
    assert truth.labels.tolist() == [0]
    assert dataset[2]['inputs'].shape == (3, 64, 64) and dataset[2]['inputs'].dtype == torch.uint8
    assert sample.with_mask is True and sample.text == 'right one' and sample.sent_id == 10
    assert sample.ori_shape == (60, 80) and sample.img_shape == (64, 64)

    val = refer.build(split='val', pipeline=TEST_PIPELINE, test_mode=True)
    np.testing.assert_array_equal(
        val[0]['data_samples'].gt_instances.masks.masks[0], np.eye(60, 80, dtype=np.uint8)
    )


@pytest.mark.parametrize('counts', ['list', 'bytes', 'str'])
def test_rle_variants(refer, counts):
    mask = np.zeros((60, 80), dtype=np.uint8)
    mask[5:10, 20:30] = 1
    rle = mask_utils.encode(np.asfortranarray(mask))
    flat = mask.flatten(order='F')
    runs, value = [], 0
    for pixel in [*flat, 2]:
        if not runs:
            runs.append(0)
        if pixel == value:
            runs[-1] += 1
        elif pixel != 2:
            runs.append(1)
            value = pixel
    choice = {'list': runs, 'bytes': rle['counts'], 'str': rle['counts'].decode()}[counts]
    checked = check_mask(dict(size=[60, 80], counts=choice), 60, 80)
    assert isinstance(checked['counts'], str)
    np.testing.assert_array_equal(mask_utils.decode(checked), mask)
    assert mask_box(checked) == [20, 5, 30, 10]


BAD_MASKS = {
    'odd': ([[1, 2, 3, 4, 5, 6, 7]], 'flat list'),
    'text': ([['a', 'b', 'c', 'd', 'e', 'f']], 'flat list'),
    'nested': ([[[1, 2], [3, 4], [5, 6]]], 'flat list'),
    'nan': ([[1, 2, 3, float('nan'), 5, 6]], 'flat list'),
    'short': ([[1, 2, 3, 4]], 'three points'),
    'flat': ([10, 10, 20, 10, 20, 20], 'flat list'),
    'outside': ([[500, 500, 510, 500, 510, 510]], 'no pixel'),
    'number': (3, 'int'),
    'no_counts': (dict(size=[60, 80]), 'needs'),
    'rle_size': (
        dict(size=[80, 60], counts=[0, 4800]),
        'of 80x60 pixels, as the image, found one of 60x80',
    ),
    'rle_sum': (dict(size=[60, 80], counts=[5, 5]), 'add up'),
    'rle_empty': (dict(size=[60, 80], counts=[4800]), 'no pixel'),
    'rle_garbage': (dict(size=[60, 80], counts='~~~~zzzz'), 'character'),
    'rle_cut': (dict(size=[60, 80], counts='o1'), 'add up'),
    'rle_cut_number': (dict(size=[60, 80], counts='oo'), 'within a number'),
}


def test_counting_of_compressed_runs():
    rng = np.random.default_rng(0)
    for _ in range(50):
        height, width = rng.integers(1, 200, 2)
        mask = rng.random((height, width)) < rng.choice([0.01, 0.5, 0.99])
        mask[rng.integers(height)] = True
        rle = mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))
        checked = check_mask(rle, height, width)
        np.testing.assert_array_equal(mask_utils.decode(checked), mask)
        with pytest.raises(Invalid):
            cut = rle['counts'][: int(rng.integers(len(rle['counts'])))]
            check_mask(dict(size=rle['size'], counts=cut), height, width)


@pytest.mark.parametrize('name', BAD_MASKS)
def test_bad_masks(refer, name, log):
    mask, message = BAD_MASKS[name]
    refer.annotations[0]['segmentation'] = mask
    with pytest.raises(ValueError, match=f'ref_id 0, ann_id 10: invalid mask.*({message})'):
        refer.build()
    assert len(refer.build(skip_invalid=True)) == 1
    assert '2 samples left out: 2 for invalid mask' in log[-1]


def test_polygon_parts_without_area_are_dropped():
    assert check_mask([[1, 2, 3, 4], SQUARE[0]], 60, 80) == SQUARE


BAD_BOXES = {
    'no_width': [10, 10, 0, 10],
    'negative': [10, 10, -5, 10],
    'nan': [10, 10, float('nan'), 10],
    'three': [10, 10, 5],
    'outside': [100, 10, 20, 10],
    'far_over': [60, 10, 40, 10],
    'none': None,
}


@pytest.mark.parametrize('name', BAD_BOXES)
def test_bad_boxes(refer, name, log):
    refer.annotations[0]['bbox'] = BAD_BOXES[name]
    with pytest.raises(ValueError, match=r'ref_id 0.*degenerate box') as error:
        refer.build()
    assert '\n' not in str(error.value) and 'skip_invalid=True' in str(error.value)
    assert len(refer.build(skip_invalid=True)) == 1
    assert '2 for degenerate box (first:' in log[-1]


def test_boxes_are_clipped_to_the_image_and_stay_float():
    assert check_box([-1.5, 0.25, 81.5, 60.0], 60, 80) == [0.0, 0.25, 80.0, 60.0]
    assert check_box([1, 2, 3000, 4], None, None) == [1.0, 2.0, 3000.0, 4.0]
    with pytest.raises(Invalid, match='inside the image of 80x60 pixels, found .80.5, 1'):
        check_box([80.5, 1, 81.5, 5], 60, 80)


def test_mask_elsewhere_than_its_box(refer):
    refer.annotations[0]['bbox'] = [60, 40, 10, 10]
    with pytest.raises(
        ValueError, match='ann_id 10: invalid mask: .* meets its box .*, found one that sp'
    ):
        refer.build()


def test_missing_things_are_named_or_counted(refer, log):
    refer.refs += [
        Refer._ref(3, 99, 1, 'train', ['no annotation', 'twice']),
        Refer._ref(4, 10, 77, 'train', ['no image entry']),
        Refer._ref(5, 12, 1, 'train', ['annotation of another image']),
        Refer._ref(6, 10, 1, 'train', ['', '   ', 'fine']),
    ]
    refer.images.append(dict(id=3, file_name='gone.jpg', height=60, width=80))
    refer.annotations.append({**refer.annotations[0], 'id': 20, 'image_id': 3})
    refer.refs.append(Refer._ref(7, 20, 3, 'train', ['missing image']))
    dataset = refer.build(skip_invalid=True)
    assert len(dataset) == 3 + 1
    assert len(log) == 1 and '\n' not in log[0]
    assert '7 samples left out' in log[0]
    assert '2 for empty sentence (first:' in log[0] and 'sent_id 60' in log[0]
    assert '1 for missing image (first:' in log[0] and 'gone.jpg' in log[0]
    assert '4 for no annotation (first:' in log[0] and 'found 99' in log[0]

    refs = list(refer.refs)
    for extra, message in (
        (refs[3], r'ref_id 3\): no annotation: ann_id: .* of .*instances.json, found 99'),
        (refs[4], r'ref_id 4\): no annotation: image_id: .* of .*instances.json, found 77'),
        (refs[5], r'no annotation: ann_id: .* annotation of image 1, found 12, .* of image 2'),
        (refs[6], r"ref_id 6, ann_id 10: empty sentence: sent_id 60: expected a text, found ''"),
        (refs[7], r'ref_id 7, ann_id 20: missing image: .*gone.jpg does not exist'),
    ):
        refer.refs = [*refs[:3], extra]
        with pytest.raises(ValueError, match=message) as error:
            refer.build()
        assert '\n' not in str(error.value)


def test_nothing_left(refer):
    for annotation in refer.annotations:
        annotation['bbox'] = [0, 0, 0, 0]
    with pytest.raises(ValueError, match='no usable sample: .* 3 for degenerate box'):
        refer.build(skip_invalid=True)


def test_wrong_paths_end_in_one_line(refer, tmp_path):
    for change, field in (
        (dict(data_root=str(tmp_path / 'nowhere')), 'data_root'),
        (dict(ann_file='mydata/none.json'), 'ann_file'),
        (dict(split_file='mydata/none.p'), 'split_file'),
        (dict(data_prefix=dict(img='pics')), 'data_prefix.img'),
    ):
        with pytest.raises(FileNotFoundError) as error:
            refer.build(**change)
        message = str(error.value)
        assert message.startswith(field) and 'DATA_ROOT' in message and '\n' not in message
        assert any(str(part) in message for part in ('nowhere', 'none', 'pics'))


def test_wrong_content_is_named(refer):
    with pytest.raises(ValueError, match=r"no split 'testA'; it has \['train', 'val'\]"):
        refer.build(split='testA')
    refer.refs[0].pop('ann_id')
    with pytest.raises(ValueError, match=r'refs\(me\).p: reference 0 \(ref_id 0\): ann_id: exp'):
        refer.build()
    refer.refs = dict(a=1)
    with pytest.raises(ValueError, match='expected a pickled list'):
        refer.build()
    with pytest.raises(ValueError, match='data_prefix'):
        refer.build(data_prefix=dict(img_path='images'))


def test_annotation_file_of_another_kind(refer):
    refer.build()
    for text, message in (('{"a"', 'not a JSON file'), ('{"a": 1}', 'not a COCO annotation')):
        path = refer.root / 'mydata' / 'other.json'
        path.write_text(text)
        with pytest.raises(ValueError, match=f'other.json: {message}'):
            refer.build(ann_file='mydata/other.json')


def test_hostile_split_file(refer):
    refer.build()
    path = refer.root / 'mydata' / 'evil.p'
    path.write_bytes(b'cposix\nsystem\n(Vtrue\ntR.')
    with pytest.raises(pickle.UnpicklingError, match='evil.p.*posix.system.*trust_pickle=True'):
        refer.build(split_file='mydata/evil.p')


def test_existence_checks_list_each_folder_once(tmp_path):
    # 20,000 references over 2,000 images; a stat for each would be counted in seconds on a
    # network file system. Here only the number of listings is checked, and a generous time.
    refer = Refer(tmp_path)
    for i in range(2000):
        (tmp_path / 'images' / f'x{i}.jpg').touch()
    refer.images = [dict(id=i, file_name=f'x{i}.jpg', height=60, width=80) for i in range(2000)]
    refer.annotations = [
        dict(id=i, image_id=i, category_id=3, bbox=[1, 2, 30, 40], segmentation=SQUARE)
        for i in range(2000)
    ]
    refer.refs = [Refer._ref(i, i % 2000, i % 2000, 'train', ['a']) for i in range(20000)]
    start = time.perf_counter()
    assert len(refer.build()) == 20000
    assert time.perf_counter() - start < 20


# ---- broken images


@pytest.mark.parametrize('damage', ['truncated', 'no_image', 'empty', 'deleted'])
def test_broken_images(refer, damage, log):
    path = refer.root / 'images' / 'img1.jpg'
    refer.refs.append(Refer._ref(8, 12, 2, 'train', ['fine']))
    pipeline = [*LOAD, dict(type='mmdet.PackDetInputs', meta_keys=META_KEYS)]
    strict = refer.build(pipeline=pipeline)
    test = refer.build(pipeline=pipeline, test_mode=True, skip_invalid=True)
    lenient = refer.build(pipeline=pipeline, skip_invalid=True)
    if damage == 'truncated':
        _truncate(path)
    elif damage == 'deleted':
        path.unlink()
    else:
        path.write_text('no image' if damage == 'no_image' else '')
    for dataset in (strict, test):
        with pytest.raises(ValueError, match=r'img1.jpg \(img_id 1, ref_id 0, ann_id 10\): broken'):
            dataset[0]
    np.random.seed(0)
    for index in range(3):  # each is replaced by the only sample of the other image
        assert lenient[index]['data_samples'].text == 'fine'
    assert len(log) == 1 and 'img1.jpg' in log[0] and '1 such files so far' in log[0]


def test_all_images_broken_ends(refer):
    dataset = refer.build(pipeline=LOAD, skip_invalid=True, max_refetch=5)
    (refer.root / 'images' / 'img1.jpg').write_text('')
    with pytest.raises(Exception, match='Cannot find valid image after 5'):
        dataset[0]


def test_errors_of_transforms_are_not_hidden(refer):
    class Bug:
        def __call__(self, results):
            raise RuntimeError('a bug')

    dataset = refer.build(skip_invalid=True)
    dataset.pipeline.transforms.append(Bug())
    with pytest.raises(RuntimeError, match='a bug'):
        dataset[0]


def test_broken_images_in_worker_processes(refer):
    pipeline = [*LOAD, dict(type='mmdet.PackDetInputs', meta_keys=META_KEYS)]
    dataset = refer.build(pipeline=pipeline)
    (refer.root / 'images' / 'img1.jpg').write_text('')
    loader = DataLoader(dataset, num_workers=1, collate_fn=list)
    with pytest.raises(ValueError, match='img1.jpg'):
        list(loader)


def test_image_of_another_size_than_annotated(refer):
    _image(refer.root / 'images' / 'img1.jpg', width=60, height=80)
    with pytest.raises(
        ValueError, match='wrong image size: .* of 80x60 pixels, .*, found one of 60x80'
    ):
        refer.build(pipeline=LOAD)[0]


# ---- the other-sentence probe


def test_other_object_sentences(refer, log):
    refer.refs.append(Refer._ref(9, 10, 1, 'train', ['third of ten', 'RIGHT one']))
    refer.refs.append(Refer._ref(10, 12, 2, 'train', ['alone']))
    plain = refer.build(test_mode=True)
    probe = refer.build(test_mode=True, sentence_shuffle='other_object')
    again = refer.build(test_mode=True, sentence_shuffle='other_object')
    texts_of = {10: {'left one', 'the first', 'third of ten', 'right one'}, 11: {'right one'}}
    by_sent = {plain.get_data_info(i)['sent_id']: plain.get_data_info(i) for i in range(len(plain))}
    assert len(plain) == 6
    # 'alone' has no other object; all of object 11's sentences also name object 10, so those of
    # object 10 cannot borrow it.
    kept = [probe.get_data_info(i) for i in range(len(probe))]
    assert [sample['ann_id'] for sample in kept] == [11]
    assert '5 of 6 samples left out' in log[-1]
    for sample, other in zip(kept, (again.get_data_info(i) for i in range(len(again)))):
        assert sample == other  # deterministic
        own = by_sent[sample['sent_id']]
        assert sample['text'] in texts_of[21 - sample['ann_id']] - texts_of[sample['ann_id']]
        for key in ('instances', 'img_path', 'ref_id', 'sent_id', 'ann_id'):
            assert sample[key] == own[key]
    seeds = set()
    for seed in range(10):
        other = refer.build(test_mode=True, sentence_shuffle='other_object', shuffle_seed=seed)
        seeds.add(other.get_data_info(0)['text'])
    assert len(seeds) > 1


def test_probe_is_for_testing_only(refer):
    with pytest.raises(ValueError, match='test_mode=True'):
        refer.build(sentence_shuffle='other_object')
    with pytest.raises(ValueError, match="'other_object'"):
        refer.build(sentence_shuffle='any', test_mode=True)


# ---- JSON lines


def _json_lines(tmp_path, *lines, images=('a.png', 'sub/b.png'), **kwargs):
    for i, name in enumerate(images):
        _image(tmp_path / 'images' / name, seed=i)
    text = '\n'.join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (tmp_path / 'train.jsonl').write_text(text + '\n')
    cfg = dict(
        type='JSONLinesGroundingDataset',
        data_root=str(tmp_path),
        ann_file='train.jsonl',
        data_prefix=dict(img='images'),
    )
    return DATASETS.build({**cfg, **kwargs})


def test_json_lines(tmp_path):
    mask = np.zeros((60, 80), dtype=np.uint8)
    mask[20:25, 30:50] = 200
    (tmp_path / 'masks').mkdir()
    cv2.imwrite(str(tmp_path / 'masks' / 'm.png'), mask)
    rle = mask_utils.encode(np.asfortranarray(mask != 0).astype(np.uint8))
    dataset = _json_lines(
        tmp_path,
        {'image': 'a.png', 'sentence': ' the mug ', 'bbox': [1, 2, 3.5, 4], 'kind': 'attribute'},
        '',
        {'image': 'sub/b.png', 'sentences': ['one', 'two'], 'mask': SQUARE, 'object_id': 'x'},
        {'image': 'a.png', 'sentence': 'png', 'mask': 'masks/m.png', 'meta': {'any': 1}},
        {'image': 'a.png', 'sentence': 'rle', 'category': 'cup', 'width': 80, 'height': 60,
         'mask': {'size': [60, 80], 'counts': rle['counts'].decode()}},
        pipeline=TEST_PIPELINE,
        test_mode=True,
    )  # fmt: skip
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert [info['text'] for info in infos] == ['the mug', 'one', 'two', 'png', 'rle']
    assert [info['sent_id'] for info in infos] == [0, 1, 2, 3, 4]
    assert [info['ref_id'] for info in infos] == [1, 3, 3, 4, 5]
    assert infos[0]['kind'] == 'attribute' and infos[4]['category'] == 'cup'
    assert infos[1]['ann_id'] == 'x' and infos[0]['ann_id'] is None
    assert [(info['height'], info['width']) for info in infos] == [(60, 80)] * 5
    boxes = [info['instances'][0]['bbox'] for info in infos]
    assert boxes == [[1, 2, 3.5, 4]] + [[10, 10, 30, 20]] * 2 + [[30, 20, 50, 25]] * 2

    samples = [dataset[i]['data_samples'] for i in range(len(dataset))]
    assert [sample.with_mask for sample in samples] == [False, True, True, True, True]
    assert not samples[0].gt_instances.masks.masks.any()
    assert samples[0].gt_instances.masks.masks.shape == (1, 60, 80)
    for sample in samples[3:]:
        np.testing.assert_array_equal(sample.gt_instances.masks.masks[0], mask != 0)


LINE = {'image': 'a.png', 'sentence': 'mug', 'bbox': [1, 2, 30, 40]}
BAD_LINES = {
    'not_json': ('{"image": ', 'line: expected a JSON object on one line, found .*Expecting value'),
    'list': ('[1]', 'line: expected a JSON object'),
    'no_image': ({'sentence': 'a', 'bbox': [1, 2, 3, 4]}, 'image: expected a path, found None'),
    'typo': ({**LINE, 'maks': SQUARE}, "unknown field 'maks': expected 'mask', found"),
    'extra': ({**LINE, 'zzz': 1}, "unknown field 'zzz': expected further data under 'meta'"),
    'both': ({**LINE, 'sentences': ['a']}, "sentence: expected either 'sentence' or 'sentences'"),
    'neither': (
        {'image': 'a.png', 'bbox': [1, 2, 3, 4]},
        "sentence: expected either 'sentence' or 'sentences'",
    ),
    'sentence_list': ({**LINE, 'sentence': ['a']}, 'sentence: expected a string'),
    'sentence_number': ({**LINE, 'sentence': 5}, 'sentence: expected a string, found 5'),
    'no_object': ({'image': 'a.png', 'sentence': 'a'}, "bbox: expected a 'bbox' or a 'mask'"),
    'box_text': ({**LINE, 'bbox': '1 2 3 4'}, r'bbox: expected \[x1, y1, x2, y2\], found .1 2'),
    'box_bool': ({**LINE, 'bbox': [True, 2, 3, 4]}, 'bbox: expected'),
    'mask_number': ({**LINE, 'mask': 3}, 'mask: expected polygons, an RLE or a path, found 3'),
    'width_text': ({**LINE, 'width': '80', 'height': 60}, 'width: expected a positive integer'),
    'width_only': ({**LINE, 'width': 80}, "width: expected 'width' and 'height' together"),
    'kind': ({**LINE, 'kind': 3}, 'kind: expected a string'),
    'object_id': ({**LINE, 'object_id': [1]}, 'object_id: expected a number or a string'),
}


@pytest.mark.parametrize('name', BAD_LINES)
def test_json_lines_wrong_types(tmp_path, name):
    line, message = BAD_LINES[name]
    with pytest.raises(ValueError, match=rf'train\.jsonl:2: {message}') as error:
        _json_lines(tmp_path, LINE, line)
    assert '\n' not in str(error.value)


INVALID_LINES = {
    'xywh': ({**LINE, 'bbox': [30, 40, 10, 10]}, 'degenerate box'),
    'missing': ({**LINE, 'image': 'none.png'}, 'missing image'),
    'empty': ({**LINE, 'sentence': ' '}, 'empty sentence'),
    'mask_file': ({**LINE, 'mask': 'none.png'}, 'invalid mask'),
    'mask_file_without_box': (
        {'image': 'a.png', 'sentence': 'a', 'mask': 'none.png'},
        'invalid mask',
    ),
    'outside': ({**LINE, 'bbox': [1, 2, 300, 40], 'width': 80, 'height': 60}, 'degenerate box'),
}


@pytest.mark.parametrize('name', INVALID_LINES)
def test_json_lines_invalid_samples(tmp_path, name, log):
    line, reason = INVALID_LINES[name]
    with pytest.raises(ValueError, match=rf'train\.jsonl:2.*{reason}'):
        _json_lines(tmp_path, LINE, line)
    assert len(_json_lines(tmp_path, LINE, line, skip_invalid=True)) == 1
    assert f'1 samples left out: 1 for {reason}' in log[-1]


def test_json_lines_problems_found_when_loading(tmp_path):
    small = np.full((10, 10), 255, dtype=np.uint8)
    cv2.imwrite(str(tmp_path / 'small.png'), small)
    cv2.imwrite(str(tmp_path / 'zero.png'), small * 0)
    dataset = _json_lines(
        tmp_path,
        {**LINE, 'bbox': [1, 2, 300, 40]},
        {**LINE, 'mask': 'small.png', 'bbox': [1, 1, 5, 5]},
        {**LINE, 'mask': 'zero.png'},
        {**LINE, 'mask': [[500, 500, 510, 500, 510, 510]], 'bbox': [499, 499, 511, 511]},
        pipeline=LOAD,
    )
    for index, message in enumerate(
        ('inside the image of 80x60', 'a mask of 80x60 .*, found one of 10x10', 'all zero', 'box')
    ):
        with pytest.raises(ValueError, match=rf'a\.png \(img_id a\.png, ref_id .*{message}'):
            dataset[index]


def test_exif_orientation(tmp_path):
    # Stored lying (80 wide), shown upright (60 wide): the annotation is for the upright image.
    array = np.zeros((60, 80, 3), dtype=np.uint8)
    array[:, :40] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise to show
    (tmp_path / 'images').mkdir()
    Image.fromarray(array).save(tmp_path / 'images' / 'a.jpg', exif=exif)
    assert read_image_size(str(tmp_path / 'images' / 'a.jpg')) == (80, 60)
    line = {'image': 'a.jpg', 'sentence': 'the bright half', 'bbox': [0, 0, 60, 40]}
    dataset = _json_lines(tmp_path, line, images=(), pipeline=LOAD)
    info = dataset.get_data_info(0)
    assert (info['height'], info['width']) == (80, 60)
    results = dataset[0]
    assert results['img'].shape == (80, 60, 3)
    x1, y1, x2, y2 = results['gt_bboxes'].tensor[0].int().tolist()
    assert results['img'][y1:y2, x1:x2].mean() > 240 and results['img'][y2 + 2 :].mean() < 10


def test_json_lines_objects_of_the_probe(tmp_path):
    # Without object_id, lines with the same box are the same object.
    dataset = _json_lines(
        tmp_path,
        LINE,
        {**LINE, 'sentence': 'cup'},
        {**LINE, 'sentence': 'plate', 'bbox': [5, 5, 9, 9]},
        test_mode=True,
        sentence_shuffle='other_object',
    )
    texts = [dataset.get_data_info(i)['text'] for i in range(3)]
    assert texts[:2] == ['plate', 'plate'] and texts[2] in ('mug', 'cup')


# ---- TransVG


def test_transvg(tmp_path):
    _image(tmp_path / 'images' / 'a.jpg')
    rows = [('a.jpg', '17.pth', [10, 5, 20, 30], 'man', []), ('a.jpg', 'x', [1, 1, 9, 9], 'b', [])]
    torch.save(rows, tmp_path / 'x.pth', _use_new_zipfile_serialization=False)
    cfg = dict(
        type='TransVGGroundingDataset',
        data_root=str(tmp_path),
        ann_file='x.pth',
        data_prefix=dict(img='images'),
        pipeline=TEST_PIPELINE,
        test_mode=True,
    )
    dataset = DATASETS.build(cfg)
    first, second = (dataset.get_data_info(i) for i in range(2))
    assert first['instances'][0] == dict(bbox=[10, 5, 30, 35], bbox_label=0, ignore_flag=0)
    assert (first['ann_id'], second['ann_id']) == (17, None)
    assert (first['height'], first['width']) == (60, 80)
    assert dataset[0]['data_samples'].with_mask is False
    xyxy = DATASETS.build({**cfg, 'box_format': 'xyxy'})
    assert xyxy.get_data_info(0)['instances'][0]['bbox'] == [10, 5, 20, 30]

    torch.save([('a.jpg', [1, 2, 3, 4])], tmp_path / 'x.pth')
    with pytest.raises(ValueError, match='x.pth: entry 0: expected'):
        DATASETS.build(cfg)


# ---- real data


@pytest.mark.parametrize(
    'name, by, counts',
    [
        ('refcoco', 'unc', dict(train=41, val=6, testA=11, testB=12)),
        ('refcoco+', 'unc', dict(train=42, val=6, testA=11, testB=12)),
        ('refcocog', 'umd', dict(train=9, val=6)),
    ],
)
def test_real_refer_sample(shared_data, name, by, counts):
    root = shared_data / 'refcoco_sample'
    published = {'refcoco': 70, 'refcoco+': 71, 'refcocog': 15}
    coco = json.loads((root / name / 'instances.json').read_text())
    annotations = {a['id']: a for a in coco['annotations']}
    total = 0
    for split, count in counts.items():
        dataset = ReferGroundingDataset(
            data_root=str(root),
            ann_file=f'{name}/instances.json',
            split_file=f'{name}/refs({by}).p',
            data_prefix=dict(img='images/train2014'),
            split=split,
            pipeline=TEST_PIPELINE,
            test_mode=True,
        )
        assert len(dataset) == count
        total += count
        for index in range(len(dataset)):
            sample = dataset[index]['data_samples']
            annotation = annotations[sample.ann_id]
            x, y, w, h = annotation['bbox']
            box = sample.gt_instances.bboxes.tensor[0].numpy()
            np.testing.assert_allclose(box, [x, y, x + w, y + h], atol=1e-3)
            # The mask, against OpenCV's filling of the same polygons and the annotated area.
            mask = sample.gt_instances.masks.masks[0]
            assert mask.shape == sample.ori_shape
            filled = np.zeros(mask.shape, dtype=np.uint8)
            for polygon in annotation['segmentation']:
                points = np.array(polygon).reshape(-1, 2).round().astype(np.int32)
                cv2.fillPoly(filled, [points], 1)
            assert (mask & filled).sum() / (mask | filled).sum() > 0.85
            assert abs(mask.sum() - annotation['area']) < 0.05 * annotation['area'] + 20
            np.testing.assert_allclose(mask_box(annotation['segmentation']), box, atol=0.02)
    assert total == published[name]


@pytest.mark.parametrize(
    'file, expressions, images',
    [('unc/unc_val.pth', 10834, 1500), ('gref_umd/gref_umd_val.pth', 4896, 1300)],
)
def test_real_transvg_files(shared_data, file, expressions, images):
    dataset = DATASETS.build(
        dict(
            type='TransVGGroundingDataset',
            data_root=str(shared_data / 'refcoco_sample'),
            ann_file=f'transvg/{file}',
            check_images=False,
        )
    )
    assert len(dataset) == expressions
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert len({info['img_path'] for info in infos}) == images
    assert infos[0]['height'] is None and all(info['ann_id'] for info in infos)


def test_real_coco_annotations_are_all_valid(shared_data):
    # The checks must not refuse what COCO's annotators drew.
    coco = json.loads(
        (shared_data / 'coco_sample/annotations/instances_train2017.json').read_text()
    )
    sizes = {image['id']: (image['height'], image['width']) for image in coco['images']}
    crowds = 0
    for annotation in coco['annotations']:
        height, width = sizes[annotation['image_id']]
        x, y, w, h = annotation['bbox']
        check_box([x, y, x + w, y + h], height, width)
        check_mask(annotation['segmentation'], height, width)
        crowds += annotation['iscrowd']
    assert len(coco['annotations']) == 739 and crowds > 0
