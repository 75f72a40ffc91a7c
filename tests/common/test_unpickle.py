import contextlib
import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch

from projects.common.files.unpickle import (
    UntrustedPickleError,
    load_legacy_torch,
    load_pickle,
)


def _loads(data: bytes, **kwargs):
    return load_pickle(io.BytesIO(data), **kwargs)


PLAIN = {
    'text': 'wörds',
    'numbers': [1, 2.5, True, None, 10**30, 1 + 2j],
    'nested': ({'a': (1, 2)}, {1, 2}, frozenset('x'), b'\x00\xff', bytearray(b'y')),
}
ARRAYS = {
    'int': np.arange(6).reshape(2, 3),
    'fortran': np.asfortranarray(np.arange(6, dtype='<f4').reshape(2, 3)),
    'big_endian': np.arange(3, dtype='>i2'),
    'bool': np.array([True, False]),
    'words': np.array(['a', 'bcd']),
    'bytes': np.array([b'a', b'bcd']),
    'empty': np.zeros((0, 4)),
    'scalar': np.array(3.5),
}


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_round_trip(protocol):
    assert _loads(pickle.dumps(PLAIN, protocol=protocol)) == PLAIN


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_numpy_round_trip(protocol):
    shared = np.arange(3.0)
    data = {**ARRAYS, 'tuple': (shared, [shared]), 'number': np.float32(1.5), 'id': np.int64(7)}
    loaded = _loads(pickle.dumps(data, protocol=protocol))
    for key, array in ARRAYS.items():
        assert type(loaded[key]) is np.ndarray
        assert loaded[key].dtype == array.dtype
        assert loaded[key].flags.f_contiguous == array.flags.f_contiguous
        np.testing.assert_array_equal(loaded[key], array)
    assert loaded['tuple'][0] is loaded['tuple'][1][0]
    assert type(loaded['number']) is np.float32 and loaded['number'] == 1.5
    assert type(loaded['id']) is np.int64 and loaded['id'] == 7
    loaded['int'][0, 0] = 5  # arrays own their memory


@pytest.mark.parametrize('protocol', [2, 4])
def test_object_arrays_of_plain_values(protocol):
    array = np.array([np.zeros(2), None, [np.ones(1)], 'x'], dtype=object)
    loaded = _loads(pickle.dumps([array], protocol=protocol))[0]
    assert loaded.dtype == object and loaded.shape == (4,)
    np.testing.assert_array_equal(loaded[0], np.zeros(2))
    assert loaded[1] is None and loaded[3] == 'x'
    assert type(loaded[2][0]) is np.ndarray


def test_module_paths_of_both_numpy_versions():
    data = pickle.dumps(np.arange(3), protocol=2)
    one = data.replace(b'numpy._core.multiarray', b'numpy.core.multiarray')
    two = one.replace(b'numpy.core.multiarray', b'numpy._core.multiarray')
    assert one != two
    np.testing.assert_array_equal(_loads(one), np.arange(3))
    np.testing.assert_array_equal(_loads(two), np.arange(3))


def test_python2_strings_and_arrays():
    # Written by Python 2 as pickle.dumps([u'caf\xe9', 'caf\xe9', array([1, 2], '<u2')], 2).
    data = (
        b'\x80\x02](X\x05\x00\x00\x00caf\xc3\xa9U\x04caf\xe9'
        b'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R'
        b'(K\x01K\x02\x85cnumpy\ndtype\nU\x02u2K\x00K\x01\x87R'
        b'(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x04\x01\x00\x02\x00tbe.'
    )
    first, second, array = _loads(data)
    assert first == second == 'café'
    np.testing.assert_array_equal(array, np.array([1, 2], dtype='<u2'))


