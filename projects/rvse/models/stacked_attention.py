"""Stacked cross attention between two kinds of sets, without computing context vectors.

A query q attends to the vectors c_1..c_P of a context set with weights a. Its context is
sum_p a_p c_p. The cosine between q and its context only needs the products A_p = c_p^T q and the
Gram matrix G = C C^T of the set: cos = a^T A / (|q| sqrt(a^T G a)). A context vector has a thousand
channels, a column of weights only one entry per region.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .sequences import length_mask

Focus = Callable[[Tensor, Tensor], Tensor]
"""Return a bool mask of the weights (K, P, M, Q) to keep, for context sets of sizes (K,)."""


def pair_products(context: Tensor, query: Tensor) -> Tensor:
    """Compute products (K, P, M, Q) of all vectors of sets (K, P, C) and sets (M, Q, C)."""
    products = F.linear(context.flatten(0, 1), query.flatten(0, 1))
    return products.view(*context.shape[:2], *query.shape[:2])


def gram_matrices(sets: Tensor) -> Tensor:
    """Compute the Gram matrices (K, P, P) of sets (K, P, C)."""
    return sets @ sets.transpose(1, 2)


def attention_weights(
    products: Tensor, context_lengths: Tensor, smooth: float, eps: float = 1e-8
) -> Tensor:
    """Compute the attention weights of each query over a context set.

    Args:
        products: (K, P, M, Q), products of the P vectors of K context sets with the Q vectors of M
            query sets; zero for padded queries.
        context_lengths: (K,), sizes of the context sets.
        smooth: Inverse temperature of the softmax over the context.
        eps: Added to the norm over the query set.

    Returns:
        (K, P, M, Q), with sums over P of 1; 0 at padded context.
    """
    scores = F.leaky_relu(products, 0.1)
    # normalise the scores of each context vector over the query set
    norm = torch.linalg.vector_norm(scores, dim=3, keepdim=True) + eps
    scores = scores * (smooth / norm)
    mask = length_mask(context_lengths, products.shape[1])
    # a CPU saves the copy; a GPU would have to wait for the answer
    if mask.device.type != 'cpu' or not mask.all():
        scores = scores.masked_fill(~mask[:, :, None, None], -torch.inf)
    return scores.softmax(dim=1)


def squared_lengths(weights: Tensor, gram: Tensor) -> Tensor:
    """Compute the squared norm a^T G a of every context, (K, M, Q).

    Args:
        weights: (K, P, M, Q).
        gram: (K, P, P), Gram matrices of the context sets.
    """
    through_gram = torch.bmm(gram, weights.flatten(2)).view_as(weights)
    return (weights * through_gram).sum(dim=1)


def context_cosines(
    products: Tensor,
    gram: Tensor,
    context_lengths: Tensor,
    query_norms: Tensor,
    smooth: float,
    focus: Focus | None = None,
    eps: float = 1e-8,
) -> Tensor:
    """Compute the cosine of every query vector with its context in every context set.

    Args:
        products: (K, P, M, Q), zero at padded context and for padded queries.
        gram: (K, P, P), Gram matrices of the context sets.
        context_lengths: (K,), sizes of the context sets.
        query_norms: (M, Q), norms of the query vectors.
        smooth: See :func:`attention_weights`.
        focus: Selects weights; the others become 0. The cosine does not depend on the sum of the
            weights, so they are not renormalised.
        eps: Smallest divisor.

    Returns:
        (K, M, Q), 0 for padded queries.
    """
    weights = attention_weights(products, context_lengths, smooth, eps)
    if focus is not None:
        weights = weights * focus(weights.detach(), context_lengths)
    numerator = (weights * products).sum(dim=1)
    length = squared_lengths(weights, gram).clamp(min=eps**2).sqrt() * query_norms
    return numerator / length.clamp(min=eps)
