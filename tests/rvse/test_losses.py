"""Matching losses against values by hand, the released code's outputs, and finite differences."""

import math

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS

import projects.rvse.register  # noqa: F401
from projects.rvse.losses import SelHNLoss, both_directions, selhn

# Rows are images, columns captions; margin 0.2.
#           t0    t1    t2
HAND = [
    [0.50, 0.60, 0.10],  # i0: s_p .5; negatives .6, .1
    [0.20, 0.40, 0.30],  # i1: s_p .4; negatives .2, .3
    [0.05, 0.00, 0.90],  # i2: s_p .9; negatives .05, 0
]
# Hinges [s_n - s_p + .2]_+, image anchors: i0 (.3, 0), i1 (0, .1), i2 (0, 0);
# caption anchors: t0 (s_p .5: .2, .05) -> 0, 0; t1 (s_p .4: .6, 0) -> .4, 0; t2 (.9: .1, .3) -> 0.
TRIPLET = 0.3 + 0.1 + 0.4
HARD = 0.3 + 0.1 + 0.4
# Below the positive: i0 .1 -> 0, i1 .3 -> .1, i2 .05 -> 0; t0 .2 -> 0, t1 0 -> 0, t2 .3 -> 0.
SEMI_HARD = 0.1
# Above it: i0 adds its score .6, t1 its score .6; below it: i1 adds .1.
SCT = 0.6 + 0.1 + 0.6
# Eq. 10: i0 .1, i1 .1, i2 .85; t0 .3, t1 .2, t2 .6.
DELTA_S = (0.1 + 0.1 + 0.85 + 0.3 + 0.2 + 0.6) / 6
# Anchors that count (s_n + .2 > s_p): i0 (p .5, n .6), i1 (.4, .3), t1 (.4, .6).
# [.2p^2 - .7p + .5]: .5 -> .2, .4 -> .252; [.9n^2 - .4n + .03]: .6 -> .114, .3 -> -.009 -> 0.
SSP = ((0.2 + 0.114) + 0.252 + (0.252 + 0.114)) / 3

LOSSES = {
    'ITMTripletLoss': TRIPLET,
    'HardNegativeLoss': HARD,
    'SemiHardNegativeLoss': SEMI_HARD,
    'SCTLoss': SCT,
    'SSPLoss': SSP,
    # eps .01: every delta s is above it, so HN; 'mean' is over 6 anchors
    'SelHNLoss': HARD / 6,
}


def build(name: str, **kwargs) -> torch.nn.Module:
    return MODELS.build(dict(type=name, **kwargs))


@pytest.mark.parametrize('name', LOSSES)
def test_by_hand(name):
    loss = build(name)
    S = torch.tensor(HAND, dtype=torch.float64)
    assert loss(S).item() == pytest.approx(LOSSES[name], abs=1e-12)
    assert loss.statistics['delta_s'].item() == pytest.approx(DELTA_S, abs=1e-12)
    assert loss.statistics['triplet_share'].item() == (name == 'ITMTripletLoss')


def test_several_negatives_within_the_margin():
    """All-negative and hardest-negative losses differ where two negatives are near."""
    S = torch.tensor([[0.5, 0.4, 0.45], [0.0, 0.5, 0.0], [0.0, 0.0, 0.5]], dtype=torch.float64)
    # i0: hinges .1, .15; t1: i0 scores .4 -> .1; t2: .45 -> .15
    assert build('ITMTripletLoss')(S).item() == pytest.approx(0.25 + 0.1 + 0.15)
    assert build('HardNegativeLoss')(S).item() == pytest.approx(0.15 + 0.1 + 0.15)


