"""Ranks and recalls over whole galleries, computed in blocks."""

from .answers import best_answers
from .feature_file import FeatureFile
from .matching_loop import MatchingMetric, MatchingTestLoop, MatchingValLoop
from .ranks import RetrievalRanks, matrix_scores, mean_scores, retrieval_ranks
from .recalls import check_folds, fold_summary, rank_summary, retrieval_summary
from .similarity_file import read_similarities

__all__ = [
    'FeatureFile',
    'MatchingMetric',
    'MatchingTestLoop',
    'MatchingValLoop',
    'RetrievalRanks',
    'best_answers',
    'check_folds',
    'fold_summary',
    'matrix_scores',
    'mean_scores',
    'rank_summary',
    'read_similarities',
    'retrieval_ranks',
    'retrieval_summary',
]
