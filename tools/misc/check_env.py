"""Check that the environment works: versions, GPU, one cv2, mmcv's operators, a BERT forward.

python tools/misc/check_env.py
"""

import importlib.metadata
import os
import sys

os.environ.setdefault('HF_HUB_OFFLINE', '1')  # no check needs a network


def check_one_cv2() -> str:
    """Raise an error if several distributions write to the single `cv2` package."""
    found = sorted(
        name
        for name in {dist.metadata['Name'] for dist in importlib.metadata.distributions()}
        if name and name.lower().startswith('opencv-')
    )
    if len(found) != 1:
        raise RuntimeError(f'exactly one distribution may provide cv2, found {found or "none"}')
    return found[0]


def describe_gpu() -> str:
    """Return which device is used, and whose operators on a GPU."""
    import torch
    from mmcv.ops import get_compiling_cuda_version

    compiled = get_compiling_cuda_version()
    operators = f"mmcv's, for CUDA {compiled}"
    if compiled == 'not available':
        operators = (
            "torchvision's, because mmcv was built without CUDA; FORCE_CUDA=1 make env builds it "
            'with CUDA (docs/installation.md)'
        )
    if torch.version.cuda is None:
        return 'no GPU: this PyTorch was built without CUDA; everything runs on the CPU'
    try:
        torch.cuda.init()
    except RuntimeError as error:
        problem = ' '.join(str(error).split()).split('. ')[0]
        if problem.startswith(('Found no NVIDIA driver', 'No CUDA GPUs')):
            return f'no GPU here: everything runs on the CPU. Operators on a GPU: {operators}'
        return (
            f'the GPU cannot be used: {problem}. This PyTorch needs a driver for CUDA '
            f'{torch.version.cuda}; until it is installed everything runs on the CPU'
        )
    names = ', '.join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return f'GPU: {names} (CUDA {torch.version.cuda}). Operators: {operators}'


def main() -> int:
    import cv2
    import mmcv
    import mmdet
    import mmengine
    import mmpretrain
    import numpy as np
    import torch
    import torchvision
    import transformers
    from mmcv.ops import nms, roi_align
    from transformers import BertConfig, BertModel

    print(f'  python {sys.version.split()[0]}  ({sys.prefix})')
    for module in (torch, torchvision, mmengine, mmcv, mmdet, mmpretrain, transformers, np, cv2):
        print(f'  {module.__name__} {module.__version__}')
    print(f'  {describe_gpu()}')

    distribution = check_one_cv2()
    if not hasattr(cv2, 'ximgproc'):
        raise RuntimeError(
            f'cv2 comes from {distribution}, which lacks ximgproc: install '
            'opencv-contrib-python-headless'
        )
    print(f'  cv2 from {distribution} alone: ok')

    # Two boxes with an IoU of 81 / 119 > 0.5 and a separate one: NMS removes the weaker of the two.
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 1.0, 11.0, 11.0], [20.0, 20.0, 30.0, 30.0]])
    _, kept = nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)
    if kept.tolist() != [0, 2]:
        raise RuntimeError(f'mmcv.ops.nms kept {kept.tolist()}, expected [0, 2]')
    pooled = roi_align(
        torch.full((1, 1, 8, 8), 3.0), torch.tensor([[0.0, 0.0, 0.0, 4.0, 4.0]]), (2, 2)
    )
    if not torch.allclose(pooled, torch.full((1, 1, 2, 2), 3.0)):
        raise RuntimeError(f'mmcv.ops.roi_align of a constant 3 gave {pooled.flatten().tolist()}')
    print('  mmcv operators (nms, roi_align): ok')

    bert = BertModel(
        BertConfig(
            vocab_size=32,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
        )
    ).eval()
    with torch.no_grad():
        hidden = bert(
            input_ids=torch.tensor([[2, 5, 3, 0]]), attention_mask=torch.tensor([[1, 1, 1, 0]])
        ).last_hidden_state
    if hidden.shape != (1, 4, 16) or not torch.isfinite(hidden).all():
        raise RuntimeError(
            f'the BERT forward gave shape {tuple(hidden.shape)} or values that are not finite'
        )
    print('  BERT forward: ok')
    return 0


if __name__ == '__main__':
    sys.exit(main())