@pytest.mark.parametrize(
    ('normalizer', 'triplet'), [('batch', (0.5 + 0.25) / 3), ('negatives', (0.5 + 0.25) / 2)]
)
def test_selhn_takes_triplet_at_the_boundary(normalizer, triplet):
    """Eq. 9: L_T-HN needs delta s > eps, so delta s = eps is Triplet. All numbers are exact."""
    # i0: delta s = |.75 - .75 + ...| : s_p .75, hardest .5 -> .25 = eps; hinges .25, 0 at margin .5
    S = torch.tensor([[0.75, 0.5, 0.5], [0, 0.75, 0], [0, 0, 0.75]], dtype=torch.float64)
    image_anchors, _ = both_directions(S)
    assert image_anchors.delta_s.tolist() == [0.25, 0.75, 0.75]
    # two negatives of hinge .5 - .75 + .5 = .25 each
    at = selhn(image_anchors, margin=0.5, eps=0.25, normalizer=normalizer)
    count = 3 if normalizer == 'batch' else 2
    assert at[0].item() == pytest.approx((0.25 + 0.25) / count)
    above = selhn(image_anchors, margin=0.5, eps=0.25 - 2**-20, normalizer=normalizer)
    assert above[0].item() == 0.25  # the hardest alone
    # A row with hinges .5 and .25, delta s = 0 <= eps
    S = torch.tensor([[0.75, 0.75, 0.5], [0, 0.75, 0], [0, 0, 0.75]], dtype=torch.float64)
    row = selhn(both_directions(S)[0], margin=0.5, eps=0.25, normalizer=normalizer)
    assert row[0].item() == pytest.approx(triplet)


def test_selhn_share_and_reductions():
    S = torch.tensor([[0.75, 0.5, 0.5], [0, 0.75, 0], [0, 0, 0.75]], dtype=torch.float64)
    # image anchors: i0 on the boundary -> .5 / 3; i1, i2: delta s .75 -> hinge 0
    # caption anchors: t0 .75 -> 0; t1 and t2: hardest .5, delta s .25 -> (.25 + 0) / 3
    total = 0.5 / 3 + 0.25 / 3 + 0.25 / 3
    for reduction, divisor in (('sum', 1), ('batch_mean', 3), ('mean', 6)):
        loss = SelHNLoss(margin=0.5, eps=0.25, reduction=reduction)
        assert loss(S).item() == pytest.approx(total / divisor)
        assert loss.statistics['triplet_share'].item() == pytest.approx(3 / 6)


def test_selector_has_no_gradient():
    """On either side of the threshold the gradient is that of the branch alone."""
    S = torch.tensor([[0.5, 0.4, 0.45], [0.0, 0.5, 0.0], [0.0, 0.0, 0.5]], requires_grad=True)
    SelHNLoss(reduction='sum', eps=0.01)(S).backward()  # every anchor above eps: HN
    by_selhn, S.grad = S.grad.clone(), None
    build('HardNegativeLoss')(S).backward()
    assert torch.equal(by_selhn, S.grad)
    S.grad = None
    SelHNLoss(reduction='sum', eps=1.0, normalizer='negatives')(S).backward()
    by_selhn, S.grad = S.grad.clone(), None
    build('ITMTripletLoss')(S).backward()
    torch.testing.assert_close(by_selhn, S.grad / 2)


GOLDEN = {
    'triplet_sum': dict(type='ITMTripletLoss'),
    'hn_sum': dict(type='HardNegativeLoss'),
    'shn_sum': dict(type='SemiHardNegativeLoss'),
    'sct_sum': dict(type='SCTLoss'),
    'selhn_released': dict(type='SelHNLoss', normalizer='negatives', reduction='mean'),
    'selhn_sum_B': dict(type='SelHNLoss', normalizer='batch', reduction='sum'),
    'selhn_sum_Bm1': dict(type='SelHNLoss', normalizer='negatives', reduction='sum'),
    'selhn_meanmean_B': dict(type='SelHNLoss', normalizer='batch', reduction='batch_mean'),
    'ssp_m0.2': dict(type='SSPLoss', margin=0.2),
    'ssp_m0.5': dict(type='SSPLoss', margin=0.5),
}


