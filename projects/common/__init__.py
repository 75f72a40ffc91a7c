"""What two or more of the projects use. Importing it registers its classes."""

from .autocast import BFloat16OptimWrapper
from .checkpoint import AtomicCheckpointHook
from .config_index import find_config, list_models
from .logger_hook import MainProcessLoggerHook
from .mean_loss_hook import MeanLossHook
from .muon import MuonAdamW, MuonAdamWConstructor
from .nonfinite_loss_hook import NonFiniteLossHook
from .prediction_dump import PredictionDump
from .preflight import LikePretrainedHook
from .progress import ProgressBarHook
from .reproducibility import ReproducibilityHook
from .schedules import PolynomialLR
from .text import *  # noqa: F403

__all__ = [
    'AtomicCheckpointHook',
    'BFloat16OptimWrapper',
    'LikePretrainedHook',
    'MainProcessLoggerHook',
    'MeanLossHook',
    'MuonAdamW',
    'MuonAdamWConstructor',
    'NonFiniteLossHook',
    'PolynomialLR',
    'PredictionDump',
    'ProgressBarHook',
    'ReproducibilityHook',
    'find_config',
    'list_models',
]
