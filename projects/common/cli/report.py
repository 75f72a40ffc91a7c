"""Print one-line messages for errors that the user can fix."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import pickle
import re
import select
import sys
from collections.abc import Iterator

from ..errors import InputError
from .launch import port_in_use

__all__ = ['report_user_errors', 'user_message']

# Exceptions whose message is about user input, wherever they are raised.
USER_KINDS = (
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
    json.JSONDecodeError,
    pickle.UnpicklingError,
)

# MMEngine modules that build objects from config dicts.
_BUILDING = ('mmengine/registry/build_functions.py', 'mmengine/registry/registry.py')

# Disk full, quota exceeded, file too large, read-only file system.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


@contextlib.contextmanager
def report_user_errors() -> Iterator[None]:
    """Exit a tool with a one-line message on errors that the user can fix.

    All other exceptions keep their traceback. Set `MMTRIAD_TRACEBACK=1` to show the traceback of
    every error. Names that are not UTF-8 are printed with escapes. If whoever reads the output,
    such as ``head``, has closed it, the tool ends quietly with exit status 1.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors='backslashreplace')
    try:
        yield
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _output_is_closed():
            # what is left in the buffer goes nowhere, also at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        line = None if os.environ.get('MMTRIAD_TRACEBACK') == '1' else user_message(error)
        if line is None:
            raise
        rank = f'[rank {os.environ["RANK"]}] ' if 'RANK' in os.environ else ''
        sys.stdout.flush()
        print(f'{rank}error: {line}', file=sys.stderr, flush=True)
        sys.exit(1)


def _output_is_closed() -> bool:
    """Return whether the standard output is a pipe that nobody reads any more."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLOUT)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (AttributeError, OSError, ValueError):  # no poll, or no file behind the output
        return False


def user_message(error: BaseException) -> str | None:
    """Return the message to show for an error that the user can fix, or None for others."""
    in_worker = _worker_message(error)
    if in_worker is not None:
        return in_worker
    if isinstance(error, (InputError, *USER_KINDS)):
        return one_line(error)
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        return one_line(error)
    if type(error).__name__ == 'DistNetworkError' and 'EADDRINUSE' in str(error):
        return port_in_use(os.environ.get('MASTER_PORT', 29500))
    if (killed := _killed_worker(error)) is not None:
        return (
            f'{one_line(killed)} Mostly because memory ran out: take fewer '
            'train_dataloader.num_workers. --resume goes on from the last checkpoint'
        )
    if isinstance(error, (ValueError, KeyError, TypeError)):
        # MMEngine re-raises errors from constructors. The first exception has the original message.
        first: BaseException = error
        while isinstance(cause := _raised_while(first), type(error)):
            first = cause
        if first is not error and (found := user_message(first)):
            return found
        # An unknown `type`, or an argument that neither the class nor its bases accept.
        file, function = raised_at(error)
        if file.endswith(_BUILDING) or (
            function == '__init__' and 'unexpected keyword argument' in str(error)
        ):
            return f'in the config: {one_line(error)}'
    return None


def _killed_worker(error: BaseException) -> BaseException | None:
    """Return PyTorch's error about a killed data-loading worker if it caused ``error``.

    A signal handler raises it at an arbitrary line, so other code may have caught it and raised a
    different error.
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, RuntimeError) and str(found).startswith('DataLoader worker (pid'):
            return found
        found = found.__cause__ or found.__context__
    return None


def _raised_while(error: BaseException) -> BaseException | None:
    """Return the exception being handled when ``error`` was raised, if any.

    ``raise ... from None`` hides it; the result is then None.
    """
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def one_line(error: BaseException) -> str:
    """Return the message of an error on one line, without the text that MMEngine adds to it."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f'{error.filename}: {error.strerror}'
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    text = re.sub(r'^class `[^`]*` in [\w/.]+: ', '', text)
    # Added by MMEngine for an unregistered `type`.
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
    """Extract the message of a user error that a data-loading worker passed on as text."""
    text = str(error.args[0]) if error.args else ''
    if not (text.startswith('Caught ') and 'Original Traceback' in text):
        return None
    if not isinstance(error, (InputError, *USER_KINDS)):
        return None
    lines = text.rstrip().splitlines()
    last_frame = max(i for i, line in enumerate(lines) if line.lstrip().startswith('File "'))
    # The message follows the source line (and its ^^^ marks) and may span several lines.
    for i in range(last_frame + 1, len(lines)):
        if re.match(r'[\w.]+: ', lines[i]):
            return ' '.join(' '.join(lines[i:]).split()).split(': ', 1)[1]
    return None
