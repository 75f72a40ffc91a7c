"""RVSE++ and SelHN: image-text matching. Importing it registers its classes."""

import projects.common
import projects.common.stack  # noqa: F401

from .datasets import *  # noqa: F403
from .engine import *  # noqa: F403
from .evaluation import *  # noqa: F403
from .inferencer import RetrievalInferencer  # noqa: F401
from .losses import *  # noqa: F403
from .models import *  # noqa: F403
from .text import *  # noqa: F403
