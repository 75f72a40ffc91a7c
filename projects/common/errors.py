"""Errors whose cause is what the user gave."""

from __future__ import annotations

__all__ = ['InputError']


class InputError(ValueError):
    """Report something that the user can put right: an argument, a config, a file, an entry of one.

    The message is one line that names the place (file and field), what was found and what was
    expected. The command-line tools print it without a traceback; every other exception is a
    fault of the program and keeps its traceback.
    """
