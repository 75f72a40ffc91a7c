"""ECCV Caption and CxC against plain lists, and against the functions of the package."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from projects.rvse.evaluation import coco_extended
from projects.rvse.evaluation.coco_extended import (
    Matches,
    extended_matches,
    extended_statistics,
    query_scores,
)

# Three images with two captions each; caption 99 is not in the split.
COCO = {'i2t': {7: [10, 11], 8: [20, 21], 9: [30, 31]}}
COCO['t2i'] = {c: [i] for i, cs in COCO['i2t'].items() for c in cs}
ECCV = {'i2t': {9: [30, 31, 10, 99], 7: [11]}, 't2i': {10: [7, 9], 30: [9]}}


def package(monkeypatch) -> None:
    truths = dict(coco_gts=COCO, eccv_gts=ECCV, cxc_gts=COCO)
    made = SimpleNamespace(**truths, coco_ids=np.array([10, 11, 20, 21, 30, 31]))
    monkeypatch.setitem(sys.modules, 'eccv_caption', SimpleNamespace(Metrics=lambda: made))
    monkeypatch.setattr(coco_extended, 'IMAGES', 3)
    monkeypatch.setattr(coco_extended, 'CAPTIONS', 6)


def dataset(ids=('10', '11', '20', '21', '30', '31'), owner=(0, 0, 1, 1, 2, 2)) -> SimpleNamespace:
    return SimpleNamespace(
        caption_ids=None if ids is None else list(ids), image_of_caption=np.array(owner),
        img_size=max(owner) + 1, text_size=len(owner), source='test.json',
    )  # fmt: skip


def by_lists(row: list[float], own: set[int], count: int) -> dict[str, float]:
    """The metrics of a query as the papers define them, on a sorted list of answers."""
    order = sorted(range(len(row)), key=lambda j: (-row[j], j in own))  # ties: wrong ones first
    hits = [j in own for j in order]
    found = {f'r{k}': float(any(hits[:k])) for k in (1, 5, 10)}
    found['rp'] = sum(hits[:count]) / count
    precisions = [sum(hits[:r]) / r if hits[r - 1] else 0 for r in range(1, count + 1)]
    found['map_at_r'] = sum(precisions) / count
    return found


def test_scores_by_lists():
    rng = np.random.default_rng(0)
    matrix = rng.random((30, 40)).round(1)  # with ties
    own = [rng.choice(40, rng.integers(1, 12), replace=False) for _ in range(30)]
    counts = np.array([len(each) + (i % 3 == 0) for i, each in enumerate(own)])
    found = query_scores(matrix, Matches(np.arange(30), own, counts))
    for i in range(30):
        expected = by_lists(matrix[i].tolist(), set(own[i].tolist()), int(counts[i]))
        assert {name: values[i] for name, values in found.items()} == pytest.approx(expected)
    assert 0 < found['map_at_r'].mean() < found['rp'].mean() < 1


def test_matches_by_hand(monkeypatch):
    package(monkeypatch)
    for data in (dataset(), dataset(None)):
        matches = extended_matches(data, 'eccv')
        i2t, t2i = matches['i2t'], matches['t2i']
        assert i2t.queries.tolist() == [2, 0] and i2t.counts.tolist() == [4, 1]
        assert sorted(i2t.answers[0]) == [0, 4, 5] and i2t.answers[1].tolist() == [1]
        assert t2i.queries.tolist() == [0, 4] and sorted(t2i.answers[0]) == [0, 2]
    # Another order of the images of a data set with ids.
    moved = extended_matches(dataset(('30', '31', '10', '11', '20', '21')), 'eccv')['i2t']
    assert moved.queries.tolist() == [0, 1] and sorted(moved.answers[0]) == [0, 1, 2]


def test_statistics_by_hand(monkeypatch):
    """Image 9 finds 30, 10 and 31 first, of its four matches; image 7 finds 10 before 11."""
    package(monkeypatch)
    matrix = np.array([[9, 8, 1, 2, 3, 4], [0, 0, 9, 8, 1, 1], [7, 1, 0, 2, 9, 6.0]])
    found = extended_statistics(dataset(), matrix, 'eccv')
    values = {name: each(np.ones((1, 3)))[0] for name, each in found.items()}
    assert values['eccv/i2t/r1'] == 50
    assert values['eccv/i2t/rp'] == pytest.approx(100 * (3 / 4 + 0) / 2)
    assert values['eccv/i2t/map_at_r'] == pytest.approx(100 * (3 / 4 + 0) / 2)
    # Caption 10 finds images 7 and 9 first, caption 30 image 9.
    assert values['eccv/t2i/map_at_r'] == 100
    # Without image 9, its caption's query is gone as well.
    assert found['eccv/i2t/r1'](np.array([[1.0, 1, 0]]))[0] == 0


@pytest.mark.parametrize(
    ('data', 'message'),
    [
        (dataset(('10', '11', '20', '21', '30', '77')), '1 of 6 captions .* has the id 77'),
        (dataset(('10', '11', '20', 'x', '30', '31')), "ids of captions such as '10', expected"),
        (
            dataset(('10', '20', '11', '21', '30', '31')),
            'caption 20 is of the image 8, .* in another order',
        ),
        (dataset(None, (0, 0, 1, 1)), 'no ids of captions, and 2 images with 4 captions'),
        (dataset(('10', '11'), (0, 0)), '0 of 2 captions .* expected the 6 captions of its 3'),
    ],
)
def test_other_data_sets(data, message, monkeypatch):
    package(monkeypatch)
    with pytest.raises(ValueError, match=f'test.json: {message}'):
        extended_matches(data, 'eccv')


def test_a_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, 'eccv_caption', None)
    with pytest.raises(ValueError, match='pip install eccv-caption==0.1.0'):
        extended_matches(dataset(), 'cxc')


def test_equal_to_the_package():
    """Random similarities of the real split: our figures are those of the package's functions."""
    pytest.importorskip('eccv_caption', reason='eccv-caption is not installed')
    from eccv_caption import Metrics

    metrics = Metrics()
    captions = metrics.coco_ids.tolist()
    images = list(dict.fromkeys(metrics.coco_gts['t2i'][c][0] for c in captions))
    assert (len(images), len(captions)) == (5000, 25000)
    data = dataset(None, np.repeat(np.arange(5000), 5))
    matches = extended_matches(data, 'eccv')
    rng = np.random.default_rng(0)
    names = dict(i2t=(images, captions), t2i=(captions, images))
    retrieved, found = {}, {}
    for way, (queries, answers) in names.items():
        rows, ranked = {}, {}
        for query, own in zip(matches[way].queries, matches[way].answers, strict=True):
            row = rng.random(len(answers), dtype=np.float32)
            row[own] += rng.random(len(own)) * 0.15  # some come first
            rows[query] = row
            ranked[queries[query]] = [answers[j] for j in np.argsort(-row)[:60]]
        found[way] = query_scores(rows, matches[way])
        retrieved[way] = ranked
    expected = metrics.eccv_metrics(retrieved, 'all')
    for way in names:
        for ours, theirs in dict(r1='r1', rp='rprecision', map_at_r='map_at_r').items():
            value = found[way][ours].mean()
            assert value == pytest.approx(expected[f'eccv_{theirs}'][way], abs=1e-9)
            assert 0.01 < value < 0.99
        assert found[way]['r10'].mean() == pytest.approx(
            metrics.eccv_recalls(retrieved, way, 10)[way]
        )
