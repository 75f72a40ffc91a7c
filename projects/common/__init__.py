"""What two or more of the projects use. Importing it registers its classes."""

from .checkpoint import AtomicCheckpointHook
from .config_index import find_config, list_models
from .mean_loss_hook import MeanLossHook
from .muon import MuonAdamW, MuonAdamWConstructor
from .nonfinite_loss_hook import NonFiniteLossHook
from .prediction_dump import PredictionDump
from .progress import ProgressBarHook
from .reproducibility import ReproducibilityHook
from .text import *  # noqa: F403

__all__ = [
    'AtomicCheckpointHook',
    'MeanLossHook',
    'MuonAdamW',
    'MuonAdamWConstructor',
    'NonFiniteLossHook',
    'PredictionDump',
    'ProgressBarHook',
    'ReproducibilityHook',
    'find_config',
    'list_models',
]
