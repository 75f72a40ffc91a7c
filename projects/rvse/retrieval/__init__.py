"""Vector stores for galleries, and a cache of embeddings."""

from .embedding_cache import EmbeddingCache
from .faiss_store import FaissStore
from .indexing import index_images
from .milvus_store import MilvusStore
from .opening import open_store
from .store import Hit, VectorStore

__all__ = [
    'EmbeddingCache',
    'FaissStore',
    'Hit',
    'MilvusStore',
    'VectorStore',
    'index_images',
    'open_store',
]
