"""Load annotation pickles without executing their content.

A pickle is a program: loading one from an untrusted source can run any command. These readers
accept plain Python containers, numbers, strings, NumPy arrays of numbers and MMEngine's
``InstanceData``, which becomes a dict, and reject everything else. They never call NumPy's own
reconstructors with arguments from the file, because a forged dtype or array state could corrupt
memory. Instead, they rebuild arrays from their bytes through public functions.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, BinaryIO, Literal

import numpy as np

from ..errors import InputError
from .atomic import is_zip
from .pickle_memo import check_memo

__all__ = ['UntrustedPickleError', 'load_legacy_torch', 'load_pickle']

_BUILTINS = {'complex': complex, 'frozenset': frozenset, 'set': set}
_BYTES = {'bytearray': bytearray, 'bytes': bytes}
_NUMBER_DTYPE = re.compile(r'[biufc]\d{1,2}|[SU]\d{1,9}')
_INTERNAL = ('_data_fields', '_metainfo_fields')
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_TORCH_PROTOCOL = 1001
_PAYLOAD = re.compile(r'([^/]+/)?data\.pkl')


class UntrustedPickleError(pickle.UnpicklingError):
    """Report that a pickle needs something other than plain data."""


class _TensorsError(UntrustedPickleError):
    """Report that a pickle needs PyTorch's tensors."""


class _DType:
    """Represent a ``numpy.dtype`` while the pickle is read."""

    __slots__ = ('byteorder', 'code')

    def __init__(self, code: str) -> None:
        if code not in ('O8', 'O') and not _NUMBER_DTYPE.fullmatch(code):
            raise InputError(f'dtype {code!r} is not one of plain numbers or strings')
        self.code = code
        self.byteorder: Literal['<', '>', '|', '='] = '='

    def __setstate__(self, state: tuple) -> None:
        byteorder, subdtype, names, fields = state[1:5]
        if byteorder not in ('<', '>', '|', '=') or (subdtype, names, fields) != (None, None, None):
            raise InputError('structured dtypes are not admitted')
        self.byteorder = byteorder

    @property
    def is_object(self) -> bool:
        return self.code[0] == 'O'

    def resolve(self) -> np.dtype:
        if self.is_object:
            raise InputError('an object dtype cannot be read from bytes')
        return np.dtype(self.code).newbyteorder(self.byteorder)


class _Array:
    """Represent a ``numpy.ndarray`` until its state is read."""

    __slots__ = ('value',)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, raw = state
        self.value = _build_array(raw, dtype, shape, 'F' if is_fortran else 'C')


class _Instances(dict):
    """Represent an ``mmengine.structures.InstanceData`` by a dict of its fields."""

    def __setstate__(self, state: dict) -> None:
        self.update((key, value) for key, value in state.items() if key not in _INTERNAL)


def _build_array(raw: Any, dtype: _DType, shape: tuple, order: Literal['C', 'F']) -> np.ndarray:
    """Build an array from bytes, or from a list of plain values for object arrays."""
    if not isinstance(dtype, _DType) or not isinstance(shape, tuple):
        raise InputError('malformed array state')
    if dtype.is_object:
        if not isinstance(raw, list) or len(raw) != math.prod(shape):
            raise InputError('malformed object array')
        flat = np.empty(len(raw), dtype=object)
        for i, value in enumerate(raw):
            flat[i] = value
    else:
        if isinstance(raw, str):  # bytes in a Python 2 pickle, read as latin1
            raw = raw.encode('latin1')
        flat = np.frombuffer(bytes(raw), dtype=dtype.resolve(), count=math.prod(shape))
    return flat.reshape(shape, order=order).copy(order=order)


