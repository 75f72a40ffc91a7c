"""PDSL: instance segmentation from image-level tags. Importing it registers its classes."""

import projects.common
import projects.common.stack  # noqa: F401

from .cues import *  # noqa: F403
from .datasets import *  # noqa: F403
from .evaluation import *  # noqa: F403
from .inferencer import WeakInstanceInferencer  # noqa: F401
from .models import *  # noqa: F403
