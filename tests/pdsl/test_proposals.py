"""Proposals: the store, other code bases' files, Selective Search."""

import ctypes
import importlib
import os
import pickle

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from projects.common.files.unpickle import UntrustedPickleError
from projects.pdsl.proposals import (
    ProposalStore,
    list_images,
    read_proposals,
    selective_search,
    tidy,
    write_detectron2,
    write_mmdet,
    write_store,
)

BOXES = np.array([[0, 0, 9, 9], [5, 5, 20, 15], [1, 2, 3, 4]], np.float32)
SCORES = np.array([0.2, 0.9, 0.5], np.float32)


def as_dict(entries):
    return {name: (boxes, scores) for name, boxes, scores in entries}


def test_tidy_by_hand():
    boxes = np.array([[0, 0, 9, 9], [5, 5, 8, 8], [0.2, 0, 9.3, 9], [3, 3, 3, 9], [1, 1, 2, 2]])
    found, scores = tidy(boxes, [0.1, 0.5, 0.7, 0.9, 0.5])
    assert found.tolist() == np.float32([boxes[2], boxes[1], boxes[4]]).tolist()
    assert scores.tolist() == np.float32([0.7, 0.5, 0.5]).tolist()
    assert tidy(boxes, None, max_proposals=2)[0].tolist() == [[0, 0, 9, 9], [5, 5, 8, 8]]
    assert tidy([], None)[0].shape == (0, 4)
    with pytest.raises(ValueError, match='with 1 scores'):
        tidy(boxes, [0.5])
    with pytest.raises(ValueError, match='not finite'):
        tidy([[0, 0, np.inf, 1]], [0.5])


def test_store(tmp_path):
    rng = np.random.default_rng(0)
    given = {}
    for i in range(20):
        corner = rng.uniform(0, 50, (i, 2))
        given[f'img{i}'] = (np.hstack([corner, corner + 5 + i]), rng.random(i))
    store = write_store(tmp_path / 's', ((k, *v) for k, v in given.items()), max_proposals=12)
    for opened in (store, ProposalStore(tmp_path / 's'), pickle.loads(pickle.dumps(store))):
        assert opened.names == list(given) and len(opened) == 20
        for name, (boxes, scores) in given.items():
            order = np.argsort(-scores)[:12]
            assert np.allclose(opened.read(name)[0], boxes[order])
            assert np.allclose(opened.read(name)[1], scores[order])
    assert store.find('x/img3.jpg', 154) == 'img3' and store.find('x', 'img3') is None
    assert len(pickle.dumps(store)) < 2000  # a worker gets the index, not the boxes
    assert isinstance(store._boxes, np.memmap)
    with pytest.raises(FileNotFoundError, match='generate_proposals'):
        ProposalStore(tmp_path)
    with pytest.raises(ValueError, match="two images are called 'a'"):
        write_store(tmp_path / 't', [('a', BOXES, SCORES)] * 2)
    np.save(tmp_path / 's' / 'offsets.npy', np.arange(3))
    with pytest.raises(ValueError, match='20 names with 3 offsets'):
        ProposalStore(tmp_path / 's')


def test_mcg(tmp_path):
    """Row first and counted from 1: the box of rows 2-4 and columns 6-10 starts at (5, 1)."""
    rows_first = np.array([[2, 6, 4, 10], [1, 1, 50, 60]], np.uint16)
    savemat(tmp_path / 'COCO_1.mat', dict(boxes=rows_first, scores=np.array([[0.1], [0.3]])))
    savemat(tmp_path / 'own.mat', dict(bboxes=rows_first, bboxes_scores=[0.5, 0.4]))
    savemat(tmp_path / 'none.mat', dict(boxes=np.zeros((0, 4))))
    found = as_dict(read_proposals(tmp_path))
    assert set(found) == {'COCO_1', 'own', 'none'}
    for name in ('COCO_1', 'own'):
        assert found[name][0].tolist() == [[5, 1, 9, 3], [0, 0, 59, 49]]
    assert found['COCO_1'][1].tolist() == [0.1, 0.3] and found['own'][1].tolist() == [0.5, 0.4]
    assert found['none'][0].shape == (0, 4)
    savemat(tmp_path / 'bad.mat', dict(labels=[1]))
    with pytest.raises(ValueError, match=r'bad\.mat: no field boxes or bboxes; it has labels'):
        list(read_proposals(tmp_path))
    (tmp_path / 'bad.mat').write_bytes(b'no matlab file')
    with pytest.raises(ValueError, match=r'bad\.mat: not a readable \.mat file'):
        list(read_proposals(tmp_path))


def test_selective_search_mat(tmp_path):
    cells = np.empty((1, 2), object)
    cells[0, 0] = np.array([[1, 2, 3, 4]])
    cells[0, 1] = np.array([[5, 6, 7, 8], [1, 1, 9, 9]])
    savemat(tmp_path / 'a.mat', dict(boxes=cells))
    found = as_dict(read_proposals(tmp_path / 'a.mat', names=['2007_1', '2007_2']))
    assert found['2007_1'][0].tolist() == [[1, 0, 3, 2]] and found['2007_1'][1] is None
    assert found['2007_2'][0].tolist() == [[5, 4, 7, 6], [0, 0, 8, 8]]
    with pytest.raises(ValueError, match='of 2 images, image set of 1'):
        list(read_proposals(tmp_path / 'a.mat', names=['x']))
    with pytest.raises(ValueError, match='names no images'):
        list(read_proposals(tmp_path / 'a.mat'))
    names = np.array(['p1', 'p2'], object)
    savemat(tmp_path / 'b.mat', dict(boxes=cells, images=names))
    assert set(as_dict(read_proposals(tmp_path / 'b.mat'))) == {'p1', 'p2'}


