"""Shared text modules: BERT, its WordPiece tokenizer, learning a vocabulary; other text models."""

from .bert import BERTTextEncoder
from .transformers_text import TransformersText, TransformersTokenEncoder
from .vocabulary_hook import LearnVocabularyHook
from .wordpiece import WordPieceTokenizer

__all__ = [
    'BERTTextEncoder',
    'LearnVocabularyHook',
    'TransformersText',
    'TransformersTokenEncoder',
    'WordPieceTokenizer',
]
