"""Report classes that a data set lacks."""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable

from mmengine.logging import print_log

__all__ = ['report_absent_classes']


def report_absent_classes(where: str, classes: Iterable[str], found: Container[int]) -> None:
    """Log which classes occur in none of the images.

    Args:
        where: The annotation file.
        classes: The names of all classes.
        found: The indices of those that occur.
    """
    absent = [name for index, name in enumerate(classes) if index not in found]
    if absent:
        print_log(
            f'{where}: {len(absent)} classes are in none of its images: {", ".join(absent)}',
            'current',
            logging.WARNING,
        )
