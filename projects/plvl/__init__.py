"""PLVL: multi-task visual grounding (REC and RES). Importing it registers its classes."""

import projects.common
import projects.common.stack  # noqa: F401

from .datasets import *  # noqa: F403
from .engine import *  # noqa: F403
from .evaluation import *  # noqa: F403
from .inferencer import GroundingInferencer  # noqa: F401
from .models import *  # noqa: F403
