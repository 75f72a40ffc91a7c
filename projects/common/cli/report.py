"""Errors of a tool in one line, where the user can put them right."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
import re
import sys
from collections.abc import Iterator

from ..errors import InputError

__all__ = ['report_user_errors', 'user_message']

# Exceptions whose message is about what the user gave, wherever they are raised.
USER_KINDS = (
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
    json.JSONDecodeError,
    pickle.UnpicklingError,
)

# MMEngine's modules that build objects from config dicts
_BUILDING = ('mmengine/registry/build_functions.py', 'mmengine/registry/registry.py')

# No room: on the disk, for the user, for a file.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def report_user_errors() -> Iterator[None]:
    """End a tool with one line where the error is the user's to mend; bugs keep their traceback.

    `MMTRIAD_TRACEBACK=1` shows the traceback of every error.
    """
    try:
        yield
    except Exception as error:
        line = None if os.environ.get('MMTRIAD_TRACEBACK') == '1' else user_message(error)
        if line is None:
            raise
        rank = f'[rank {os.environ["RANK"]}] ' if 'RANK' in os.environ else ''
        sys.stdout.flush()
        print(f'{rank}error: {line}', file=sys.stderr, flush=True)
        sys.exit(1)


def user_message(error: BaseException) -> str | None:
    """Return the line to show for an error that the user can put right, None for any other."""
    in_worker = _worker_message(error)
    if in_worker is not None:
        return in_worker
    if isinstance(error, (InputError, *USER_KINDS)):
        return one_line(error)
    if isinstance(error, OSError) and error.errno in FULL:
        return one_line(error)
    if (killed := _killed_worker(error)) is not None:
        return (
            f'{one_line(killed)} Mostly because memory ran out: take fewer '
            'train_dataloader.num_workers. --resume goes on from the last checkpoint'
        )
    if isinstance(error, (ValueError, KeyError, TypeError)):
        # MMEngine raises the errors of a constructor anew; the first one has the words.
        first: BaseException = error
        while isinstance(cause := _raised_while(first), type(error)):
            first = cause
        if first is not error and (found := user_message(first)):
            return found
        # an unknown `type`, or an argument that the class or one of its bases does not take
        file, function = raised_at(error)
        if file.endswith(_BUILDING) or (
            function == '__init__' and 'unexpected keyword argument' in str(error)
        ):
            return f'in the config: {one_line(error)}'
    return None


def _killed_worker(error: BaseException) -> BaseException | None:
    """Return PyTorch's error about a killed data-loading worker if it caused ``error``.

    It comes from a signal, at any line, so that other code may have caught it and raised another.
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, RuntimeError) and str(found).startswith('DataLoader worker (pid'):
            return found
        found = found.__cause__ or found.__context__
    return None


def _raised_while(error: BaseException) -> BaseException | None:
    """Return the error that was being handled, None after ``raise ... from None``."""
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def one_line(error: BaseException) -> str:
    """Return the message of an error in one line, without what MMEngine puts around it."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f'{error.filename}: {error.strerror}'
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    text = re.sub(r'^class `[^`]*` in [\w/.]+: ', '', text)
    # MMEngine, on a `type` nobody registered
    text = text.split('. Please check whether the value of')[0]
    return ' '.join(text.split()) or type(error).__name__


def raised_at(error: BaseException) -> tuple[str, str]:
    """Return the file of the innermost frame, with forward slashes, and its function."""
    trace = error.__traceback__
    if trace is None:
        return '', ''
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    return code.co_filename.replace(os.sep, '/'), code.co_name


def _worker_message(error: BaseException) -> str | None:
    """Return the message of a user's error that a data-loading worker handed over as text."""
    text = str(error.args[0]) if error.args else ''
    if not (text.startswith('Caught ') and 'Original Traceback' in text):
        return None
    if not isinstance(error, (InputError, *USER_KINDS)):
        return None
    lines = text.rstrip().splitlines()
    last_frame = max(i for i, line in enumerate(lines) if line.lstrip().startswith('File "'))
    # The message follows the source line (and its ^^^ marks) and may itself have several lines.
    for i in range(last_frame + 1, len(lines)):
        if re.match(r'[\w.]+: ', lines[i]):
            return ' '.join(' '.join(lines[i:]).split()).split(': ', 1)[1]
    return None
