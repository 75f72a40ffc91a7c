"""AOQ, NCR and Meta-SPN against values by hand, brute force and finite differences."""

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

import projects.rvse.register  # noqa: F401
from projects.rvse.losses import clean_probability, mine_offline_negatives, soft_margin


def build(name: str, **kwargs) -> nn.Module:
    return MODELS.build(dict(type=name, **kwargs))


def test_aoq_by_hand():
    """Two pairs with offline scores: mined captions, mined images, both, their owners."""
    S = torch.tensor([[0.5, 0.4], [0.1, 0.7]], dtype=torch.float64)
    offline = torch.tensor([[0.6, 0.2], [0.3, 0.75], [0.8, 0.1], [0.4, 0.9]], dtype=torch.float64)
    # images: i0 online .4 -> hinge .1, weight 1.5 - (.6 - .4)/.3 = 5/6; offline .6 - .5 = .1
    #         i1 online .1 -> hinge 0; offline .2 - .7 -> 0
    # captions: t0 online .1 -> 0; offline .3 -> 0
    #           t1 online .4 - .7 + .2 -> 0; offline .75 - .7 = .05
    # no anchor in common: mined .8 - .5 = .3, .1 - .7 -> 0; owners .4 - .5 -> 0, .9 - .7 = .2
    expected = 0.1 * 5 / 6 + 0.1 + 0.05 + 0.3
    five = build('AOQLoss', terms=5)
    assert five(S, offline=offline[:3]).item() == pytest.approx(expected, abs=1e-12)
    loss = build('AOQLoss')
    assert loss(S, offline=offline).item() == pytest.approx(expected + 0.2, abs=1e-12)
    mean = build('AOQLoss', reduction='mean')(S, offline=offline).item()
    assert mean == pytest.approx((expected + 0.2) / 4)
    with pytest.raises(ValueError, match=r'of shape \(3, 2\), expected \(4, 2\)'):
        loss(S, offline=offline[:3])
    with pytest.raises(ValueError, match='of shape None, expected'):
        loss(S)
    with pytest.raises(ValueError, match='terms=4, expected 5 or 6'):
        build('AOQLoss', terms=4)


@pytest.mark.parametrize('rows', [1, 3, 7])
def test_mining_finds_what_sorting_the_whole_matrix_finds(rows):
    generator = torch.Generator().manual_seed(0)
    images, per_image, top = 7, 3, 4
    S = torch.rand(images, images * per_image, generator=generator)
    owner = torch.arange(images).repeat_interleave(per_image)
    captions, pictures = mine_offline_negatives(S.split(rows), owner, top, top)
    for i in range(images):
        others = [j for j in S[i].argsort(descending=True).tolist() if owner[j] != i]
        assert captions[i].tolist() == others[:top]
    for j in range(images * per_image):
        others = [i for i in S[:, j].argsort(descending=True).tolist() if i != owner[j]]
        assert pictures[j].tolist() == others[:top]
    with pytest.raises(ValueError, match='a caption has 6 negatives, expected top_images=7'):
        mine_offline_negatives(S.split(rows), owner, 4, 7)


def test_ncr_margins_by_hand():
    # labels 1, 0 and log10(5.5): margins .2, 0 and half of .2
    labels = torch.tensor([1.0, 0.0, np.log10(5.5)], dtype=torch.float64)
    assert soft_margin(labels, 0.2).tolist() == pytest.approx([0.2, 0.0, 0.1])
    S = torch.tensor([[0.5, 0.4, 0.0], [0.0, 0.6, 0.0], [0.45, 0.0, 0.5]], dtype=torch.float64)
    # images: .4 - .5 + .2 = .1; 0 - .6 -> 0; .45 - .5 + .1 = .05
    # captions: .45 - .5 + .2 = .15; .4 - .6 + 0 -> 0; 0 - .5 + .1 -> 0
    loss = build('NCRLoss')
    assert loss(S, labels=labels).item() == pytest.approx(0.1 + 0.05 + 0.15)
    assert loss(S).item() == build('HardNegativeLoss')(S).item()
    hardest = build('NCRLoss', split='hardest')
    assert hardest.pair_losses(S).sum().item() == pytest.approx(loss(S).item())


def test_clean_probability_separates_two_groups():
    generator = np.random.default_rng(0)
    clean = generator.normal(0.2, 0.05, 300)
    noisy = generator.normal(1.0, 0.1, 100)
    matched = clean_probability(np.concatenate([clean, noisy])) > 0.5
    assert matched[:300].all() and not matched[300:].any()


class Bilinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(3, dtype=torch.float64) * 0.1)

    def forward(self, images, captions):
        return images @ self.weight @ captions.T


def test_meta_spn_learns_from_a_step_ahead():
    """Its gradient is the change of the loss after a real step, by finite differences."""
    torch.manual_seed(0)
    loss = build('MetaSPNLoss', hidden=4).double()
    model = Bilinear()
    batch, meta_batch = ([torch.randn(4, 3, dtype=torch.float64) for _ in range(2)] for _ in 'ab')

    def after_a_step() -> float:
        stepped = Bilinear()
        loss(stepped(*batch)).backward()
        with torch.no_grad():
            stepped.weight -= 0.05 * stepped.weight.grad
            return build('HardNegativeLoss')(stepped(*meta_batch)).item()

    judged = loss.meta_backward(model, None, tuple(batch), tuple(meta_batch), lr=0.05)
    assert judged.item() == pytest.approx(after_a_step(), abs=1e-12)
    assert model.weight.grad is None
    bias = loss.weighting[2].bias
    weight = loss.weighting[0].weight
    for parameter, place in ((bias, (0,)), (weight, (1, 0)), (weight, (2, 1))):
        values = []
        for step in (1e-5, -2e-5):
            with torch.no_grad():
                parameter[place] += step
            values.append(after_a_step())
        with torch.no_grad():
            parameter[place] += 1e-5
        expected = (values[0] - values[1]) / 2e-5
        assert parameter.grad[place].item() == pytest.approx(expected, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize('dtype', [torch.float16, torch.float32])
@pytest.mark.parametrize('batch', [1, 2, 7])
@pytest.mark.parametrize('name', ['AOQLoss', 'NCRLoss', 'MetaSPNLoss'])
def test_small_batches_and_half_precision(name, batch, dtype):
    torch.manual_seed(batch)
    S = torch.rand(batch, batch).to(dtype).requires_grad_()
    loss = build(name)
    mined = dict(offline=torch.rand(4, batch).to(dtype)) if name == 'AOQLoss' else {}
    value = loss(S, **mined)
    value.backward()
    assert value.dtype == torch.float32
    assert torch.isfinite(value) and torch.isfinite(S.grad).all()
    assert all(torch.isfinite(number) for number in loss.statistics.values())
    assert not any(p.grad is not None for p in loss.parameters())  # of Meta-SPN's network
