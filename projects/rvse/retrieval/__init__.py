"""Vector stores for galleries, and a cache of embeddings."""

from .embedding_cache import EmbeddingCache
from .faiss_store import FaissStore
from .milvus_store import MilvusStore
from .store import Hit, VectorStore, open_store

__all__ = ['EmbeddingCache', 'FaissStore', 'Hit', 'MilvusStore', 'VectorStore', 'open_store']
