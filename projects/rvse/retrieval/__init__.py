"""Vector stores for galleries, and a cache of embeddings."""

from .embedding_cache import EmbeddingCache
from .faiss_store import FaissStore
from .milvus_store import MilvusStore
from .opening import open_store
from .results import gone_entries, prune, with_probabilities
from .store import Hit, VectorStore

__all__ = [
    'EmbeddingCache',
    'FaissStore',
    'Hit',
    'MilvusStore',
    'VectorStore',
    'gone_entries',
    'open_store',
    'prune',
    'with_probabilities',
]
