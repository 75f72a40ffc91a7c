"""Code shared by two or more of the projects.

Importing this package loads only the standard library. Import :mod:`projects.common.register` to
register its classes with MMEngine.
"""

from .config_index import find_config, list_models

__all__ = ['find_config', 'list_models']
