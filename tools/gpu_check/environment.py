"""Driver, PyTorch's build, and the operators of mmcv and torchvision against the CPU."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .report import Context, Finding, Skipped, check


@check('environment/driver', 'install a driver for the CUDA version of PyTorch, or another PyTorch')
def driver(context: Context) -> Iterator[Finding]:
    if not torch.cuda.is_available():
        yield Finding('a GPU is available', False, True)
        return
    version = ctypes.c_int()
    ctypes.CDLL('libcuda.so.1').cuDriverGetVersion(ctypes.byref(version))  # 13000 for CUDA 13.0
    built_for = int(torch.version.cuda.split('.')[0])
    yield Finding('CUDA version of the driver', version.value // 1000, built_for, least=True)
    free, _ = torch.cuda.mem_get_info()
    advice = 'end what else uses the GPU, or choose another one with CUDA_VISIBLE_DEVICES'
    yield Finding('free memory in GiB', free / 2**30, 2.0, advice, least=True)


@check(
    'environment/products',
    'install a PyTorch that has kernels for this GPU; does nvidia-smi report errors?',
)
def products(context: Context) -> Iterator[Finding]:
    a, b = (torch.randn(64, 64, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    found = (a.cuda() @ b.cuda()).cpu()
    yield Finding('error of a product', float((found - a @ b).abs().max()), 1e-4)


def _inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Return feature maps (2, 4, 20, 24), RoIs (40, 5) and scores (40,)."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 4, 20, 24, generator=generator)
    low = torch.rand(40, 2, generator=generator) * torch.tensor([60.0, 40.0])
    size = 4 + torch.rand(40, 2, generator=generator) * 30
    image = torch.arange(40)[:, None] % 2
    return features, torch.cat([image, low, low + size], 1), torch.rand(40, generator=generator)


def _pooled(pool: Callable, device: str) -> tuple[Tensor, Tensor]:
    """Return the result of a pooling operator and the gradient of its input, on the CPU."""
    features, rois, _ = _inputs()
    features = features.to(device).requires_grad_()
    found = pool(features, rois.to(device))
    weights = torch.linspace(0, 1, found.numel(), device=device).view_as(found)
    (found * weights).sum().backward()
    return found.detach().cpu(), features.grad.cpu()


def _differences(pool: Callable, expected: Callable, name: str) -> Iterator[Finding]:
    on_gpu, on_cpu = _pooled(pool, 'cuda'), _pooled(expected, 'cpu')
    for what, a, b in zip(('forward', 'backward'), on_gpu, on_cpu):
        yield Finding(f'{name} {what}', float((a - b).abs().max()), 1e-3)


@check('environment/torchvision', 'install a torchvision of the same CUDA build as PyTorch')
def torchvision_operators(context: Context) -> Iterator[Finding]:
    from torchvision import ops

    yield from _differences(ops.RoIAlign(7, 0.25, 2), ops.RoIAlign(7, 0.25, 2), 'RoIAlign')
    yield from _differences(ops.RoIPool(7, 0.25), ops.RoIPool(7, 0.25), 'RoIPool')
    _, rois, scores = _inputs()
    kept = ops.nms(rois[:, 1:].cuda(), scores.cuda(), 0.5).cpu()
    same = torch.equal(kept, ops.nms(rois[:, 1:], scores, 0.5))
    yield Finding('NMS keeps the same boxes', same, True)


def _mmcv_lacks_cuda() -> bool:
    from mmcv import ops

    try:
        features, rois, _ = _inputs()
        ops.RoIAlign(7, 0.25, 2)(features.cuda(), rois.cuda())
    except RuntimeError as error:
        if 'not found' in str(error) or 'not compiled' in str(error):
            return True
        raise
    return False


@check('environment/mmcv', 'build mmcv again for this GPU: FORCE_CUDA=1 make env')
def mmcv_operators(context: Context) -> Iterator[Finding]:
    from mmcv import ops

    if _mmcv_lacks_cuda():
        raise Skipped("mmcv was built without CUDA: torchvision's operators are used in its place")
    yield from _differences(ops.RoIAlign(7, 0.25, 2), ops.RoIAlign(7, 0.25, 2), 'RoIAlign')
    pooled, gradient = _pooled(ops.RoIPool(7, 0.25), 'cuda')  # has no implementation for a CPU
    finite = bool(pooled.isfinite().all() and gradient.isfinite().all())
    yield Finding('RoIPool is finite', finite and bool(gradient.any()), True)
    _, rois, scores = _inputs()
    kept = ops.nms(rois[:, 1:].cuda(), scores.cuda(), 0.5)[1].cpu()
    same = torch.equal(kept, ops.nms(rois[:, 1:], scores, 0.5)[1])
    yield Finding('NMS keeps the same boxes', same, True)
