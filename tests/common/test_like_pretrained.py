"""Features of a random backbone at the scale of a pretrained one."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from projects.common.preflight import RELEASED_RESNET18, LikePretrained, LikePretrainedHook
from projects.common.preflight.terms import undisturbed


def backbone() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU())


def test_the_first_batch_makes_the_scale():
    module = backbone()
    first, second = torch.randn(2, 3, 20, 20) * 90, torch.randn(1, 3, 20, 20) * 30
    plain = [module(first), module(second)]
    scaling = LikePretrained(module, 1.06, 1.32)
    y = module(first)
    assert y.mean().item() == pytest.approx(1.06, rel=1e-3)
    assert y.std().item() == pytest.approx(1.32, rel=1e-3)
    factor = 1.32 / plain[0].std()
    torch.testing.assert_close(
        module(second), (plain[1] * factor + 1.06 - factor * plain[0].mean()).relu()
    )
    y.sum().backward()
    assert module[0].weight.grad.abs().sum() > 0
    scaling.remove()
    assert torch.equal(module(second), plain[1])


def test_rectified_features_stay_so_and_others_do_not():
    rectified, linear = backbone(), nn.Conv2d(3, 16, 3)
    x = torch.randn(2, 3, 20, 20)
    for module in (rectified, linear):
        LikePretrained(module, 0.1, 2.0)
    assert rectified(x).min() == 0
    assert linear(x).min() < 0


def test_every_output_has_a_scale_of_its_own():
    class Pyramid(nn.Module):
        def forward(self, x):
            return {'low': (x, x * 100), 'index': torch.arange(3)}

    module = Pyramid()
    LikePretrained(module, 0.0, 1.0)
    y = module(torch.randn(4, 5))
    for level in y['low']:
        assert level.std().item() == pytest.approx(1, rel=1e-4)
    assert torch.equal(y['index'], torch.arange(3))


def test_the_hook():
    model = nn.Module()
    model.backbone = backbone()
    LikePretrainedHook().before_train(SimpleNamespace(model=model))
    y = model.backbone(torch.randn(2, 3, 20, 20))
    assert (y.mean().item(), y.std().item()) == pytest.approx(RELEASED_RESNET18, rel=1e-3)
    with pytest.raises(ValueError, match="has no 'neck'; expected one of backbone"):
        LikePretrainedHook(module='neck').before_train(SimpleNamespace(model=model))
    with pytest.raises(ValueError, match='standard deviation 0; expected more than 0'):
        LikePretrained(model.backbone, 1.0, 0)


def test_running_statistics_fit_the_first_batch():
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(8)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    first, second = torch.randn(2, 3, 9, 9) * 90 + 40, torch.randn(1, 3, 9, 9) * 50
    before = module[0](first)
    LikePretrained(module, 0.0, 1.0)
    with undisturbed(module, but=module):
        y = module(first)
    assert y.std().item() == pytest.approx(1, rel=1e-3)
    torch.testing.assert_close(norm.running_mean, before.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, before.var((0, 2, 3)))
    assert not norm.training and norm.momentum == 0.1
    known = norm.running_mean.clone()
    module(second)
    assert torch.equal(norm.running_mean, known)
    torch.testing.assert_close(module(first), y)
