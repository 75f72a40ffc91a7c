"""The GRU of training on a CPU against PyTorch's packed sequences."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from projects.rvse.models import gru
from projects.rvse.models.gru import run_gru


def packed(rnn: nn.GRU, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(rnn(packed)[0], batch_first=True, total_length=x.shape[1])[0]


@pytest.mark.parametrize('directions', [1, 2])
@pytest.mark.parametrize('rows', [1, 3, 100])  # of a group: one alone, groups and a rest, all
def test_numbers_and_gradients_of_packed_sequences(rows, directions, monkeypatch):
    monkeypatch.setattr(gru, '_ROWS', rows)
    lengths = torch.tensor([3, 7, 1, 7, 2, 5, 4])
    results = []
    for function in (packed, run_gru):
        torch.manual_seed(0)
        rnn = nn.GRU(4, 6, batch_first=True, bidirectional=directions == 2).double()
        x = torch.randn(7, 9, 4, dtype=torch.double, requires_grad=True)
        hidden = function(rnn, x, lengths)
        assert hidden.shape == (7, 9, 6 * directions)
        (hidden * torch.randn_like(hidden)).sum().backward()
        results.append([hidden, x.grad, *(p.grad for p in rnn.parameters())])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def test_pads_are_not_read():
    torch.manual_seed(0)
    rnn = nn.GRU(4, 6, batch_first=True, bidirectional=True)
    x = torch.randn(2, 5, 4)
    before = run_gru(rnn, x, torch.tensor([2, 4]))
    assert not before[0, 2:].any() and not before[1, 4:].any() and before[0, :2].all()
    x[0, 2:], x[1, 4:] = 1e3, -1e3
    torch.testing.assert_close(run_gru(rnn, x, torch.tensor([2, 4])), before)


def test_evaluation_gives_the_same():
    torch.manual_seed(0)
    rnn = nn.GRU(4, 6, batch_first=True, bidirectional=True)
    x, lengths = torch.randn(3, 5, 4), torch.tensor([2, 5, 1])
    training = run_gru(rnn, x, lengths)
    with torch.no_grad():
        torch.testing.assert_close(run_gru(rnn, x, lengths), training)
