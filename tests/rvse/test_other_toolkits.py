"""The losses of projects/rvse/README.md in the training loops of other toolkits, in their shape."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from projects.rvse.losses import SelHNLoss


@pytest.fixture(scope='module')
def readme(repo_root):
    """The names that the page's blocks for other toolkits define."""
    page = (repo_root / 'projects/rvse/README.md').read_text()
    blocks = [b for b in re.findall(r'```python\n(.*?)```', page, re.S) if 'class SelHN' in b]
    assert len(blocks) == 2
    names = dict(F=F, SelHNLoss=SelHNLoss, nn=nn)
    for block in blocks:
        exec(block, names)
    return names


class Encoder(nn.Module):
    """Sentence Transformers' shape: a dict of features in, the same dict with an embedding out."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 4)

    def forward(self, features):
        return {**features, 'sentence_embedding': self.linear(features['input'])}


def cosines(first, second):
    return torch.stack([F.cosine_similarity(row[None], second) for row in first])


def test_sentence_transformers(readme):
    torch.manual_seed(0)
    model = Encoder()
    loss = readme['SelHNPairsLoss'](model)
    a, b = torch.randn(5, 6), torch.randn(5, 6)
    value = loss([{'input': a}, {'input': b}], torch.zeros(5))
    wanted = SelHNLoss(reduction='mean')(cosines(model.linear(a), model.linear(b)))
    torch.testing.assert_close(value, wanted)
    optimizer = torch.optim.SGD(loss.parameters(), 0.1)
    value.backward()
    optimizer.step()
    assert loss([{'input': a}, {'input': b}]) < value


def test_open_clip(readme):
    torch.manual_seed(0)
    images = F.normalize(torch.randn(5, 4), dim=-1).requires_grad_()
    texts = F.normalize(torch.randn(5, 4), dim=-1)
    model_out = dict(image_features=images, text_features=texts, logit_scale=torch.tensor(100.0))
    losses = readme['SelHNClipLoss']()(**model_out, output_dict=True)
    total = sum(losses.values())
    torch.testing.assert_close(total, SelHNLoss(reduction='mean')(cosines(images, texts)))
    total.backward()
    assert images.grad.abs().sum() > 0