@pytest.mark.parametrize(
    'content, boxes',
    [
        (dict(boxes=[BOXES], scores=[SCORES], indexes=[154]), BOXES),
        (dict(boxes=[BOXES], objectness_logits=[SCORES], ids=['154'], bbox_mode=0), BOXES),
        (
            dict(boxes=[BOXES], objectness_logits=[SCORES], ids=[154], bbox_mode=1),
            np.hstack([BOXES[:, :2], BOXES[:, :2] + BOXES[:, 2:]]),
        ),
    ],
)
@pytest.mark.parametrize('protocol', [0, 2, 4])
def test_detectron(tmp_path, content, boxes, protocol):
    path = tmp_path / 'p.pkl'
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    found = as_dict(read_proposals(path))
    assert list(found) == ['154']
    assert np.array_equal(found['154'][0], boxes) and np.array_equal(found['154'][1], SCORES)


def test_mmdet(tmp_path):
    content = {
        'JPEGImages/a.jpg': dict(bboxes=BOXES, scores=SCORES),
        'JPEGImages/b.jpg': dict(bboxes=BOXES),
        'c.jpg': np.hstack([BOXES, SCORES[:, None]]),
        'd.jpg': BOXES,
    }
    (tmp_path / 'p.pkl').write_bytes(pickle.dumps(content))
    found = as_dict(read_proposals(tmp_path / 'p.pkl'))
    assert list(found) == list(content)
    assert all(np.array_equal(boxes, BOXES) for boxes, _ in found.values())
    assert [s is not None for _, s in found.values()] == [True, False, True, False]
    (tmp_path / 'p.pkl').write_bytes(pickle.dumps({'a.jpg': np.zeros((2, 3))}))
    with pytest.raises(ValueError, match=r"'a\.jpg': shape \(2, 3\)"):
        list(read_proposals(tmp_path / 'p.pkl'))


@pytest.mark.parametrize('write', [write_detectron2, write_mmdet])
def test_written_files_are_read_again(tmp_path, write):
    assert write(tmp_path / 'p.pkl', [('a', BOXES, SCORES), ('b', BOXES[:0], None)]) == 2
    found = as_dict(read_proposals(tmp_path / 'p.pkl'))
    assert found['a'][0].tolist() == BOXES[[1, 2, 0]].tolist()
    assert found['a'][1].tolist() == SCORES[[1, 2, 0]].tolist()
    assert found['b'][0].shape == (0, 4)


class _Attack:
    def __reduce__(self):
        return os.mkdir, ('attacked',)


def test_hostile_pickles_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'p.pkl').write_bytes(pickle.dumps(dict(boxes=[_Attack()], ids=[1])))
    with pytest.raises(UntrustedPickleError, match='mkdir'):
        list(read_proposals('p.pkl'))
    assert not (tmp_path / 'attacked').exists()


def test_selective_search_finds_shapes():
    image = np.full((90, 120, 3), (60, 140, 60), np.uint8)
    cv2.rectangle(image, (20, 30), (49, 69), (40, 40, 200), -1)
    cv2.circle(image, (85, 45), 20, (200, 60, 40), -1)
    image = np.clip(image + np.random.default_rng(0).normal(0, 4, image.shape), 0, 255).astype(
        np.uint8
    )
    boxes = selective_search(image)
    ctypes.CDLL(None).srand(5)
    assert np.array_equal(selective_search(image), boxes)
    for target in ([20, 30, 50, 70], [65, 25, 106, 66]):
        common = (np.minimum(boxes[:, 2:], target[2:]) - np.maximum(boxes[:, :2], target[:2])).clip(
            0
        )
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        area = (target[2] - target[0]) * (target[3] - target[1])
        assert (common.prod(1) / (areas + area - common.prod(1))).max() > 0.8
    assert len(selective_search(image, max_proposals=3)) == 3
    small = selective_search(image, max_side=60)
    assert small[:, 2].max() > 60 and (small <= [120, 90, 120, 90]).all()
    sides = selective_search(image, min_side=30)
    assert ((sides[:, 2:] - sides[:, :2]) >= 30).all() and len(sides) < len(boxes)
    assert len(selective_search(np.zeros((1, 5, 3), np.uint8))) == 1


def test_others_finish_at_the_same_time(tmp_path, monkeypatch):
    """Another process packs the parts while this one sees the last of them."""
    generate = importlib.import_module('projects.pdsl.proposals.generate')
    folder = tmp_path / 'pictures'
    folder.mkdir()
    picture = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    cv2.imwrite(str(folder / 'a.png'), picture)
    pictures = list_images(folder)
    write = generate.write_store

    def write_once(out, entries, **options):
        store = write(out, entries, **options)
        monkeypatch.setattr(generate, 'write_store', lambda *_, **__: pytest.fail('packed twice'))
        return store

    monkeypatch.setattr(generate, 'write_store', write_once)
    locked = generate.locked

    def late(path):  # the other process had the lock first
        monkeypatch.setattr(generate, 'locked', locked)
        assert generate.generate_proposals(pictures, tmp_path / 'out') is not None
        return locked(path)

    monkeypatch.setattr(generate, 'locked', late)
    store = generate.generate_proposals(pictures, tmp_path / 'out')
    assert len(store) == 1 and len(store.read('a')[0])
