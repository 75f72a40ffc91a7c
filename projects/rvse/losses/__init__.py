"""Losses over similarity matrices; importing this package registers them."""

from .anchors import Anchors, both_directions
from .aoq import AOQLoss, mine_offline_negatives
from .base import MatchingLoss
from .meta_spn import MetaSPNLoss
from .ncr import NCRLoss, clean_pairs, clean_probability, soft_margin
from .selhn import SelHNLoss, selhn
from .semi_hard import (
    SCTLoss,
    SemiHardNegativeLoss,
    selectively_contrastive,
    semi_hard_negative,
)
from .ssp import SSPLoss, ssp
from .triplet import HardNegativeLoss, ITMTripletLoss, hard_negative, triplet

__all__ = [
    'AOQLoss',
    'Anchors',
    'HardNegativeLoss',
    'ITMTripletLoss',
    'MatchingLoss',
    'MetaSPNLoss',
    'NCRLoss',
    'SCTLoss',
    'SSPLoss',
    'SelHNLoss',
    'SemiHardNegativeLoss',
    'both_directions',
    'clean_pairs',
    'clean_probability',
    'hard_negative',
    'mine_offline_negatives',
    'selectively_contrastive',
    'selhn',
    'semi_hard_negative',
    'soft_margin',
    'ssp',
    'triplet',
]
