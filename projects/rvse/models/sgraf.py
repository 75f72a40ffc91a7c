"""SGRAF: Similarity Graph Reasoning and Attention Filtration."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from projects.common.errors import InputError

from .blockwise import BlockwiseSimilarity
from .sequences import l2norm, length_mask
from .stacked_attention import (
    attention_weights,
    gram_matrices,
    pair_products,
    squared_lengths,
)

CHUNK = 2**21  # number of differences computed at once on a CPU, to fit its cache


class _SelfAttention(nn.Module):
    """Pool a set with weights computed from each vector's product with the mean of the set."""

    embedding_common: nn.Module

    def pool(self, local: Tensor, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        scores = self.embedding_common(queries * keys[:, None]).squeeze(-1)
        weights = scores.masked_fill(~mask, -torch.inf).softmax(dim=1)
        return l2norm((weights[..., None] * local).sum(dim=1))


class VisualSelfAttention(_SelfAttention):
    """Compute the global vector of an image.

    ``num_regions`` is fixed because a batch norm has one channel per region.

    Args:
        channels: Channels of the regions.
        num_regions: Number of regions of every image.
        dropout: Dropout of both branches.
    """

    def __init__(self, channels: int, num_regions: int = 36, dropout: float = 0.4) -> None:
        super().__init__()
        self.num_regions = num_regions
        self.embedding_local = nn.Sequential(
            nn.Linear(channels, channels),
            nn.BatchNorm1d(num_regions),
            nn.Tanh(),
            nn.Dropout(dropout),
        )
        self.embedding_global = nn.Sequential(
            nn.Linear(channels, channels), nn.BatchNorm1d(channels), nn.Tanh(), nn.Dropout(dropout)
        )
        self.embedding_common = nn.Sequential(nn.Linear(channels, 1))

    def forward(self, regions: Tensor) -> Tensor:
        """Map (I, num_regions, C) to L2-normalised (I, C)."""
        queries = self.embedding_local(regions)
        keys = self.embedding_global(regions.mean(dim=1))
        mask = torch.ones(regions.shape[:2], dtype=torch.bool, device=regions.device)
        return self.pool(regions, queries, keys, mask)


class TextSelfAttention(_SelfAttention):
    """Compute the global vector of a caption."""

    def __init__(self, channels: int, dropout: float = 0.4) -> None:
        super().__init__()
        self.embedding_local = nn.Sequential(
            nn.Linear(channels, channels), nn.Tanh(), nn.Dropout(dropout)
        )
        self.embedding_global = nn.Sequential(
            nn.Linear(channels, channels), nn.Tanh(), nn.Dropout(dropout)
        )
        self.embedding_common = nn.Sequential(nn.Linear(channels, 1))

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        """Map (T, L, C), zero beyond ``lengths`` (T,), to L2-normalised (T, C)."""
        keys = self.embedding_global(words.sum(dim=1) / lengths[:, None])
        mask = length_mask(lengths, words.shape[1])
        return self.pool(words, self.embedding_local(words), keys, mask)


class GraphReasoning(nn.Module):
    """Apply one step of SGR: unscaled attention among the nodes, a linear layer and ReLU.

    Args:
        channels: Channels of a node.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.graph_query_w = nn.Linear(channels, channels)
        self.graph_key_w = nn.Linear(channels, channels)
        self.sim_graph_w = nn.Linear(channels, channels)

    def edge_weights(self) -> tuple[Tensor, Tensor]:
        """Merge the query and the key layer into the weight (S, S) and bias (S,) of one layer.

        With queries ``q = x Wq' + bq`` and keys ``k = y Wk' + bk``, the logit ``q k'`` is
        ``(x Wq' Wk + bq Wk) y'`` plus ``q bk'``, which is the same for all keys and does not change
        the softmax.
        """
        query, key = self.graph_query_w, self.graph_key_w
        # DistributedDataParallel needs a gradient for every parameter, even if it is always zero.
        bias = query.bias @ key.weight + 0 * key.bias
        return key.weight.T @ query.weight, bias

    def forward(
        self, nodes: Tensor, queries: int | None = None, edge: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Apply the step.

        Args:
            nodes: (N, K, S).
            queries: Number of nodes ``Q`` to compute, from the first; None for all.
            edge: :meth:`edge_weights`, if they are already computed.

        Returns:
            The first ``Q`` nodes after the step, (N, Q, S).
        """
        weight, bias = edge or self.edge_weights()
        edges = F.linear(nodes[:, :queries], weight, bias) @ nodes.transpose(1, 2)
        return F.relu(self.sim_graph_w(edges.softmax(dim=-1) @ nodes), inplace=True)


class AttentionFiltration(nn.Module):
    """Implement SAF: weight the nodes by one gate each, normalised to a sum of 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attn_sim_w = nn.Linear(channels, 1)
        self.bn = nn.BatchNorm1d(1)

    def forward(self, nodes: Tensor) -> Tensor:
        """Map (N, K, S) to L2-normalised (N, S)."""
        gates = self.bn(self.attn_sim_w(nodes).transpose(1, 2)).sigmoid()  # (N, 1, K)
        gates = gates / (gates.sum(dim=-1, keepdim=True) + 1e-8)
        return l2norm((gates @ nodes).squeeze(1))


class SGRAFSimilarity(BaseModule, BlockwiseSimilarity):
    """Score the similarity vectors of a pair: one for the whole and one for each word.

    Each vector is a linear layer applied to the squared difference between a word and its context
    among the regions, or between the two global vectors. Captions of equal length are computed
    together.

    In training, the batch norm of :class:`AttentionFiltration` sees all captions of one length at a
    time. In the released code it sees one caption at a time.

    Args:
        channels: Channels of regions and words.
        sim_channels: Channels of a similarity vector.
        num_regions: Number of regions of every image.
        smooth: lambda, inverse temperature of the attention.
        dropout: Dropout of the self-attention.
        workspace: See :class:`BlockwiseSimilarity`.
    """

    def __init__(
        self,
        channels: int = 1024,
        sim_channels: int = 256,
        num_regions: int = 36,
        smooth: float = 9.0,
        dropout: float = 0.4,
        workspace: int | None = 2**23,
        init_cfg: dict | None = None,
    ) -> None:
        BaseModule.__init__(self, init_cfg)
        self.workspace = workspace
        self.spread = 1.0  # a padded word would be a node of the graph
        self.smooth = smooth
        self.v_global_w = VisualSelfAttention(channels, num_regions, dropout)
        self.t_global_w = TextSelfAttention(channels, dropout)
        self.sim_tranloc_w = nn.Linear(channels, sim_channels)
        self.sim_tranglo_w = nn.Linear(channels, sim_channels)
        self.sim_eval_w = nn.Linear(sim_channels, 1)

    def init_weights(self) -> None:
        """Initialise the layers as released.

        Linear layers are Xavier-uniform with bias 0; batch norms have weight 1 and bias 0.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        super().init_weights()

    def pair_elements(self, regions: int, words: int, channels: int) -> int:
        """Return the number of elements of the similarity vectors of all words.

        With gradients, the differences of all words are kept, too, and form the largest tensor.
        """
        return words * (channels if torch.is_grad_enabled() else self.sim_eval_w.in_features)

    def forward(
        self, images: Tensor, image_lengths: Tensor, captions: Tensor, caption_lengths: Tensor
    ) -> Tensor:
        """Compute scores in (0, 1); see :meth:`BlockwiseSimilarity.forward`.

        Raises:
            ValueError: An image does not have ``num_regions`` regions.
        """
        expected = self.v_global_w.num_regions
        if images.shape[1] != expected or not (image_lengths == expected).all():
            raise InputError(
                f'{type(self).__name__}: images of {int(image_lengths.min())} to '
                f'{int(image_lengths.max())} regions, expected {expected} for each'
            )
        device = images.device.type
        with torch.autocast(device, enabled=False):
            if images.dtype != torch.float64:
                images, captions = images.float(), captions.float()
            pads = ~length_mask(caption_lengths, captions.shape[1])[..., None]
            captions = captions.masked_fill(pads, 0)
            # Pass the global vectors, computed once for all pairs, as an extra region and word.
            images = torch.cat([self.v_global_w(images)[:, None], images], dim=1)
            whole = self.t_global_w(captions, caption_lengths)
            captions = torch.cat([whole[:, None], captions], dim=1)
            return super().forward(images, image_lengths + 1, captions, caption_lengths + 1)

    def image_terms(self, images: Tensor) -> Tensor:
        """Compute the Gram matrices of the regions, without the global vector."""
        return gram_matrices(images[:, 1:])

    def score_block(
        self,
        images: Tensor,
        image_lengths: Tensor,
        terms: Tensor,
        captions: Tensor,
        caption_lengths: Tensor,
    ) -> Tensor:
        """Convert :meth:`similarity_vectors` to probabilities; captions have equal length."""
        vectors = self.similarity_vectors(images, terms, captions)
        return self.sim_eval_w(vectors).squeeze(-1).sigmoid()

    def similarity_vectors(self, images: Tensor, terms: Tensor, captions: Tensor) -> Tensor:
        """Compute the input (I, T, S) of the last layer.

        Args:
            images: (I, 1 + R, C), the global vector first.
            terms: :meth:`image_terms` of the images.
            captions: (T, 1 + L, C), captions of L words each, the global vector first.
        """
        whole = (images[:, None, 0] - captions[None, :, 0]) ** 2  # (I, T, C)
        whole = l2norm(self.sim_tranglo_w(whole))
        words = captions[:, 1:]
        # with the global vector's products, because its removal from the images would copy them
        products = pair_products(images, words)[:, 1:]
        images = images[:, 1:]
        lengths = torch.full((len(images),), images.shape[1], device=images.device)
        weights = attention_weights(products, lengths, self.smooth)
        # Dividing the weights by the norm of their context gives contexts of norm 1.
        norm = squared_lengths(weights, terms).clamp(min=1e-16).sqrt() + 1e-8
        weights = (weights / norm[:, None]).flatten(2).transpose(1, 2)  # (I, T * L, R)
        every = words.flatten(0, 1)
        size = len(images)
        if images.device.type == 'cpu':
            size = max(1, CHUNK // every.numel())
        reason = self.reasoner()
        parts = zip(weights.split(size), images.split(size), whole.split(size))
        return torch.cat([self._reason_about(*part, words, every, reason) for part in parts])

    def _reason_about(
        self,
        weights: Tensor,
        images: Tensor,
        whole: Tensor,
        words: Tensor,
        every: Tensor,
        reason: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Compute the input (I, T, S) of the last layer for a chunk of images.

        Args:
            weights: (I, T * L, R), the weights of each word over the regions of each image.
            images: (I, R, C).
            whole: (I, T, S), the similarity vectors of the global vectors.
            words: (T, L, C).
            every: ``words`` as (T * L, C).
            reason: :meth:`reasoner`.
        """
        contexts = weights @ images
        # the squares of the differences, in one pass
        squares = F.mse_loss(contexts, every.expand_as(contexts), reduction='none')
        local = l2norm(self.sim_tranloc_w(squares)).unflatten(1, words.shape[:2])
        nodes = torch.cat([whole[:, :, None], local], dim=2)
        return reason(nodes.flatten(0, 1)).unflatten(0, nodes.shape[:2])

    def reasoner(self) -> Callable[[Tensor], Tensor]:
        """Return a function from nodes (N, 1 + L, S), the global one first, to vectors (N, S)."""
        raise NotImplementedError


@MODELS.register_module()
class SGRSimilarity(SGRAFSimilarity):
    """Apply Similarity Graph Reasoning: the global node after several untied steps.

    Args:
        steps: Number of reasoning steps.
        **kwargs: See :class:`SGRAFSimilarity`.
    """

    SGR_module: Any  # an nn.Sequential of GraphReasoning

    def __init__(self, steps: int = 3, sim_channels: int = 256, **kwargs) -> None:
        super().__init__(sim_channels=sim_channels, **kwargs)
        self.SGR_module = nn.Sequential(*(GraphReasoning(sim_channels) for _ in range(steps)))

    def reasoner(self) -> Callable[[Tensor], Tensor]:
        """Return a function that computes the global node after all steps."""
        *steps, last = [partial(step, edge=step.edge_weights()) for step in self.SGR_module]

        def reason(nodes: Tensor) -> Tensor:
            for step in steps:
                nodes = step(nodes)
            return last(nodes, queries=1)[:, 0]

        return reason


@MODELS.register_module()
class SAFSimilarity(SGRAFSimilarity):
    """Apply Similarity Attention Filtration: the weighted sum of all nodes.

    Args:
        **kwargs: See :class:`SGRAFSimilarity`.
    """

    def __init__(self, sim_channels: int = 256, **kwargs) -> None:
        super().__init__(sim_channels=sim_channels, **kwargs)
        self.SAF_module = AttentionFiltration(sim_channels)

    def reasoner(self) -> Callable[[Tensor], Tensor]:
        """Return the module that computes the weighted sum of the nodes."""
        return self.SAF_module
