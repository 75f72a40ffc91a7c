"""Registers the classes of this project with MMEngine; configs list it in ``custom_imports``."""

import projects.common.register
import projects.common.stack  # noqa: F401

from . import datasets, evaluation, models, visualization  # noqa: F401
