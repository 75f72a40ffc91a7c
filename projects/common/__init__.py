"""What two or more of the projects use. Importing it registers its classes."""

from .checkpoint import AtomicCheckpointHook
from .mean_loss_hook import MeanLossHook
from .prediction_dump import PredictionDump
from .progress import ProgressBarHook
from .reproducibility import ReproducibilityHook
from .text import *  # noqa: F403

__all__ = [
    'AtomicCheckpointHook',
    'MeanLossHook',
    'PredictionDump',
    'ProgressBarHook',
    'ReproducibilityHook',
]