class _PlainUnpickler(pickle.Unpickler):
    """Unpickle a stream that may only use a fixed list of globals.

    Args:
        file: Binary stream.
        name: The name of the stream in error messages.
        encoding: Encoding of Python 2 ``str`` values.
    """

    def __init__(self, file: BinaryIO, name: str, encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self.name = name
        self.has_arrays = False

    def find_class(self, module: str, name: str) -> Any:
        # Create the functions on every call, so that a pickle that sets attributes on them (opcode
        # BUILD) only affects itself.
        if module in ('builtins', '__builtin__') and name in _BUILTINS:
            return _BUILTINS[name]
        if module in ('builtins', '__builtin__') and name in _BYTES:
            return lambda *values: _bytes(_BYTES[name], *values)
        if (module, name) == ('collections', 'OrderedDict'):
            return OrderedDict
        if (module, name) == ('_codecs', 'encode'):
            return lambda text, encoding: _encode_latin1(text, encoding)
        if module == 'numpy' and name == 'dtype':
            return lambda code, align=False, copy=False: _DType(code)
        if module == 'numpy' and name == 'ndarray':
            return 'numpy.ndarray'
        if module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
            if name == '_reconstruct':
                return self._new_array()
            if name == 'scalar':
                return lambda dtype, raw: _build_array(raw, dtype, (1,), 'C')[0]
        if module in ('numpy.core.numeric', 'numpy._core.numeric') and name == '_frombuffer':
            return lambda raw, dtype, shape, order: _build_array(raw, dtype, shape, order)
        if (module, name) == ('mmengine.structures.instance_data', 'InstanceData'):
            return _Instances
        asked = f'{module}.{name}'.encode('unicode_escape').decode()  # the name can be anything
        is_torch = module.partition('.')[0] == 'torch'
        raise (_TensorsError if is_torch else UntrustedPickleError)(
            f'{self.name}: the pickle asks for {asked}, which plain annotation data does '
            'not need and which could run code. If you trust whoever made this file, load it with '
            'trust=True (trust_pickle=True in a dataset config).'
        )

    def _new_array(self) -> Any:
        self.has_arrays = True
        return lambda cls, shape, typecode: _Array()

    def persistent_load(self, pid: Any) -> Any:
        raise _TensorsError(
            f'{self.name}: the pickle refers to objects stored outside of it (tensors, as in a '
            'checkpoint); only plain annotation data is read here.'
        )

    def load_plain(self) -> Any:
        """Load the next object of the stream and replace the stand-ins by arrays."""
        value = self.load()
        return _replace_arrays(value, {}) if self.has_arrays else value


def _bytes(kind: Any, *values: Any) -> Any:
    if any(isinstance(value, int) for value in values):  # bytes(n) allocates n zeros
        raise InputError('bytes of a given number')
    return kind(*values)


def _encode_latin1(text: str, encoding: str) -> bytes:
    # Python 3 pickles bytes in this way in protocols below 3.
    if encoding not in ('latin1', 'latin-1'):
        raise InputError(f'codec {encoding!r} is not admitted')
    return text.encode('latin1')


def _replace_arrays(value: Any, done: dict[int, Any]) -> Any:
    """Replace each ``_Array`` in nested containers by its array; lists and dicts in place."""
    if isinstance(value, _Array):
        if value.value is None:
            raise InputError('an array without a state')
        if value.value.dtype == object and id(value) not in done:
            done[id(value)] = value.value
            flat = value.value.reshape(-1, order='A')
            for i, item in enumerate(flat):
                flat[i] = _replace_arrays(item, done)
        return value.value
    if not isinstance(value, (list, dict, tuple)):
        return value
    if id(value) in done:
        return done[id(value)]
    done[id(value)] = value
    if isinstance(value, list):
        value[:] = [_replace_arrays(item, done) for item in value]
    elif isinstance(value, dict):
        for key in value:
            value[key] = _replace_arrays(value[key], done)
    else:
        items = [_replace_arrays(item, done) for item in value]
        if any(new is not old for new, old in zip(items, value)):
            done[id(value)] = tuple(items)
    return done[id(value)]


def _read(file: BinaryIO, name: str, trust: bool, encoding: str) -> Any:
    """Load the next object pickled in ``file``, and name the file in errors."""
    try:
        if trust:
            return pickle.load(file, encoding=encoding)
        start = file.tell()
        check_memo(file.read())
        file.seek(start)
        return _PlainUnpickler(file, name, encoding).load_plain()
    except UntrustedPickleError:
        raise
    except Exception as error:  # damaged pickles raise almost any exception
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())
        raise pickle.UnpicklingError(f'{name}: not a readable pickle ({reason})') from error


