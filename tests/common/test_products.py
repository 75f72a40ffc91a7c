import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from projects.common.speed import products
from projects.common.speed.products import (
    FastProducts,
    FastProductsHook,
    fast_products,
    linear,
)


@pytest.fixture
def calls(monkeypatch):
    """How often oneDNN was asked."""
    if products._ONEDNN is None or not torch.backends.mkldnn.is_available():
        pytest.skip('this PyTorch has no oneDNN')
    made = []
    ours = products._ONEDNN
    monkeypatch.setattr(products, '_ONEDNN', lambda *arguments: made.append(1) or ours(*arguments))
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
    monkeypatch.setattr(products, '_LARGE', 0)
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
    layer = nn.Linear(7, 11)
    x = torch.randn(3, 7)
    with FastProducts():
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
    assert len(calls) == 1
    layer(x)  # outside of the context
    assert len(calls) == 1


def test_every_linear_of_a_library(calls):
    torch.manual_seed(0)
    module = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True).eval()
    x, memory = torch.randn(2, 5, 8), torch.randn(2, 3, 8)
    with torch.no_grad():
        expected = module(x, memory)
        assert not calls
        with FastProducts():
            torch.testing.assert_close(module(x, memory), expected)
    assert len(calls) >= 2
    assert type(module.linear1) is nn.Linear


def test_steps_aside_for_whatever_reads_a_model(calls):
    model = nn.Sequential(nn.Linear(7, 11), nn.ReLU(), nn.Linear(11, 3)).eval()
    x = torch.randn(5, 7)
    with torch.no_grad(), FastProducts():
        traced = torch.jit.trace(model, x, check_trace=False)
        with FlopCounterMode(display=False) as counter:
            model(x)
        exported = torch.export.export(model, (x,))
        assert not calls
    assert 'aten::linear' in str(traced.inlined_graph)
    assert counter.get_total_flops() == 2 * 5 * (7 * 11 + 11 * 3)
    assert any('linear' in str(node.target) for node in exported.graph.nodes)
    quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    assert isinstance(quantised[0], torch.ao.nn.quantized.dynamic.Linear)


@pytest.mark.parametrize('slow', [True, False])
@pytest.mark.parametrize('gpu', [True, False])
def test_only_where_it_helps(monkeypatch, slow, gpu):
    monkeypatch.delenv(products.VARIABLE, raising=False)
    monkeypatch.setattr(products, 'mkl_is_slow', lambda: slow)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    assert isinstance(fast_products(), FastProducts) == (slow and not gpu)
    assert isinstance(fast_products(True), FastProducts)
    assert not isinstance(fast_products(False), FastProducts)
    for value, expected in (('0', False), ('1', True)):
        monkeypatch.setenv(products.VARIABLE, value)
        for enabled in (None, True, False):
            assert isinstance(fast_products(enabled), FastProducts) == expected


@pytest.mark.parametrize(
    ('description', 'slow'),
    [
        ('vendor_id : AuthenticAMD\nflags : avx2 avx512f', True),
        ('vendor_id : AuthenticAMD\nflags : avx2', False),
        ('vendor_id : GenuineIntel\nflags : avx2 avx512f', False),
    ],
)
def test_mkl_is_slow_only_without_its_own_avx512(monkeypatch, description, slow):
    monkeypatch.setattr(products.Path, 'read_text', lambda path: description)
    products.mkl_is_slow.cache_clear()
    try:
        assert products.mkl_is_slow() == slow
    finally:
        products.mkl_is_slow.cache_clear()


def test_hook_covers_a_run(calls, monkeypatch):
    monkeypatch.delenv(products.VARIABLE, raising=False)
    layer, x = nn.Linear(7, 11), torch.randn(3, 7)
    hook = FastProductsHook(True)
    with torch.no_grad():
        for run in (1, 2):
            hook.before_run(None)
            if run == 2:
                hook.before_run(None)  # the run before ended in an error
            layer(x)
            assert len(calls) == run
            hook.after_run(None)
            layer(x)
            assert len(calls) == run
