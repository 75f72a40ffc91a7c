"""Identify what embeddings depend on besides the input, so that different ones are never mixed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import torch
from mmengine.config import ConfigDict
from torch import nn

__all__ = ['embedding_space']


def embedding_space(model_cfg: ConfigDict, model: nn.Module, steps: Iterable[Any]) -> str:
    """Hash everything that embeddings depend on besides the input.

    Args:
        model_cfg: Config of the model.
        model: The model, whose weights count.
        steps: Steps of the pipeline that loads images, identified by their ``repr``.

    Returns:
        32 hexadecimal digits.
    """
    digest = hashlib.sha256(_settings(model_cfg).encode())
    digest.update('\n'.join(map(repr, steps)).encode())
    for name, value in model.state_dict().items():
        digest.update(f'{name} {value.dtype} {tuple(value.shape)}'.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:32]


def _settings(model: ConfigDict) -> str:
    """Serialise a model config in a canonical form, without the origin of its weights."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            left_out = ('pretrained', 'vocab_file', 'vocab_size', 'init_cfg')
            return {k: plain(v) for k, v in sorted(value.items()) if k not in left_out}
        return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value

    return json.dumps(plain(model), default=repr)
