"""Register the classes of ``projects.common`` with MMEngine.

The ``register`` module of every project imports this module.
"""

from . import backbones, prediction_dump, text  # noqa: F401
from .files import image_backend  # noqa: F401
from .hooks import (  # noqa: F401
    checkpoint_hook,
    initial_validation_hook,
    logger_hook,
    mean_loss_hook,
    nonfinite_loss_hook,
    progress,
    reproducibility,
    visualization_hook,
)
from .optim import autocast, constructor, muon, schedules  # noqa: F401
from .preflight import like_pretrained  # noqa: F401