@pytest.mark.parametrize('what', GOLDEN)
def test_golden(reference, what):
    golden = reference.golden('itm_losses')
    loss = MODELS.build(dict(GOLDEN[what]))
    S = torch.from_numpy(golden['s0_S']).requires_grad_()
    value = loss(S)
    golden.check(value, f's0_{what}', 1e-12)
    value.backward()
    golden.check(S.grad, f's0_{what}_grad', 1e-12)
    golden.check(loss(torch.from_numpy(golden['toy4_S'])), f'toy4_{what}', 1e-12)
    golden.check_relative(loss(S.detach().float()).item(), f's0_{what}', 1e-5)


def test_golden_per_anchor(reference):
    golden = reference.golden('itm_losses')
    for direction, anchors in zip(
        ('i2t', 't2i'), both_directions(torch.from_numpy(golden['s0_S']))
    ):
        golden.check(anchors.delta_s, f's0_delta_s_{direction}', 1e-12)
        branch = (anchors.delta_s <= 0.01).numpy()
        np.testing.assert_array_equal(branch, golden[f's0_triplet_branch_{direction}'])
        for name, normalizer in (('B', 'batch'), ('Bm1', 'negatives')):
            ours = selhn(anchors, 0.2, 0.01, normalizer)
            golden.check(ours, f's0_selhn_per_anchor_{name}_{direction}', 1e-12)


@pytest.mark.parametrize('name', LOSSES)
def test_further_positives_are_no_negatives(name):
    """Marking a pair equals giving it a score that no hinge reaches."""
    torch.manual_seed(0)
    S = torch.rand(6, 6, dtype=torch.float64) * 0.2 + 0.4
    S[0, 1] = S[0, 0] - 1e-3  # the hardest semi-hard negative, too
    S.requires_grad_()
    positives = torch.eye(6, dtype=torch.bool)
    positives[0, 1] = positives[1, 0] = positives[4, 2] = True
    marked = build(name, patience=0)(S, positives)
    far = S.detach().clone()
    far[0, 1] = far[1, 0] = far[4, 2] = -100
    assert marked.item() == pytest.approx(build(name, patience=0)(far).item(), abs=1e-12)
    assert marked.item() != build(name, patience=0)(S).item()
    marked.backward()
    assert S.grad[0, 1] == S.grad[1, 0] == S.grad[4, 2] == 0


def test_negatives_normaliser_counts_negatives():
    """With one of two negatives marked as positive, 'negatives' divides by one."""
    S = torch.tensor([[0.5, 0.5, 0.5]] * 3)
    positives = torch.zeros(3, 3, dtype=torch.bool)
    positives[0, 1] = True
    image_anchors, caption_anchors = both_directions(S, positives)
    for anchors, counts in ((image_anchors, [1, 2, 2]), (caption_anchors, [2, 1, 2])):
        assert anchors.num_negatives.tolist() == counts
        torch.testing.assert_close(selhn(anchors, 0.2, 0.01, 'negatives'), torch.full((3,), 0.2))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize('batch', [1, 2, 7])
@pytest.mark.parametrize('name', LOSSES)
def test_small_batches_and_half_precision(name, batch, dtype):
    torch.manual_seed(batch)
    S = torch.rand(batch, batch).to(dtype).requires_grad_()
    loss = build(name)
    value = loss(S)
    value.backward()
    assert value.dtype == torch.float32
    assert torch.isfinite(value) and torch.isfinite(S.grad).all()
    assert all(torch.isfinite(number) for number in loss.statistics.values())
    assert value.item() == pytest.approx(build(name)(S.detach().float()).item(), abs=1e-6)
    if batch == 1:
        assert value == 0 and not S.grad.any()


