"""Word tokenization and vocabulary."""

from .vocabulary import Vocabulary
from .word_tokenize import word_tokenize

__all__ = ['Vocabulary', 'word_tokenize']
