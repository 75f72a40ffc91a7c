"""Recalls as statistics of images, groups of captions and pairs, against direct counts."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from projects.rvse.evaluation import (
    best_answers,
    matrix_scores,
    retrieval_ranks,
    retrieval_summary,
)
from projects.rvse.evaluation.caption_groups import caption_groups
from projects.rvse.evaluation.image_statistics import (
    QueryRanks,
    ranks_of_answers,
    recall_statistics,
)
from projects.rvse.evaluation.pairs import pair_outcomes

OWNER = np.array([0, 0, 1, 2, 2, 2, 3, 4, 4, 5])
TEXTS = [f'caption {number}' for number in range(len(OWNER))]


def dataset() -> SimpleNamespace:
    infos = [
        dict(image_id=i, ori_id=f'id{i}', text=[t for t, o in zip(TEXTS, OWNER) if o == i])
        for i in range(6)
    ]
    return SimpleNamespace(
        img_size=6, text_size=10, image_of_caption=OWNER, source='caps.json',
        get_data_info=lambda i: infos[i], captions=lambda: TEXTS,
    )  # fmt: skip


def similarities(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, (6, 10))
    return (OWNER[None] == np.arange(6)[:, None]) + noise


def answers() -> list[dict]:
    ranks = retrieval_ranks(matrix_scores(similarities()), OWNER, 6, top_k=3)
    return json.loads(json.dumps(best_answers(dataset(), ranks)))


def test_ranks_of_a_file():
    ranks = retrieval_ranks(matrix_scores(similarities()), OWNER, 6)
    found = ranks_of_answers(dataset(), answers()[::-1], 'answers.json')  # in any order
    assert found.i2t.tolist() == ranks.i2t.tolist()
    assert found.t2i.tolist() == ranks.t2i.tolist() and max(found.t2i) > 0


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda rows: rows[:-1], r'no rank of 1 of 10 captions of caps.json'),
        (lambda rows: rows[1:], r'no rank of 1 of 6 images of caps.json'),
        (lambda rows: [dict(rows[-1], text='x')], "the caption 'x' is not number 9 of caps.json"),
        (lambda rows: [dict(rows[0], ori_id='x')], "the image 'x' is not number 0 of caps.json"),
        (lambda rows: [dict(pred_instances={})], 'entries without a rank, expected what tools'),
        (lambda rows: dict(a=1), 'entries without a rank'),
    ],
)
def test_files_of_something_else(change, message):
    with pytest.raises(ValueError, match=f'answers.json: .*{message}'):
        ranks_of_answers(dataset(), change(answers()), 'answers.json')


def test_values_are_those_of_the_summary():
    """Also of images that are drawn several times, with all their captions."""
    rng = np.random.default_rng(1)
    ranks = QueryRanks(rng.integers(0, 12, 6), rng.integers(0, 12, 10), OWNER)
    weights = np.array([[1, 1, 1, 1, 1, 1], [2, 0, 1, 3, 0, 0]], float)
    found = {name: each(weights) for name, each in recall_statistics(ranks).items()}
    for row, times in enumerate(weights.astype(int)):
        expected = retrieval_summary(
            np.repeat(ranks.i2t, times), np.repeat(ranks.t2i, times[OWNER])
        )
        for name, values in found.items():
            assert values[row] == pytest.approx(expected[name]), name
    assert len(found) == 7
    chosen = np.arange(10) < 4
    part = recall_statistics(ranks, chosen)
    assert set(part) == {'t2i/r1', 't2i/r5', 't2i/r10'}
    assert part['t2i/r5'](np.ones((1, 6)))[0] == pytest.approx(100 * np.mean(ranks.t2i[:4] < 5))


def test_groups_by_hand():
    texts = ['A red dog.', 'Two men near a dog in the park today', 'grass', *['The dog'] * 20]
    groups = caption_groups(texts)
    length, kinds, frequent = groups.values()
    assert {name: mask.sum() for name, mask in length.items()} == {'1 to 5': 22, '9 to 10': 1}
    assert {name: mask.sum() for name, mask in kinds.items()} == {
        'colors': 1, 'numbers': 1, 'positions': 1, 'people': 1, 'none of these': 21
    }  # fmt: skip
    assert kinds['people'].tolist() == [i == 1 for i in range(23)]
    assert {name: mask.sum() for name, mask in frequent.items()} == {'dog': 22}  # 'the' says little


def test_pairs():
    matrix = similarities()
    outcomes = pair_outcomes(matrix, OWNER)
    assert outcomes.kind == 'matching' and outcomes.weights is None
    expected = sorted((matrix[i, j], bool(OWNER[j] == i)) for i in range(6) for j in range(10))
    assert sorted(zip(outcomes.scores, outcomes.correct.tolist())) == expected
    assert np.bincount(outcomes.images).tolist() == [10] * 6


def test_a_sample_of_the_pairs_stands_for_all():
    owner = np.repeat(np.arange(100), 3)
    matrix = np.random.default_rng(7).random((100, 300)).astype(np.float32)
    outcomes = pair_outcomes(matrix, owner, most=6000)
    assert 5000 < len(outcomes.scores) < 7500
    assert outcomes.correct.sum() == 300  # all that belong together
    assert outcomes.weights.sum() == pytest.approx(30_000)
    assert (outcomes.weights[outcomes.correct] == 1).all()
    found = np.average(outcomes.scores, weights=outcomes.weights)
    assert found == pytest.approx(matrix.mean(), abs=0.02)
