"""Text for several projects: BERT, its word pieces, and learning them."""

from .bert import BERTTextEncoder
from .vocabulary_hook import LearnVocabularyHook
from .wordpiece import WordPieceTokenizer

__all__ = ['BERTTextEncoder', 'LearnVocabularyHook', 'WordPieceTokenizer']
