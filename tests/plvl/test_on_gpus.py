"""What a training step asks of a GPU, observed on the CPU: its operators, and their results."""

from __future__ import annotations

import contextlib
import copy
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from projects.plvl.models import language_guided_block
from projects.plvl.models.relative_position import (
    relative_position_bias,
    resize_position_embedding,
    stretch,
)

from .test_eevg import tiny_model as tiny_eevg
from .test_models import batch, run, tiny_model

# https://docs.pytorch.org/docs/stable/generated/torch.use_deterministic_algorithms.html
NOT_DETERMINISTIC = {
    'upsample_linear1d_backward', 'upsample_bilinear2d_backward', 'upsample_bicubic2d_backward',
    'upsample_trilinear3d_backward', '_adaptive_avg_pool2d_backward', 'avg_pool3d_backward',
    'adaptive_max_pool2d_backward', 'max_pool3d_with_indices_backward', 'grid_sampler_2d_backward',
    'reflection_pad1d_backward', 'reflection_pad2d_backward', 'replication_pad2d_backward',
    'fractional_max_pool2d_backward', 'max_unpool2d', 'nll_loss2d_forward', '_ctc_loss_backward',
    '_embedding_bag', 'put_', 'histc', 'bincount', 'kthvalue', 'median', 'cumsum', 'resize_',
}  # fmt: skip


class Operators(TorchDispatchMode):
    """Count the operators called, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.counts[func._schema.name.split('::')[1]] += 1
        return func(*args, **(kwargs or {}))


MODELS_HERE = {'PLVL': tiny_model, 'EEVG': tiny_eevg}


@pytest.mark.parametrize('make', MODELS_HERE.values(), ids=MODELS_HERE)
def test_operators_have_deterministic_gradients(repo_root, make):
    """At a side for which all position tables are stretched."""
    model = make(repo_root).train()
    with Operators() as operators:
        sum(run(model, 'loss', batch(side=96)).values()).backward()
    assert operators.counts['convolution_backward']
    assert not NOT_DETERMINISTIC & set(operators.counts)
    stretched = [name for name, p in model.named_parameters() if 'pos' in name and p.grad.any()]
    assert any('rel_pos' in name for name in stretched) and any(
        'embed' in name for name in stretched
    )


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize('size', [(28, 28), (20, 31), (14, 20), (7, 3)])
def test_positions_stretch_as_pytorch_interpolates(size, dtype):
    """Values and gradients, bicubic for the grid and linear for the offsets."""
    torch.manual_seed(0)
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float64: 1e-12}[dtype]
    embed = torch.randn(1, 1 + 14 * 14, 8, dtype=dtype, requires_grad=True)
    ours = resize_position_embedding(embed, size)
    grid = embed[:, 1:].unflatten(1, (14, 14)).permute(0, 3, 1, 2)
    theirs = F.interpolate(grid, size=size, mode='bicubic', align_corners=False)
    table = torch.randn(27, 8, dtype=dtype, requires_grad=True)
    pairs = [
        (embed, ours, theirs.permute(0, 2, 3, 1)),
        (table, stretch(table, size[1], 'linear'),
         F.interpolate(table.T[None], size=size[1], mode='linear')[0].T),
    ]  # fmt: skip
    for source, found, expected in pairs:
        assert found.dtype == dtype
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
        weight = torch.randn_like(expected)
        gradients = [torch.autograd.grad((x * weight).sum(), source)[0] for x in (found, expected)]
        torch.testing.assert_close(*gradients, rtol=tolerance, atol=10 * tolerance)


def test_positions_are_stretched_in_float32_under_autocast():
    table = torch.randn(27, 8)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(stretch(table, 9, 'linear'), stretch(table.clone(), 9, 'linear'))
        found = stretch(table, 9, 'linear')
    torch.testing.assert_close(found, F.interpolate(table.T[None], size=9, mode='linear')[0].T)


def test_training_after_inference_and_no_new_state(repo_root):
    """The matrices are made once a size, are usable in training, and are in no state dict."""
    model = tiny_model(repo_root)
    keys = set(model.state_dict())
    model.eval()
    with torch.inference_mode():
        run(model, 'predict', batch(side=80))
    model.train()
    sum(run(model, 'loss', batch(side=80)).values()).backward()
    assert set(model.state_dict()) == keys
    copy.deepcopy(model)
    with Operators() as operators:
        run(model, 'loss', batch(side=80))
    assert not operators.counts['upsample_linear1d'] + operators.counts['upsample_bicubic2d']


# ---------------------------------------------------------------------------- waits of the host


class Copies(TorchDispatchMode):
    """Count copies from the host to the device."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        before, after = (
            [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
            for tree in ((args, kwargs), out)
        )
        if any(t.is_meta for t in after) and any(not t.is_meta and t.dim() for t in before):
            self.sizes.append(sum(t.numel() for t in after))
        return out


def large_batch(known=lambda i: True):
    parts = [batch(with_mask=(known(i), known(i + 1))) for i in range(0, 20, 2)]
    return {key: [item for part in parts for item in part[key]] for key in parts[0]}


