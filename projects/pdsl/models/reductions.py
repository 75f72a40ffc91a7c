"""From the sums of a loss over images to one number."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from projects.common.errors import InputError

REDUCTIONS = ('sum', 'mean', 'batch_mean')


def reduce_images(
    sums: Sequence[Tensor], counts: Sequence[float | Tensor], reduction: str
) -> Tensor:
    """Reduce the images' sums of a loss to one number.

    The result does not grow with the number of images. With the first two reductions, gradient
    accumulation over images, and processes with one image each, equal a batch of these images.

    Args:
        sums: The sum of a loss over each image.
        counts: The number by which a mean divides each image's sum.
        reduction: 'mean': the images' means, averaged over images. 'sum', as in the paper: the
            images' sums, averaged over images. 'batch_mean', as in the released code: the mean over
            the whole batch.

    Raises:
        ValueError: ``reduction`` is unknown.
    """
    if reduction == 'sum':
        return torch.stack(list(sums)).mean()
    if reduction == 'mean':
        return torch.stack([each / _at_least_1(n) for each, n in zip(sums, counts)]).mean()
    if reduction == 'batch_mean':
        return torch.stack(list(sums)).sum() / _at_least_1(sum(counts))
    raise InputError(f'reduction: {reduction!r}; expected one of {REDUCTIONS}')


def _at_least_1(count: float | Tensor) -> float | Tensor:
    # counts of the device stay there and those of the host here: neither waits for the other
    return count.clamp(min=1) if isinstance(count, Tensor) else max(float(count), 1.0)


class ReducedLoss(nn.Module):
    """Reduce the images' sums of a loss to one number.

    Args:
        reduction: See :func:`reduce_images`.
        loss_weight: Factor of the result.

    Raises:
        ValueError: ``reduction`` is unknown.
    """

    reductions: Sequence[str] = REDUCTIONS

    def __init__(self, reduction: str = 'mean', loss_weight: float = 1.0) -> None:
        super().__init__()
        self._check('reduction', reduction, self.reductions)
        self.reduction = reduction
        self.loss_weight = loss_weight

    def reduce(self, sums: Sequence[Tensor], counts: Sequence[float | Tensor]) -> Tensor:
        """Return the weighted loss of a batch, a scalar; see :func:`reduce_images`."""
        return self.loss_weight * reduce_images(sums, counts, self.reduction)

    def _check(self, name: str, value: str, expected: Sequence[str]) -> None:
        if value not in expected:
            raise InputError(f'{type(self).__name__}: {name}={value!r}, expected one of {expected}')
