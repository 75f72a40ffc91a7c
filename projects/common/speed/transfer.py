"""Copies to a GPU that the host does not wait for."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ['to_device']


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Copy a tensor to a device, through pinned memory if it is a GPU.

    Args:
        tensor: Any shape.
        device: Device of the result.

    Returns:
        The tensor itself if it already lies there.
    """
    if torch.device(device).type == 'cuda' and tensor.device.type == 'cpu':
        tensor = tensor.pin_memory()  # the host waits for copies from other memory
    return tensor.to(device, non_blocking=True)