@pytest.mark.parametrize('known', [lambda i: True, lambda i: i % 3 > 0], ids=['all', 'some'])
def test_a_step_reads_no_value_of_the_device(repo_root, monkeypatch, known):
    """On the meta device, whose tensors have no values: forward, backward and update."""
    model = tiny_model(repo_root).train().to('meta')
    monkeypatch.setattr(torch, 'autocast', lambda *_, **__: contextlib.nullcontext())
    optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
    with Copies() as copies:
        data = model.data_preprocessor(large_batch(known), training=True)
        losses = model(**data, mode='loss')
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert all(loss.is_meta for loss in losses.values())
    large = [size for size in copies.sizes if size > 20]
    assert sorted(large) == [80, 2 * 20 * 20, 20 * 128 * 128, 20 * 3 * 128 * 128]
    # the channels' order in mmengine, epsilon in mmdet's GIoU, and which masks are known
    assert len(copies.sizes) <= 7


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('sides', [(64, 64), (64, 96)], ids=['one size', 'two sizes'])
def test_the_preprocessor_is_mmdets(repo_root, training, sides):
    options = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)
    options |= dict(pad_mask=True, pad_size_divisor=40)
    results = []
    for kind in ('GroundingDataPreprocessor', 'mmdet.DetDataPreprocessor'):
        data = {key: [batch(side=side)[key][0] for side in sides] for key in batch()}
        results.append(MODELS.build(dict(type=kind, **options))(data, training))
    ours, theirs = results
    assert torch.equal(ours['inputs'], theirs['inputs'])
    for one, other in zip(ours['data_samples'], theirs['data_samples'], strict=True):
        assert one.metainfo == other.metainfo
        assert torch.equal(one.gt_instances.bboxes, other.gt_instances.bboxes)
        assert (one.gt_instances.masks.masks == other.gt_instances.masks.masks).all()


def test_without_samples(repo_root):
    model = tiny_model(repo_root)
    data = dict(inputs=torch.zeros(2, 3, 64, 64, dtype=torch.uint8), data_samples=None)
    assert model.data_preprocessor(data)['inputs'].shape == (2, 3, 64, 64)


@torch.no_grad()
@pytest.mark.parametrize('lengths', [(20, 7), (20, 20)], ids=['padded', 'full'])
def test_bert_reads_the_mask_as_transformers_does(repo_root, lengths):
    encoder = tiny_model(repo_root).text_encoder.eval()
    ids = torch.randint(0, 60, (2, 20))
    mask = (torch.arange(20) < torch.tensor(lengths)[:, None]).long()
    expected = encoder.bert(input_ids=ids, attention_mask=mask).last_hidden_state
    assert torch.equal(encoder(ids, mask), expected)


# --------------------------------------------------------------------------------- compilation


def test_the_losses_compile_to_one_graph(repo_root):
    """Behind the preprocessing, with stretched tables; the results are those of the eager model."""
    model = tiny_model(repo_root).train()
    model.text_encoder.eval()  # its dropout would be drawn elsewhere
    data = model.data_preprocessor(batch(side=96), training=True)
    graphs = CompileCounterWithBackend('aot_eager')
    results = []
    for function in (model, torch.compile(model, backend=graphs)):
        losses = function(**data, mode='loss')
        results.append((losses, torch.autograd.grad(sum(losses.values()), [*model.parameters()])))
    assert graphs.frame_count == 1
    (eager, expected), (compiled, found) = results
    torch.testing.assert_close(compiled, eager, rtol=1e-5, atol=1e-6)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5 + 1e-4 * other.abs().max())


# -------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize(('height', 'width', 'stride'), [(7, 9, 64), (14, 14, 200), (4, 8, 32)])
def test_the_bias_lies_in_aligned_rows(height, width, stride):
    """Where CUDA kernels take it without a copy, with the same values and gradients."""
    torch.manual_seed(0)
    shapes = ((2, 3, height * width, 8), (height, height, 8), (width, width, 8))
    parts = [torch.randn(shape, requires_grad=True) for shape in shapes]
    plain, aligned = (relative_position_bias(*parts, alignment) for alignment in (1, 8))
    assert torch.equal(plain, aligned)
    tokens = height * width
    assert aligned.stride() == (3 * tokens * stride, tokens * stride, stride, 1)
    weight = torch.randn_like(plain)
    gradients = [torch.autograd.grad((bias * weight).sum(), parts) for bias in (plain, aligned)]
    torch.testing.assert_close(*gradients)


def saved_sizes(model, data):
    """The gradients of a step, and the entries of everything kept for its backward pass."""
    sizes = []
    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: (sizes.append(t.numel()), t)[1], lambda t: t
    ):
        loss = sum(model(**data, mode='loss').values())
    return torch.autograd.grad(loss, list(model.parameters())), sizes


def test_a_gpu_keeps_neither_bias_nor_gelu(repo_root, monkeypatch):
    """What is computed anew in the backward pass has the same gradients."""
    model = tiny_model(repo_root).train()
    data = model.data_preprocessor(batch(), training=True)
    expected, all_sizes = saved_sizes(model, data)
    monkeypatch.setattr(language_guided_block, 'recomputes', lambda x: torch.is_grad_enabled())
    found, sizes = saved_sizes(model, data)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    images, heads, tokens, hidden = 2, 4, 64, 3 * 128
    for entries in (images * heads * tokens * tokens, images * tokens * hidden):
        blocks = len(model.backbone.blocks)
        assert all_sizes.count(entries) - sizes.count(entries) >= blocks, entries


def test_a_gpu_recomputes_only_to_train():
    x = torch.zeros(1, device='meta')
    assert language_guided_block.recomputes(x)
    assert not language_guided_block.recomputes(torch.zeros(1))
    with torch.no_grad():
        assert not language_guided_block.recomputes(x)
