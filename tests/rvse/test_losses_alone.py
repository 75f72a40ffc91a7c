"""The losses need PyTorch alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ('mmcv', 'mmdet', 'mmpretrain', 'transformers', 'sklearn', 'cv2')
CODE = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {absent}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)

sys.meta_path.insert(0, Absent())
sys.path.insert(0, {root!r})
import torch
before = set(sys.modules)
from projects.rvse.losses import SelHNLoss

S = torch.tensor([[0.505, 0.5], [0.1, 0.8]], requires_grad=True)
loss = SelHNLoss(margin=0.2, eps=0.01, reduction='sum')(S)
loss.backward()
print(f'{{loss.item():.4f}}', S.grad.tolist())
print(sorted({{name.split('.')[0] for name in set(sys.modules) - before}} & {heavy}))
"""


@pytest.mark.parametrize(
    'absent', [('mmengine', *HEAVY), HEAVY, ()], ids=['torch', 'mmengine', 'all']
)
def test_importing_them_imports_nothing_else(repo_root, absent):
    code = CODE.format(absent=set(absent), heavy=set(HEAVY), root=str(repo_root))
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    value, imported = done.stdout.strip().splitlines()
    # By hand: for image 1, delta s = |0.5 - 0.505| is at most eps, so that its loss is the sum
    # over all negatives divided by B: (0.2 - 0.505 + 0.5) / 2. No other anchor has a negative
    # within the margin.
    assert value == '0.0975 [[-0.5, 0.5], [0.0, 0.0]]'
    assert imported == '[]'
