"""Register the classes of this project with MMEngine; configs name it in ``custom_imports``."""

import projects.common.register
import projects.common.stack  # noqa: F401

from . import datasets, engine, evaluation, losses, models, text, visualization  # noqa: F401
