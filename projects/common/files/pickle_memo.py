"""Check a pickle for objects that Python would remember by numbers that fill the memory."""

from __future__ import annotations

import pickletools

from ..errors import InputError

__all__ = ['check_memo']

# The size of each opcode's argument: fixed, stored as a length in front of it, or a number of
# lines.
_FIXED, _COUNTED, _LINES = [0] * 256, {}, {}
for _each in pickletools.opcodes:
    _code, _length = ord(_each.code), _each.arg.n if _each.arg else 0
    if _length >= 0:
        _FIXED[_code] = 1 + _length
    elif _length == pickletools.UP_TO_NEWLINE:
        _LINES[_code] = 2 if _each.arg is pickletools.stringnl_noescape_pair else 1
    else:
        _COUNTED[_code] = {
            pickletools.TAKEN_FROM_ARGUMENT1: 1,
            pickletools.TAKEN_FROM_ARGUMENT4: 4,
            pickletools.TAKEN_FROM_ARGUMENT4U: 4,
            pickletools.TAKEN_FROM_ARGUMENT8U: 8,
        }[_length]
_PUT, _LONG_PUT, _STOP = ord('p'), ord('r'), ord('.')


def check_memo(data: bytes) -> None:
    """Check the memo indices of a pickle before it is loaded.

    Python's unpickler allocates a table that is as long as the largest memo index: a single index
    of 2^32 makes it fill 64 GiB.

    Raises:
        ValueError: An index is larger than the size of the pickle, which no pickler writes.
    """
    at, end, fixed = 0, len(data), _FIXED
    while at < end:
        code = data[at]
        length = fixed[code]
        if length:
            if code == _STOP:
                return
            if code == _LONG_PUT:
                _check_number(int.from_bytes(data[at + 1 : at + 5], 'little'), end)
            at += length
        elif code in _COUNTED:
            width = _COUNTED[code]
            at += 1 + width + int.from_bytes(data[at + 1 : at + 1 + width], 'little')
        elif code in _LINES:
            start = at + 1
            for _ in range(_LINES[code]):
                at = data.find(b'\n', at + 1)
                if at < 0:
                    return  # truncated: the unpickler reports it
            if code == _PUT:
                _check_number(int(data[start:at]), end)
            at += 1
        else:
            return  # not an opcode: the unpickler reports it


def _check_number(number: int, size: int) -> None:
    if number > size:
        raise InputError('an object is remembered by a number larger than the file')
