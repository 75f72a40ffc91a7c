"""The published similarities, written out plainly, one caption at a time.

`make bench` times our similarities against them, and the tests check ours against them. The
operations are those of the released code (SCAN's and BFAN's `xattn_score`, SGRAF's
`EncoderSimilarity`), including the copies of the caption for every image.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Score = Callable[[Tensor, Tensor], Tensor]
"""Scores (I,) of all images' regions (I, R, C) with one caption's words (I, L, C)."""


def l2norm(x: Tensor, dim: int) -> Tensor:
    return x / ((x**2).sum(dim, keepdim=True).sqrt() + 1e-8)


def attention(query: Tensor, context: Tensor, smooth: float, focus: str | None = None) -> Tensor:
    """Return contexts (B, Q, C) for queries (B, Q, C), attending to (B, P, C)."""
    scores = context @ query.transpose(1, 2)  # (B, P, Q)
    scores = l2norm(F.leaky_relu(scores, 0.1), 2)
    weights = torch.softmax(smooth * scores.transpose(1, 2).contiguous(), dim=2)  # (B, Q, P)
    if focus == 'equal':
        kept = weights * weights.shape[2] - weights.sum(2, keepdim=True) > 0
    elif focus == 'prob':
        other = weights[:, :, None]  # (B, Q, 1, P)
        kept = ((weights[..., None] - other) * other.sqrt()).sum(3) > 0
    if focus:
        weights = weights * kept
        weights = weights / weights.sum(2, keepdim=True)
    return weights @ context


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1)).clamp(min=1e-8)


def loop(score: Score, images: Tensor, captions: Tensor, lengths: Tensor) -> Tensor:
    """Compute scores (I, T), one column at a time."""
    columns = [
        score(images, caption[None, :n].repeat(len(images), 1, 1))
        for caption, n in zip(captions, lengths.tolist())
    ]
    return torch.stack(columns, dim=1)


def scan(direction: str, aggregation: str, smooth: float, lambda_lse: float) -> Score:
    def score(images: Tensor, words: Tensor) -> Tensor:
        query, context = (words, images) if direction == 't2i' else (images, words)
        cosines = cosine(query, attention(query, context, smooth))
        if aggregation == 'AVG':
            return cosines.mean(1)
        return (lambda_lse * cosines).exp().sum(1).log() / lambda_lse

    return score


def bfan(focus: str, smooth: float = 20) -> Score:
    def score(images: Tensor, words: Tensor) -> Tensor:
        of_words = cosine(words, attention(words, images, smooth, focus)).mean(1)
        of_regions = cosine(images, attention(images, words, smooth, focus)).mean(1)
        return of_words + of_regions

    return score


def sgraf(module: nn.Module, kind: str, images: Tensor) -> Score:
    """Return SGR or SAF for these images, with the weights of ``module``, in evaluation mode."""

    def self_attention(block: nn.Module, local: Tensor) -> Tensor:
        keys = block.embedding_global(local.mean(1))[:, None]
        weights = block.embedding_common(block.embedding_local(local) * keys).softmax(1)
        return l2norm((weights * local).sum(1), 1)

    pictures = self_attention(module.v_global_w, images)

    def score(images: Tensor, words: Tensor) -> Tensor:
        context = l2norm(attention(words, images, 9), 2)
        local = l2norm(module.sim_tranloc_w((context - words) ** 2), 2)
        sentence = self_attention(module.t_global_w, words[:1])
        whole = l2norm(module.sim_tranglo_w((pictures - sentence) ** 2), 1)
        nodes = torch.cat([whole[:, None], local], 1)
        if kind == 'sgr':
            for step in module.SGR_module:
                edges = step.graph_query_w(nodes) @ step.graph_key_w(nodes).transpose(1, 2)
                nodes = torch.relu(step.sim_graph_w(edges.softmax(2) @ nodes))
            vector = nodes[:, 0]
        else:
            gates = module.SAF_module.attn_sim_w(nodes).transpose(1, 2)
            gates = module.SAF_module.bn(gates).sigmoid()
            gates = gates / gates.abs().sum(2, keepdim=True)
            vector = l2norm((gates @ nodes)[:, 0], 1)
        return module.sim_eval_w(vector).sigmoid()[:, 0]

    return score