class _Call:
    """Pickles as a call of ``function(*args)``."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def _stack_global(module: str, name: str, arg: str) -> bytes:
    def text(value):
        return b'\x8c' + struct.pack('B', len(value)) + value.encode()

    return b'\x80\x04' + text(module) + text(name) + b'\x93' + text(arg) + b'\x85R.'


def _hostile(marker) -> dict[str, bytes]:
    """Pickles that create the file ``marker`` when an ordinary unpickler loads them."""
    command = f'touch {marker}'
    python = f'open({str(marker)!r}, "w")'
    call = _Call(os.system, command)
    array = np.array([call], dtype=object)
    return {
        'global': b'cposix\nsystem\n(V' + command.encode() + b'\ntR.',
        'stack_global': _stack_global('posix', 'system', command),
        'inst': b'(V' + command.encode() + b'\niposix\nsystem\n.',
        'obj': b'(cposix\nsystem\nV' + command.encode() + b'\no.',
        'python2_builtin': b'c__builtin__\neval\n(V' + python.encode() + b'\ntR.',
        'eval': pickle.dumps(_Call(eval, python)),
        'exec': pickle.dumps(_Call(exec, python)),
        'getattr': pickle.dumps(_Call(getattr, 'os', 'system')),
        'nested': pickle.dumps({'a': [1, (2, {'b': call})]}),
        'object_array': pickle.dumps(array),
        'in_dtype': pickle.dumps(_Call(np.dtype, call)),
        'dotted': _stack_global('numpy', 'dtype.__init__', 'f8'),
        'import': _stack_global('importlib', 'import_module', 'os'),
        'ordered_dict_of': pickle.dumps(_Call(__import__('collections').OrderedDict, call)),
    }


def test_hostile_pickles_are_hostile(tmp_path):
    # The check of the check: the ordinary unpickler does run them.
    for name in ('global', 'stack_global', 'inst', 'eval', 'object_array'):
        marker = tmp_path / name
        with contextlib.suppress(Exception):
            pickle.loads(_hostile(marker)[name])
        assert marker.exists(), name


@pytest.mark.parametrize('name', sorted(_hostile('x')))
def test_hostile_pickles_never_run(tmp_path, name):
    marker = tmp_path / 'marker'
    path = tmp_path / 'refs(evil).p'
    path.write_bytes(_hostile(marker)[name])
    with pytest.raises(UntrustedPickleError) as error:
        load_pickle(path)
    assert not marker.exists()
    message = str(error.value)
    assert str(path) in message and 'trust=True' in message and 'trust_pickle=True' in message
    assert '\n' not in message


def test_message_names_the_global():
    with pytest.raises(UntrustedPickleError, match=r'posix\.system'):
        _loads(b'cposix\nsystem\n(Vtrue\ntR.')


def test_trust_admits_everything():
    data = pickle.dumps(range(3))
    with pytest.raises(UntrustedPickleError, match='range'):
        _loads(data)
    assert _loads(data, trust=True) == range(3)


NUMPY_TRICKS = {
    'numpy.load': lambda: _stack_global('numpy', 'load', 'x.npy'),
    'numpy.fromfile': lambda: _stack_global('numpy', 'fromfile', '/etc/hostname'),
    'runstring': lambda: _stack_global('numpy.testing._private.utils', 'runstring', 'x'),
    'f2py': lambda: _stack_global('numpy.f2py.crackfortran', 'myeval', '1'),
    'ctypes': lambda: _stack_global('ctypes', 'CDLL', 'libc.so.6'),
    'frombuffer': lambda: _stack_global('numpy', 'frombuffer', 'x'),
}


@pytest.mark.parametrize('name', NUMPY_TRICKS)
def test_numpy_callables_are_refused(name):
    with pytest.raises(UntrustedPickleError):
        _loads(NUMPY_TRICKS[name]())


def _array_with_dtype(code: str, dtype_state: str, raw: bytes) -> bytes:
    """Protocol-0 pickle of an array of one element with a chosen dtype state and raw bytes."""
    return (
        b'cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS"b"\ntR'
        b'(I1\n(I1\ntcnumpy\ndtype\n(S"' + code.encode() + b'"\nI00\nI01\ntR'
        b'(' + dtype_state.encode() + b'tbI00\n' + raw + b'tb.'
    )


def test_forged_object_pointers_are_refused():
    # An object dtype whose flags deny that it holds objects would read pointers from the file.
    state = 'I3\nS"|"\nNNNI-1\nI-1\nI0\n'
    pointers = b'S"AAAAAAAA"\n'
    with pytest.raises(pickle.UnpicklingError, match='object'):
        _loads(_array_with_dtype('O8', state, pointers))


def test_forged_dtype_states_are_refused_or_ignored():
    raw = b'S"AAAAAAAA"\n'
    honest = _array_with_dtype('f8', 'I3\nS"<"\nNNNI-1\nI-1\nI0\n', raw)
    assert _loads(honest).shape == (1,)
    # A field far outside of the element.
    fields = '(S"a"\nt(dS"a"\n(cnumpy\ndtype\n(S"f8"\ntRI99999999\nts'
    with pytest.raises(pickle.UnpicklingError, match='structured'):
        _loads(_array_with_dtype('f8', f'I3\nS"<"\nN{fields}I-1\nI-1\nI0\n', raw))
    # An item size that is not that of the type has no effect.
    huge = _array_with_dtype('f8', 'I3\nS"<"\nNNNI99999\nI1\nI63\n', raw)
    assert _loads(huge).nbytes == 8
    for code in ('V8', 'M8', 'O', 'f8,O', 'object'):
        with pytest.raises(pickle.UnpicklingError):
            _loads(_array_with_dtype(code, 'I3\nS"|"\nNNNI-1\nI-1\nI0\n', raw))


def test_array_larger_than_its_bytes_is_refused():
    data = pickle.dumps(np.zeros(4, dtype='u1'), protocol=2).replace(b'K\x04\x85', b'K\xff\x85')
    with pytest.raises(pickle.UnpicklingError):
        _loads(data)


def test_setting_attributes_on_admitted_globals_has_no_effect():
    # BUILD with a slot state calls setattr on whatever GLOBAL gave.
    build = b'\x80\x02cnumpy\ndtype\nN}X\x0c\x00\x00\x00__defaults__(X\x02\x00\x00\x00O8K\x00tstb.'
    with contextlib.suppress(pickle.UnpicklingError):
        _loads(build)
    np.testing.assert_array_equal(_loads(pickle.dumps(np.arange(3))), np.arange(3))


@pytest.mark.parametrize('data', [b'', b'not a pickle', pickle.dumps([1] * 100)[:-20]])
def test_damaged_files_are_named(tmp_path, data):
    path = tmp_path / 'broken.p'
    path.write_bytes(data)
    with pytest.raises(pickle.UnpicklingError, match='broken.p: not a readable pickle'):
        load_pickle(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_pickle(tmp_path / 'none.p')


# ---- torch files


def _legacy(path, payload: bytes, magic: int = 0x1950A86A20F9469CFC6C, protocol: int = 1001):
    head = [magic, protocol, {'little_endian': True}]
    path.write_bytes(b''.join(pickle.dumps(item, protocol=2) for item in head) + payload)
    return path


def test_legacy_torch_equals_torch_load(tmp_path):
    data = [('a.jpg', '1.pth', [1.0, 2.0, 3.0, 4.0], 'man', [('r1', ['man'])])]
    path = tmp_path / 'x.pth'
    torch.save(data, path, _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(path)
    assert load_legacy_torch(path) == data == torch.load(path, weights_only=False)
    torch.save(data, path)
    assert zipfile.is_zipfile(path)
    assert load_legacy_torch(path) == data


def test_legacy_torch_refuses(tmp_path):
    marker = tmp_path / 'marker'
    for name, payload in _hostile(marker).items():
        with pytest.raises(UntrustedPickleError, match='evil.pth'):
            load_legacy_torch(_legacy(tmp_path / 'evil.pth', payload))
        assert not marker.exists(), name
    # The head is read in the same way, even when the payload is trusted.
    (tmp_path / 'head.pth').write_bytes(_hostile(marker)['global'])
    with pytest.raises(UntrustedPickleError):
        load_legacy_torch(tmp_path / 'head.pth', trust=True)
    assert not marker.exists()
    with pytest.raises(pickle.UnpicklingError, match='magic'):
        load_legacy_torch(_legacy(tmp_path / 'a.pth', b'N.', magic=5))
    with pytest.raises(pickle.UnpicklingError, match='protocol 7'):
        load_legacy_torch(_legacy(tmp_path / 'a.pth', b'N.', protocol=7))


@pytest.mark.parametrize('as_zip', [False, True])
def test_tensors_become_arrays_in_both_formats(tmp_path, as_zip):
    path = tmp_path / 'labels.pth'
    options = dict(_use_new_zipfile_serialization=as_zip)
    data = [('a.jpg', torch.tensor([[1.0, 2.0], [3.0, 4.0]]).T, {'ids': torch.tensor([7, 8])})]
    torch.save(data, path, **options)
    for trust in (False, True):
        ((name, box, rest),) = load_legacy_torch(path, trust=trust)
        assert name == 'a.jpg' and type(box) is np.ndarray and box.dtype == np.float32
        assert box.tolist() == [[1, 3], [2, 4]] and rest['ids'].tolist() == [7, 8]
    torch.save(data[0] + (np.ones(2),), path, **options)
    with pytest.raises(UntrustedPickleError, match=r'labels.pth.* beside tensors.*trust_pickle'):
        load_legacy_torch(path)


def test_torch_zip_refuses_and_trusts(tmp_path):
    path = tmp_path / 'zip.pth'
    marker = tmp_path / 'marker'
    torch.save(_Call(os.system, f'touch {marker}'), path)
    with pytest.raises(UntrustedPickleError, match=r'zip\.pth.*posix\.system') as error:
        load_legacy_torch(path)
    assert not marker.exists() and 'trust_pickle=True' in str(error.value)
    torch.save(range(3), path)
    assert load_legacy_torch(path, trust=True) == range(3)


def test_real_files(shared_data):
    sample = shared_data / 'refcoco_sample'
    refs = load_pickle(sample / 'refcoco' / 'refs(unc).p')
    with open(sample / 'refcoco' / 'refs(unc).p', 'rb') as file:
        assert refs == pickle.load(file)
    rows = load_legacy_torch(sample / 'transvg' / 'unc' / 'unc_val.pth')
    assert len(rows) == 10834 and len({row[0] for row in rows}) == 1500


@pytest.mark.parametrize('put', [b'r' + struct.pack('<I', 10**7), b'p10000000\n'])
def test_numbers_that_would_fill_the_memory(put):
    """Python's unpickler makes a table of twice that length."""
    with pytest.raises(pickle.UnpicklingError, match='larger than the file'):
        _loads(b'\x80\x02]' + put + b'.')
    # the same bytes within a string are a string
    text = put.decode('latin1')
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert _loads(pickle.dumps([text, put], protocol)) == [text, put]
    with pytest.raises(pickle.UnpicklingError, match='larger than the file'):
        _loads(pickle.dumps([text, put], 4)[:-1] + put + b'.')


@pytest.mark.parametrize('name', ['bytes', 'bytearray'])
def test_bytes_of_a_number(name):
    with pytest.raises(pickle.UnpicklingError, match='number'):
        _loads(f'c__builtin__\n{name}\n(I1000000000\ntR.'.encode())


def test_several_pickles_in_a_row():
    stream = io.BytesIO(pickle.dumps([1], 0) + pickle.dumps({'a': 'r\xff\xff\xff\xff'}, 2))
    assert load_pickle(stream) == [1]
    assert load_pickle(stream) == {'a': 'r\xff\xff\xff\xff'}
