"""tools/dataset_converters/itm.py: vocabularies, regions from .tsv files, counts."""

from __future__ import annotations

import base64
import json
from functools import partial

import numpy as np
import pytest

from projects.rvse.datasets import PrecompMatchingDataset, RegionStore
from projects.rvse.datasets.butd import read_butd
from projects.rvse.datasets.published import compare_counts, published_name
from projects.rvse.text import Vocabulary


@pytest.fixture
def run(call_tool):
    return partial(call_tool, 'dataset_converters/itm.py')


def tsv_line(image_id: int, boxes: np.ndarray, features: np.ndarray) -> str:
    encoded = [base64.b64encode(a.astype('<f4').tobytes()).decode() for a in (boxes, features)]
    return '\t'.join(map(str, (image_id, 640, 480, len(boxes), *encoded)))


@pytest.fixture
def source(tmp_path):
    """Six images in Karpathy's json, their features in two files in another order."""
    rng = np.random.default_rng(0)
    features = {10 + i: rng.normal(size=(4, 8)).astype('f4') for i in range(6)}
    splits = ['train', 'restval', 'val', 'test', 'test', 'train']
    images = [
        dict(
            filepath='val2014', filename=f'COCO_val2014_{10 + i:012d}.jpg', cocoid=10 + i, imgid=i,
            split=split, sentences=[dict(raw=f'A {split} cat {i} {j}.') for j in range(5 + i % 2)],
        )
        for i, split in enumerate(splits)
    ]  # fmt: skip
    (tmp_path / 'dataset_coco.json').write_text(json.dumps(dict(images=images)))
    order = [13, 10, 15, 12, 11, 14]
    for part in (0, 1):
        lines = [tsv_line(i, np.ones((4, 4)), features[i]) for i in order[part * 3 : part * 3 + 3]]
        (tmp_path / f'{part}.tsv').write_text('\n'.join(lines) + '\n')
    return tmp_path, features


def test_precomp_from_tsv(source, run):
    folder, features = source
    arguments = ['precomp', folder / 'dataset_coco.json', '--tsv', folder / '0.tsv',
                 folder / '1.tsv', '--out', folder / 'coco_precomp']  # fmt: skip
    run(*arguments)
    expected = {'train': [10, 11, 15], 'dev': [12], 'testall': [13, 14]}
    for split, ids in expected.items():
        dataset = PrecompMatchingDataset(split, str(folder / 'coco_precomp'), test_mode=True)
        assert [dataset.get_data_info(i)['ori_id'] for i in range(len(dataset))] == list(
            map(str, ids)
        )
        store = RegionStore(dataset.region_file)
        assert all(np.array_equal(store[row], features[i]) for row, i in enumerate(ids))
        assert dataset.text_size == 5 * len(ids)
    assert dataset.captions()[5] == 'A test cat 4 0.'
    assert 'exists already' in run(*arguments, rc=1).err
    run(*arguments, '--overwrite')

    found = run('verify', folder / 'coco_precomp', rc=1).out
    assert 'train: 3 images, expected 113,287' in found
    assert 'testall: 2 images, expected 5,000' in found

    (folder / '1.tsv').unlink()
    assert 'no such file' in run(*arguments, '--overwrite', rc=1).err
    found = run(*arguments[:3], folder / '0.tsv', *arguments[5:], '--overwrite', rc=1).err
    assert '(id 11): no features of it in the 3 images of --tsv' in found


def test_all_splits_are_checked_before_the_first_is_written(source, run):
    folder, _ = source
    lines = [line for i in (0, 1) for line in (folder / f'{i}.tsv').read_text().splitlines()]
    (folder / 'some.tsv').write_text('\n'.join(x for x in lines if not x.startswith('14\t')))
    arguments = ('--tsv', folder / 'some.tsv', '--out', folder / 'out')
    done = run('precomp', folder / 'dataset_coco.json', *arguments, rc=1)
    assert '(id 14): no features of it' in done.err  # of the last split
    assert not (folder / 'out').exists()


def test_vocabulary(source, run):
    folder, _ = source
    out = folder / 'vocab' / 'coco_vocab.json'
    run('vocab', folder / 'dataset_coco.json', '--out', out, '--min-count', '3')
    # train and val: 23 captions; 'a' and 'cat' and '.' in each, 'train' 11, 'val' 5, 'restval' 6.
    words = Vocabulary.from_file(out).words
    assert words[4:7] == ['.', 'a', 'cat']
    assert {'train', 'val', 'restval'} < set(words) and 'test' not in words
    assert 'exists already' in run('vocab', folder, '--out', out, rc=1).err
    assert 'found no *_caps.txt' in run('vocab', folder, '--out', folder / 'v', rc=1).err


def test_published_counts():
    assert compare_counts('f30k', dict(train=29_000, dev=1_000, test=1_000)) == []
    assert compare_counts('f30k', dict(train=29_000, val=1_014, test=1_000)) == []
    full = dict(train=113_287, dev=5_000, test=1_000, testall=5_000)
    assert compare_counts('coco', full) == []
    assert compare_counts('coco', dict(train=113_287, val=5_000, test=5_000)) == []
    del full['testall']  # the 1K file alone is not COCO's test split
    assert compare_counts('coco', full) == ['test: 1,000 images, expected 5,000']
    assert compare_counts('coco', dict(train=82_783, dev=5_000, testall=5_000)) == [
        'train: 82,783 images, expected 113,287'
    ]
    assert compare_counts('f30k', dict(train=29_000, test=1_000)) == [
        'dev: no such split, expected 1,000 images'
    ]
    assert published_name('dataset_flickr30k.json') == 'f30k'
    assert published_name('coco_precomp') == 'coco'
    assert published_name('mine') is None


@pytest.mark.parametrize(
    'line, message',
    [
        ('1\t2\t3', 'x.tsv:1: 3 fields, expected image_id'),
        ('1\t2\t3\t2\tAAAA\tAAAA', "x.tsv:1: num_boxes '2'"),
        ('1\t2\t3\t1\t!!!!\tAAAA', "x.tsv:1: num_boxes '1'"),
    ],
)
def test_bad_tsv_is_named(tmp_path, line, message):
    (tmp_path / 'x.tsv').write_text(line + '\n')
    with pytest.raises(ValueError) as error:
        list(read_butd(str(tmp_path / 'x.tsv')))
    assert message in str(error.value)
