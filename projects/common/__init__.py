"""Parts that two or more of the projects use.

Importing this package imports the standard library alone; :mod:`projects.common.register` registers
its classes with MMEngine.
"""

from .config_index import find_config, list_models

__all__ = ['find_config', 'list_models']
