import pytest
import torch
import torch.nn.functional as F
from torch import nn

from projects.common.speed import matrix_product
from projects.common.speed.matrix_product import (
    FastLinear,
    linear,
    use_fast_linear,
)


@pytest.fixture
def calls(monkeypatch):
    """How often oneDNN was asked."""
    if matrix_product._ONEDNN is None or not torch.backends.mkldnn.is_available():
        pytest.skip('this PyTorch has no oneDNN')
    made = []
    ours = matrix_product._ONEDNN
    monkeypatch.setattr(
        matrix_product, '_ONEDNN', lambda *arguments: made.append(1) or ours(*arguments)
    )
    return made


@pytest.mark.parametrize('shape', [(5, 7), (2, 3, 7), (2, 3, 4, 7), (7,), (0, 7)])
@pytest.mark.parametrize('bias', [True, False])
def test_same_as_torch(calls, shape, bias):
    x, weight = torch.randn(shape), torch.randn(11, 7)
    bias = torch.randn(11) if bias else None
    torch.testing.assert_close(linear(x, weight, bias), F.linear(x, weight, bias))
    assert len(calls) == (0 not in shape)


def test_strides(calls):
    x, weight = torch.randn(7, 5, 3).transpose(0, 2), torch.randn(7, 11).T
    torch.testing.assert_close(linear(x, weight), F.linear(x, weight))
    assert calls


@pytest.mark.parametrize('shape', [(5, 7), (2, 3, 7), (7,)])
@pytest.mark.parametrize('bias', [True, False])
def test_gradients(calls, monkeypatch, shape, bias):
    """Of first and second order, against PyTorch's; of a result that is not contiguous."""
    monkeypatch.setattr(matrix_product, '_LARGE', 0)
    x, weight = torch.randn(shape, requires_grad=True), torch.randn(11, 7, requires_grad=True)
    given = [x, weight, *([torch.randn(11, requires_grad=True)] if bias else [])]
    found = []
    for product in (linear, F.linear):
        loss = product(*given).movedim(-1, 0).tanh().square().sum()
        first = torch.autograd.grad(loss, given, create_graph=True)
        second = torch.autograd.grad(sum(each.square().sum() for each in first), given)
        found.append((loss, first, second))
        if product is linear:
            assert len(calls) > 3
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


def test_gradients_only_where_they_are_asked_for(calls):
    x, weight = torch.randn(512, 128), torch.randn(128, 128, requires_grad=True)
    linear(x, weight).sum().backward()
    assert x.grad is None
    torch.testing.assert_close(weight.grad, x.sum(0).expand(128, 128), rtol=1e-4, atol=1e-4)
    assert len(calls) == 2
    linear(x[:1], weight).sum().backward()  # too small to be worth it
    assert len(calls) == 2


def test_vmap_is_left_to_torch(calls):
    x, weight = torch.randn(3, 5, 7), torch.randn(11, 7)
    found = torch.vmap(linear, in_dims=(0, None))(x, weight)
    torch.testing.assert_close(found, F.linear(x, weight))
    assert not calls


def test_left_to_torch(calls):
    layer = FastLinear(7, 11)
    x = torch.randn(3, 7)
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    with torch.no_grad(), torch.backends.mkldnn.flags(enabled=False):
        layer(x)
    with torch.no_grad():
        layer.double()(x.double())
        assert not calls
        layer.float()(x)
    assert calls


def test_plain_linears_of_a_library_are_changed():
    torch.manual_seed(0)
    module = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True).eval()
    x, memory = torch.randn(2, 5, 8), torch.randn(2, 3, 8)
    names = list(module.state_dict())
    with torch.no_grad():
        expected = module(x, memory)
        use_fast_linear(module)
        assert type(module.linear1) is FastLinear
        # attention reads the weights of this one itself
        assert type(module.self_attn.out_proj) is not FastLinear
        torch.testing.assert_close(module(x, memory), expected)
    assert list(module.state_dict()) == names


def test_packed(monkeypatch):
    torch.manual_seed(0)
    layer = FastLinear(7, 11)
    x = torch.randn(2, 3, 7)
    expected = x @ layer.weight.T + layer.bias
    with torch.no_grad():
        packed = layer.packed(6)
        torch.testing.assert_close(packed(x), expected)
        torch.testing.assert_close(packed(x[:, :1]), expected[:, :1])
        torch.testing.assert_close(packed(x.double().float()), expected)
    # where a gradient is asked for, the weight as it is now counts, not what was packed
    packed(x.requires_grad_()).sum().backward()
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand_as(x))
    assert layer.weight.grad is not None
    monkeypatch.setattr(matrix_product, '_ONEDNN', None)
    with torch.no_grad():
        torch.testing.assert_close(layer.packed(6)(x), expected)
