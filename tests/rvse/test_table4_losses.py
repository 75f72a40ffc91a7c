"""AOQ and NCR against their published algorithms, written out here as plain loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from sklearn.mixture import GaussianMixture

import projects.rvse.register  # noqa: F401
from projects.rvse.losses import clean_pairs, clean_probability

MARGIN = 0.2


def build(name: str, **kwargs) -> torch.nn.Module:
    return MODELS.build(dict(type=name, **kwargs))


def hinge(x):
    return max(x, 0.0)


# ------------------------------------------------------------------------------------------ AOQ


def aoq_by_loops(S, offline, terms: int = 6, clamp: bool = False):
    """Six terms a pair; plain numbers in, a number out."""
    B = len(S)
    total = 0.0
    for i in range(B):
        s_p = S[i][i]
        i2t_off, t2i_off, mined, *owners = (row[i] for row in offline)
        online_i = max(S[i][j] for j in range(B) if j != i)
        online_t = max(S[j][i] for j in range(B) if j != i)
        for on, off in ((online_i, i2t_off), (online_t, t2i_off)):
            weight = 1.5 - (off - on) / 0.3
            if clamp:
                weight = hinge(weight)
            total += weight * hinge(on - s_p + MARGIN)  # 1, 2
            total += hinge(off - s_p)  # 3, 4
        total += hinge(mined - s_p)  # 5
        if terms == 6:
            total += hinge(owners[0] - s_p)  # 6
    return total


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize(('terms', 'clamp'), [(6, False), (5, True)])
def test_aoq_value(seed, terms, clamp):
    rng = np.random.default_rng(seed)
    S = rng.uniform(-1, 1, (7, 7))
    S[np.diag_indices(7)] += 0.5
    offline = rng.uniform(-1, 2, (terms - 2, 7))  # some far above: negative weights
    expected = aoq_by_loops(S.tolist(), offline.tolist(), terms, clamp)
    loss = build('AOQLoss', terms=terms, clamp_weight=clamp)
    found = loss(torch.from_numpy(S), offline=torch.from_numpy(offline))
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_aoq_weight_is_unclamped_and_has_a_gradient():
    """By central differences of the loops, of S and of the offline scores."""
    rng = np.random.default_rng(5)
    S, offline = rng.uniform(0, 0.4, (4, 4)), rng.uniform(0.6, 1.2, (4, 4))
    value = aoq_by_loops(S.tolist(), (offline * [[1], [1], [0], [0]]).tolist())
    weightless = sum(hinge(off - S[i, i]) for row in offline[:2] for i, off in enumerate(row))
    assert value < weightless  # negative weights make the online part negative
    matrix = torch.tensor(S, requires_grad=True)
    mined = torch.tensor(offline, requires_grad=True)
    build('AOQLoss')(matrix, offline=mined).backward()
    for array, gradient in ((S, matrix.grad), (offline, mined.grad)):
        for place in itertools.product(range(4), range(4)):
            values = []
            for step in (1e-6, -2e-6):
                array[place] += step
                values.append(aoq_by_loops(S.tolist(), offline.tolist()))
            array[place] += 1e-6
            expected = (values[0] - values[1]) / 2e-6
            assert gradient[place].item() == pytest.approx(expected, abs=1e-6), place


# ------------------------------------------------------------------------------------------ NCR


def mean_hinges(S) -> list[float]:
    """Of each pair: mean hinge over the batch, both directions added."""
    B = len(S)
    found = []
    for i in range(B):
        others = [j for j in range(B) if j != i]
        rows = sum(hinge(S[i][j] - S[i][i] + MARGIN) for j in others) / B
        columns = sum(hinge(S[j][i] - S[i][i] + MARGIN) for j in others) / B
        found.append(rows + columns)
    return found


def prediction(S) -> list[float]:
    left = [min(max(MARGIN - mean / 2, 0.0), MARGIN) for mean in mean_hinges(S)]
    best = sorted(left)[-(len(S) // 10 + 1) :]
    scale = sum(best) / len(best)
    return [min(value / scale, 1.0) if scale else 0.0 for value in left]


def soft_hinges(S, labels) -> float:
    """Hardest negatives, the margin of each pair from its label."""
    B = len(S)
    total = 0.0
    for i in range(B):
        margin = MARGIN * (10 ** labels[i] - 1) / 9
        total += hinge(max(S[i][j] for j in range(B) if j != i) - S[i][i] + margin)
        total += hinge(max(S[j][i] for j in range(B) if j != i) - S[i][i] + margin)
    return total


@pytest.mark.parametrize('batch', [2, 9, 25])
def test_ncr_values(batch):
    rng = np.random.default_rng(batch)
    S = rng.uniform(0, 1, (batch, batch))
    S[np.diag_indices(batch)] = rng.uniform(0.6, 1.0, batch)
    labels = rng.uniform(0, 1, batch)
    loss = build('NCRLoss')
    matrix = torch.from_numpy(S)
    assert loss.pair_losses(matrix).tolist() == pytest.approx(mean_hinges(S.tolist()))
    assert loss.predict_labels(matrix).tolist() == pytest.approx(prediction(S.tolist()))
    assert max(loss.predict_labels(matrix).tolist()) > 0
    found = loss(matrix, labels=torch.from_numpy(labels)).item()
    assert found == pytest.approx(soft_hinges(S.tolist(), labels.tolist()))


def test_a_batch_without_any_margin_left_predicts_zero():
    S = torch.full((4, 4), 0.9).fill_diagonal_(0.1)
    assert build('NCRLoss').predict_labels(S).tolist() == [0, 0, 0, 0]


def test_mixture_has_the_released_limits():
    rng = np.random.default_rng(1)
    losses = np.concatenate([rng.normal(0.1, 0.08, 200), rng.normal(0.4, 0.2, 80)])
    scaled = ((losses - losses.min()) / np.ptp(losses))[:, None]
    mixture = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=3)
    mixture.fit(scaled)
    expected = mixture.predict_proba(scaled)[:, mixture.means_.argmin()]
    np.testing.assert_array_equal(clean_probability(losses, seed=3), expected)
    longer = clean_probability(losses, seed=3, max_iter=50, tol=1e-4)
    assert np.abs(longer - expected).max() > 1e-3


def test_where_all_pairs_match_a_hundredth_does_not():
    probability = np.linspace(0.6, 1.0, 300)
    assert clean_pairs(probability).sum() == 296  # above the fourth lowest
    assert clean_pairs(np.array([0.4, 0.6, 0.5])).tolist() == [False, True, False]
