"""Errors caused by user input."""

from __future__ import annotations

__all__ = ['InputError']


class InputError(ValueError):
    """Report a problem that the user can fix, such as a bad argument, config, file or file entry.

    The message is one line that names the place (file and field), the actual value and the expected
    one. The command-line tools print it without a traceback; every other exception is a bug in the
    program and keeps its traceback.
    """
