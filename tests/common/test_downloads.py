"""Downloads continue, notice what is broken, and archives write nowhere but into their folder."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import tarfile
import zipfile
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest

from projects.common.downloads import install, transfer, unpack
from projects.common.downloads.published import PublishedFile, PublishedSet
from projects.common.downloads.transfer import download, remote_size
from projects.common.errors import InputError

DATA = np.random.default_rng(0).bytes(300_000)
NEW = np.random.default_rng(1).bytes(280_000)
CUT = 100_000


@pytest.fixture
def get(file_server, tmp_path):
    """Downloads /a.bin and returns its bytes."""

    def run(**options) -> bytes:
        path = tmp_path / 'a.bin'
        download([f'{file_server.url}/a.bin'], path, wait=0.001, **options)
        assert os.listdir(tmp_path) == ['a.bin']  # neither part nor record is left
        return path.read_bytes()

    return run


# ------------------------------------------------------------------------------------ transfers


def test_whole_file_in_one_request(file_server, get):
    file_server.add('a.bin', DATA)
    digest = f'sha256:{hashlib.sha256(DATA).hexdigest()}'
    assert get(size=len(DATA), digest=digest) == DATA
    assert file_server.ranges() == [None]
    assert get() == DATA  # there already? the caller asks; a second download replaces it
    assert remote_size([f'{file_server.url}/gone', f'{file_server.url}/a.bin']) == len(DATA)
    assert remote_size([f'{file_server.url}/gone']) is None


def test_broken_connections_are_continued(file_server, get, capsys):
    file_server.add('a.bin', DATA, script=[CUT, 50_000])
    assert get() == DATA
    assert file_server.ranges() == [None, 'bytes=100000-', 'bytes=150000-']
    assert file_server.requests[1][2]['If-Range'] == '"v1"'
    assert file_server.sent == len(DATA)  # nothing was sent twice
    assert capsys.readouterr().out.count('trying again in 0.001 s') == 2


def test_a_short_answer_is_no_file(file_server, get, tmp_path):
    file_server.add('a.bin', DATA, script=[CUT] * 20, ranges=False)
    with pytest.raises(InputError, match=r'a\.bin: .*100000.*, 8 times in a row'):
        get()
    assert not (tmp_path / 'a.bin').exists()


def test_without_ranges_the_file_starts_again(file_server, get, capsys):
    file_server.add('a.bin', DATA, script=[CUT], ranges=False)
    assert get() == DATA
    assert file_server.sent == CUT + len(DATA)
    assert 'from its beginning again' in capsys.readouterr().out


@pytest.mark.parametrize('etag', ['"v2"', None, 'W/"v2"'])
def test_a_file_that_changed_meanwhile_starts_again(file_server, tmp_path, get, monkeypatch, etag):
    """By its tag, or without a strong one by its date."""
    old = 'Mon, 02 Jan 2006 00:00:00 GMT'
    weak = etag and etag.replace('2', '1')
    file = file_server.add('a.bin', DATA, etag=weak, modified=old, script=[CUT] + [503] * 8)
    with pytest.raises(InputError, match='found status 503'):
        get()
    assert (tmp_path / 'a.bin.part').stat().st_size == CUT
    file.data, file.etag, file.modified = NEW, etag, 'Tue, 03 Jan 2006 00:00:00 GMT'
    assert get() == NEW
    condition = file_server.requests[-1][2]['If-Range']
    assert condition == ('"v1"' if etag == '"v2"' else old)


def test_without_a_validator_the_length_decides(file_server, tmp_path, get):
    file = file_server.add('a.bin', DATA, etag=None, script=[CUT, *[503] * 8])
    with pytest.raises(InputError):
        get()
    file.data = NEW
    assert get() == NEW  # continued as 280,000 bytes, refused, and downloaded again
    assert file_server.ranges()[-2:] == ['bytes=100000-', None]


def test_a_shorter_file_than_the_part(file_server, tmp_path, get):
    file = file_server.add('a.bin', DATA, etag=None, script=[CUT, *[503] * 8])
    with pytest.raises(InputError):
        get()
    file.data = NEW[:1000]
    assert get() == NEW[:1000]


def test_a_part_with_a_damaged_record_starts_again(file_server, tmp_path, get):
    file_server.add('a.bin', DATA)
    (tmp_path / 'a.bin.part').write_bytes(NEW[:CUT])
    (tmp_path / 'a.bin.part.json').write_text('{"url": ')
    assert get() == DATA
    assert file_server.ranges() == [None]


def test_complete_part_needs_no_request(file_server, tmp_path, get):
    record = dict(url=f'{file_server.url}/a.bin', etag='"v1"', modified=None, size=len(DATA))
    (tmp_path / 'a.bin.part').write_bytes(DATA)
    (tmp_path / 'a.bin.part.json').write_text(json.dumps(record))
    assert get() == DATA
    assert not file_server.requests


def test_redirects_are_followed_to_the_end(file_server, get):
    file_server.add('b.bin', DATA, script=[CUT])
    moved = (302, {'Location': '/b.bin'})
    file_server.add('a.bin', b'', script=[moved, (301, {'Location': f'{file_server.url}/b.bin'})])
    assert get() == DATA
    paths = [path for _, path, _ in file_server.requests]
    assert paths == ['/a.bin', '/b.bin', '/a.bin', '/b.bin']
    assert file_server.ranges()[-1] == 'bytes=100000-'


def test_a_ring_of_redirects_ends(file_server, get):
    file_server.add('a.bin', b'', script=[(302, {'Location': '/a.bin'})] * 100)
    with pytest.raises(InputError, match='30 redirects'):
        get()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(script=[404]), 'found status 404 Not Found, expected 200'),
        (dict(kind='text/html; charset=utf-8'), r'found a web page \(text/html; .*expected a file'),
        (dict(data=DATA[:99]), 'found 99 bytes, expected 300,000'),
    ],
)
def test_what_is_not_the_file(file_server, get, options, message):
    file_server.add('a.bin', **{'data': DATA, **options})
    with pytest.raises(InputError, match=message):
        get(size=len(DATA))
    assert len(file_server.requests) == 1


def test_no_length_is_known(file_server, get):
    file_server.add('a.bin', DATA, length=False, script=[CUT])
    with pytest.raises(InputError, match='found 100,000 bytes, expected 300,000'):
        get(size=len(DATA))
    assert get(size=len(DATA)) == DATA


def test_wrong_checksum_deletes_the_file(file_server, tmp_path, get):
    file_server.add('a.bin', DATA)
    found = hashlib.md5(DATA).hexdigest()
    with pytest.raises(InputError, match=f'a.bin: .*found the md5 checksum {found}, expected 0123'):
        get(digest='md5:0123')
    assert os.listdir(tmp_path) == []


def test_the_next_address_is_tried(file_server, tmp_path, capsys):
    file_server.add('b/a.bin', DATA)
    closed = 'http://127.0.0.1:1/a.bin'  # nobody listens there
    urls = [closed, f'{file_server.url}/a.bin', f'{file_server.url}/b/a.bin']
    download(urls, tmp_path / 'a.bin', wait=0.001)
    assert (tmp_path / 'a.bin').read_bytes() == DATA
    printed = capsys.readouterr().out
    assert 'Connection refused' in printed and 'found status 404' in printed


def test_busy_servers_say_how_long_to_wait(file_server, get, monkeypatch):
    waited = []
    monkeypatch.setattr(transfer, 'time', SimpleNamespace(sleep=waited.append))
    file_server.add('a.bin', DATA, script=[(429, {'Retry-After': '7'}), 503, 503])
    assert get() == DATA
    assert waited == [7, 0.002, 0.004]


# ------------------------------------------------------------------------------------- archives


def write_tar(path, *members, mode='w:gz'):
    with tarfile.open(path, mode) as archive:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.mode = kind, 0o4777
            if kind == tarfile.REGTYPE:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            else:
                member.linkname = content
                archive.addfile(member)
    return path


def write_zip(path, *members):
    with zipfile.ZipFile(path, 'w') as archive:
        for name, kind, content in members:
            member = zipfile.ZipInfo(name)
            member.external_attr = (kind | 0o644) << 16
            archive.writestr(member, content)
    return path


GOOD = [('d/a.txt', tarfile.REGTYPE, b'a'), ('./d/e/b.txt', tarfile.REGTYPE, b'b')]
BAD_TAR = {
    'parent': ('../evil.txt', tarfile.REGTYPE, b'x'),
    'inner parent': ('d/../../evil.txt', tarfile.REGTYPE, b'x'),
    'absolute': ('/tmp/evil.txt', tarfile.REGTYPE, b'x'),
    'symbolic link': ('d/evil', tarfile.SYMTYPE, '/etc'),
    'inner link': ('d/evil', tarfile.SYMTYPE, 'a.txt'),
    'hard link': ('d/evil', tarfile.LNKTYPE, '/etc/passwd'),
    'device': ('d/evil', tarfile.CHRTYPE, ''),
    'pipe': ('d/evil', tarfile.FIFOTYPE, ''),
}
BAD_ZIP = {
    'parent': ('../evil.txt', stat.S_IFREG, b'x'),
    'absolute': ('/tmp/evil.txt', stat.S_IFREG, b'x'),
    'symbolic link': ('d/evil', stat.S_IFLNK, b'/etc'),
}


def test_files_and_folders_are_unpacked(tmp_path):
    for i, path in enumerate(
        (
            write_tar(tmp_path / 'a.tgz', *GOOD),
            write_tar(tmp_path / 'a.tar', *GOOD, mode='w:'),
            write_zip(tmp_path / 'a.zip', *((name, stat.S_IFREG, c) for name, _, c in GOOD)),
        )
    ):
        out = tmp_path / str(i)
        unpack.unpack(path, out)
        files = {str(f.relative_to(out)): f for f in out.rglob('*') if f.is_file()}
        assert sorted(files) == ['d/a.txt', 'd/e/b.txt']
        assert not files['d/a.txt'].stat().st_mode & (stat.S_ISUID | stat.S_IWOTH)
        some = tmp_path / f'some{i}'
        unpack.unpack(path, some, ['d/e'])
        assert [f.name for f in some.rglob('*.txt')] == ['b.txt']


@pytest.mark.parametrize(
    ('write', 'name', 'bad'),
    [(write_tar, 'a.tgz', bad) for bad in BAD_TAR.values()]
    + [(write_zip, 'a.zip', bad) for bad in BAD_ZIP.values()],
    ids=[f'tar {kind}' for kind in BAD_TAR] + [f'zip {kind}' for kind in BAD_ZIP],
)
def test_nothing_of_a_bad_archive_is_kept(tmp_path, write, name, bad):
    kind = tarfile.REGTYPE if write is write_tar else stat.S_IFREG
    folder = tmp_path / 'deep' / 'er'
    folder.mkdir(parents=True)
    path = write(folder / name, ('d/a.txt', kind, b'a'), bad, ('d/z.txt', kind, b'z'))
    with pytest.raises(InputError, match=r'member .*: found .*nothing was unpacked') as error:
        unpack.unpack(path, folder / 'out')
    assert bad[0] in str(error.value)
    assert [f.name for f in tmp_path.rglob('*') if f.is_file() or f.is_symlink()] == [name]
    assert not (folder / 'out').exists()
    if not bad[0].startswith(('.', '/')) and '..' not in bad[0]:
        unpack.unpack(path, folder / 'out', ['d/z.txt'])  # not what was asked for
        assert [f.name for f in (folder / 'out').rglob('*') if not f.is_dir()] == ['z.txt']


def test_damaged_archives(tmp_path):
    whole = write_tar(tmp_path / 'a.tgz', ('d/a', tarfile.REGTYPE, DATA)).read_bytes()
    zipped = write_zip(tmp_path / 'a.zip', ('d/a', stat.S_IFREG, DATA)).read_bytes()
    flipped = bytearray(zipped)
    flipped[1000] ^= 1
    for name, content in (
        ('cut.tgz', whole[:1000]), ('text.tar', b'<html>' * 500), ('cut.zip', zipped[:1000]),
        ('flipped.zip', bytes(flipped)),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f'{name}: cannot be unpacked'):
            unpack.unpack(tmp_path / name, tmp_path / 'out')
        assert not (tmp_path / 'out').exists()


def test_full_disk_is_noticed_before(tmp_path, monkeypatch):
    usage = namedtuple('usage', 'free')
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: usage(unpack.SPARE + 200_000))
    for path in (
        write_tar(tmp_path / 'a.tgz', ('d/a', tarfile.REGTYPE, DATA)),
        write_zip(tmp_path / 'a.zip', ('d/a', stat.S_IFREG, DATA)),
    ):
        with pytest.raises(InputError, match=r'100\.2 MB free, expected at least 100\.3 MB'):
            unpack.unpack(path, tmp_path / 'out')
        assert not (tmp_path / 'out').exists()
    file = PublishedFile(('http://x/a.tgz',), (('d', 'd'),), expansion=2)
    store = install.Store(tmp_path / 'root')
    store.check_room([(file, 60_000), (file, None)])
    with pytest.raises(InputError, match='downloading and unpacking: found 100.2 MB free'):
        store.check_room([(file, 70_000)])


def test_sizes_are_readable():
    sizes = [0, 999, 1500, 252_907_541, 19_336_861_798]
    expected = ['0 bytes', '999 bytes', '1.5 kB', '252.9 MB', '19.3 GB']
    assert [unpack.readable_size(size) for size in sizes] == expected


# ----------------------------------------------------------------------------------- the tree


@pytest.fixture
def archive(file_server, tmp_path):
    """An archive on the server: a folder of images and one of others."""
    path = write_tar(tmp_path / 'a.tgz', ('x/img/1.jpg', tarfile.REGTYPE, b'one'),
                     ('x/img/2.jpg', tarfile.REGTYPE, b'two'), ('x/code/link', tarfile.SYMTYPE, '/')
                     )  # fmt: skip
    file_server.add('a.tgz', path.read_bytes())
    path.unlink()
    return PublishedFile((f'{file_server.url}/a.tgz',), (('x/img', 'data/pictures'),))


def tree(root):
    return sorted(str(f.relative_to(root)) for f in root.rglob('*') if f.is_file())


def test_files_get_to_their_places(tmp_path, archive, file_server):
    store = install.Store(tmp_path, keep=False)
    with store.locked():
        assert not store.is_there(archive)
        store.install(archive)
    assert store.is_there(archive)
    assert tree(tmp_path) == [
        '.downloads/a.tgz.unpacked.json', 'data/pictures/1.jpg', 'data/pictures/2.jpg'
    ]  # fmt: skip
    shutil.rmtree(tmp_path / 'data')
    assert not store.is_there(archive)


def test_trees_are_merged_but_nothing_is_replaced(tmp_path, archive):
    folder = tmp_path / 'data/pictures'
    folder.mkdir(parents=True)
    (folder / '0.jpg').write_bytes(b'mine')
    (folder / '1.jpg').write_bytes(b'one')
    (folder / '2.jpg').write_bytes(b'other')
    store = install.Store(tmp_path)
    with pytest.raises(InputError, match=r'2\.jpg: found a file with other content'):
        store.install(archive)
    assert (folder / '2.jpg').read_bytes() == b'other'
    assert not store.is_there(archive)
    assert not list((tmp_path / '.downloads').glob('unpacking*'))
    install.Store(tmp_path, overwrite=True).install(archive)
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == {
        '0.jpg': b'mine', '1.jpg': b'one', '2.jpg': b'two'
    }  # fmt: skip
    assert (tmp_path / '.downloads/a.tgz').is_file()  # kept


def test_other_content_than_expected(tmp_path, archive):
    wrong = PublishedFile(archive.urls, (('y', 'y'),))
    with pytest.raises(InputError, match=r'a\.tgz: found \[\], expected y in it'):
        install.Store(tmp_path).install(wrong)


def test_a_killed_unpacking_is_cleaned_up(tmp_path, archive):
    left = tmp_path / '.downloads/unpacking-a.tgz/x/img'
    left.mkdir(parents=True)
    (left / 'half.jpg').write_bytes(b'on')
    install.Store(tmp_path).install(archive)
    assert 'data/pictures/half.jpg' not in tree(tmp_path)
    assert not left.exists()


def test_links_are_made_where_nothing_is(tmp_path):
    data_set = PublishedSet('', '', '', (), links=(('coco/train', 'images/train'),))
    install.link(tmp_path, data_set)
    assert not (tmp_path / 'coco').exists()
    (tmp_path / 'images/train').mkdir(parents=True)
    install.link(tmp_path, data_set)
    install.link(tmp_path, data_set)
    assert os.readlink(tmp_path / 'coco/train') == '../images/train'


def test_two_processes_take_turns(tmp_path, capsys, monkeypatch):
    store = install.Store(tmp_path)
    calls = []

    def flock(descriptor, how):
        calls.append(how)
        if how & install.fcntl.LOCK_NB:
            raise BlockingIOError

    monkeypatch.setattr(install.fcntl, 'flock', flock)
    with store.locked():
        assert calls[1:] == [install.fcntl.LOCK_EX]
    assert 'waiting for another download' in capsys.readouterr().out