@pytest.mark.parametrize('name', LOSSES)
def test_gradient(name):
    torch.manual_seed(1)
    S = torch.rand(5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(build(name, patience=0), (S,))


def test_a_large_batch_does_not_overflow_in_half_precision():
    """Summed in half precision, 2 * 512 * 511 hinges of .2 would be infinite."""
    S = torch.full((512, 512), 0.5, dtype=torch.float16)
    assert build('ITMTripletLoss')(S).item() == pytest.approx(2 * 512 * 511 * 0.2, rel=1e-5)


def test_plateau_warns_once(log):
    collapsed = torch.full((8, 8), 0.7)
    loss = build('HardNegativeLoss', patience=5)
    assert loss(collapsed).item() == pytest.approx(2 * 8 * 0.2)
    for _ in range(3):
        loss(collapsed)
    assert not log
    for _ in range(12):
        loss(collapsed)
    (line,) = log
    assert "HardNegativeLoss (reduction='sum'): for 5 iterations" in line
    assert 'where this loss is 3.2 and' in line and 'SelHNLoss' in line and '\n' not in line


@pytest.mark.parametrize(
    ('name', 'reduction', 'value'),
    [
        ('HardNegativeLoss', 'mean', '0.2'),
        ('HardNegativeLoss', 'batch_mean', '0.4'),
        ('ITMTripletLoss', 'sum', '22.4'),  # 2 directions, 8 anchors, 7 negatives
        ('SelHNLoss', 'mean', '0.175'),  # 7 negatives over B
        ('SSPLoss', 'batch_mean', '0.598'),  # 2 (.108 + .191), of scores of .7
        ('NCRLoss', 'sum', '3.2'),
    ],
)
def test_plateau_names_the_loss_and_the_reduction_that_run(log, name, reduction, value):
    loss = build(name, patience=2, reduction=reduction)
    collapsed = torch.full((8, 8), 0.7)
    for _ in range(2):
        found = loss(collapsed).item()
    (line,) = log
    assert f'{name} (reduction={reduction!r})' in line and f'this loss is {value} and' in line
    assert found == pytest.approx(float(value), rel=1e-5)
    assert ('train with SelHNLoss' in line) == (name != 'SelHNLoss')


@pytest.mark.parametrize('place', [(1, 1), (0, 2), (3, 0)])
@pytest.mark.parametrize('name', LOSSES)
def test_nan_stays_nan(name, place):
    """A positive or a negative that is NaN: no loss leaves it out."""
    S = torch.rand(4, 4, generator=torch.Generator().manual_seed(0))
    S[place] = torch.nan
    assert math.isnan(build(name)(S).item())


def test_no_plateau_while_positives_stand_apart(log):
    loss = build('HardNegativeLoss', patience=3)
    for step in range(12):  # one good iteration within every run of bad ones
        loss(torch.eye(8) if step % 3 == 1 else torch.full((8, 8), 0.7))
    assert not log


def test_bad_input_says_what_was_expected():
    with pytest.raises(ValueError, match=r'S: shape \(2, 3\) and offset=0, expected \(B, B\)'):
        build('SelHNLoss')(torch.rand(2, 3))
    with pytest.raises(ValueError, match=r'positives: torch.float32 of shape \(2, 2\)'):
        build('SelHNLoss')(torch.rand(2, 2), torch.eye(2))
    rows = torch.rand(2, 4)
    with pytest.raises(ValueError, match=r'captions: shape \(4, 2\), expected that of S, \(2, 4\)'):
        build('SelHNLoss')(rows, captions=rows.T)
    with pytest.raises(ValueError, match=r'offset: 3, expected 0 to 2 for S of shape \(2, 4\)'):
        build('SelHNLoss')(rows, captions=rows, offset=3)
    with pytest.raises(ValueError, match="normalizer='B', expected one of"):
        build('SelHNLoss', normalizer='B')
    with pytest.raises(ValueError, match="reduction='none', expected one of"):
        build('HardNegativeLoss', reduction='none')
    assert math.isnan(build('SelHNLoss')(torch.full((2, 2), torch.nan)).item())