def load_pickle(
    path_or_file: str | os.PathLike | BinaryIO, trust: bool = False, encoding: str = 'latin1'
) -> Any:
    """Load a pickle that holds plain data.

    The pickle may contain Python containers, numbers, strings and bytes, and NumPy scalars and
    arrays of numbers and strings, with the module paths of NumPy 1 and 2. Object arrays may contain
    the same types. An ``InstanceData`` of MMEngine becomes a dict of its fields.

    Args:
        path_or_file: A path, or a seekable stream opened for reading bytes.
        trust: Use the ordinary unpickler, which may run code that the file contains.
        encoding: Encoding of the ``str`` values of Python 2 pickles.

    Raises:
        UntrustedPickleError: The file uses any other global.
        pickle.UnpicklingError: The file is not a complete pickle.
    """
    if isinstance(path_or_file, (str, os.PathLike)):
        with open(path_or_file, 'rb') as file:
            return _read(file, os.fspath(path_or_file), trust, encoding)
    name = str(getattr(path_or_file, 'name', '<stream>'))
    return _read(path_or_file, name, trust, encoding)


def load_legacy_torch(
    path: str | os.PathLike, trust: bool = False, encoding: str = 'latin1'
) -> Any:
    """Load plain data written by ``torch.save``, such as the annotation files of TransVG.

    Zip files, and those of four consecutive pickles (magic number, protocol version, system
    information, payload), which PyTorch wrote before version 1.6, may hold the same: what
    :func:`load_pickle` reads, or plain data with tensors, which become arrays. A file with both
    tensors and NumPy values is refused.

    Args:
        path: The file.
        trust: Use the ordinary unpickler, which may run code that the file contains.
        encoding: Encoding of the ``str`` values of Python 2 pickles.

    Raises:
        UntrustedPickleError: The file contains more than plain data.
        pickle.UnpicklingError: The file is damaged or was not written by ``torch.save``.
    """
    name = os.fspath(path)
    with _open_payload(name, encoding) as file:
        if not trust:
            with contextlib.suppress(_TensorsError):
                return _read(file, name, trust, encoding)
    return _as_arrays(_load_tensors(name, not trust, encoding))


@contextlib.contextmanager
def _open_payload(name: str, encoding: str) -> Iterator[BinaryIO]:
    """Open a file of ``torch.save`` where the pickle of what was saved begins."""
    if is_zip(name):
        yield io.BytesIO(_zipped_payload(name))
        return
    with open(name, 'rb') as file:
        if _read(file, name, False, encoding) != _TORCH_MAGIC:
            raise pickle.UnpicklingError(f'{name}: not a file of torch.save (wrong magic number)')
        protocol = _read(file, name, False, encoding)
        if protocol != _TORCH_PROTOCOL:
            raise pickle.UnpicklingError(
                f'{name}: torch.save protocol {protocol}, expected {_TORCH_PROTOCOL}'
            )
        _read(file, name, False, encoding)  # system information
        yield file


def _zipped_payload(name: str) -> bytes:
    try:
        with zipfile.ZipFile(name) as archive:
            members = [m for m in archive.infolist() if _PAYLOAD.fullmatch(m.filename)]
            if len(members) != 1 or members[0].compress_type != zipfile.ZIP_STORED:
                raise InputError('no data.pkl that is stored without compression')
            return archive.read(members[0])
    except Exception as error:  # damaged files raise almost any exception
        raise pickle.UnpicklingError(_damaged(name, error)) from error


def _damaged(name: str, error: Exception) -> str:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f'{name}: damaged, or no file of torch.save ({reason})'


def _load_tensors(name: str, weights_only: bool, encoding: str) -> Any:
    import torch

    options: dict[str, Any] = {} if weights_only else dict(encoding=encoding)
    try:
        return torch.load(name, map_location='cpu', weights_only=weights_only, **options)
    except pickle.UnpicklingError as error:
        found = re.search(r'GLOBAL ([\w.]+)', str(error))
        asked = found.group(1) if found else str(error).splitlines()[0]
        raise UntrustedPickleError(
            f'{name}: torch.load(weights_only=True) refuses {asked} beside tensors. If you trust '
            'whoever made this file, load it with trust=True (trust_pickle=True in a dataset '
            'config).'
        ) from None
    except Exception as error:  # damaged files raise almost any exception
        raise pickle.UnpicklingError(_damaged(name, error)) from error


def _as_arrays(value: Any) -> Any:
    """Replace each tensor in nested containers by a NumPy array."""
    import torch

    if isinstance(value, torch.Tensor):
        value = value.detach()
        return np.array(value.float() if value.dtype == torch.bfloat16 else value)
    if type(value) in (dict, OrderedDict):
        return {key: _as_arrays(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)([_as_arrays(item) for item in value])
    return value
