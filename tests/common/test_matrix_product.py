import pytest
import torch
import torch.nn.functional as F
from torch import nn

from projects.common import matrix_product
from projects.common.matrix_product import FastLinear, linear, use_fast_linear


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
