"""Shared text modules: BERT, its WordPiece tokenizer, and learning a vocabulary."""

from .bert import BERTTextEncoder
from .vocabulary_hook import LearnVocabularyHook
from .wordpiece import WordPieceTokenizer

__all__ = ['BERTTextEncoder', 'LearnVocabularyHook', 'WordPieceTokenizer']
