"""Download a file over HTTP; an interrupted download continues where it stopped.

The bytes are collected in ``NAME.part``, and ``NAME.part.json`` says which version of the file they
belong to. A further run asks for the missing bytes with ``Range``, on the condition (``If-Range``,
RFC 9110, section 13.1.5) that the server still has this version.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import requests
import urllib3

from ..errors import InputError
from ..files.atomic import write_atomically
from ..hooks.progress import progress_bar

__all__ = ['check_digest', 'download', 'part_of', 'remote_size']

ATTEMPTS = 8
"""Attempts in a row without a new byte after which an address is given up."""
TIMEOUT = (20, 60)
"""Seconds to wait for a connection, and for the next bytes."""
_MAX_WAIT = 60.0  # seconds between two attempts
_CHUNK = 1 << 20
_MB = 10**6
_TRY_LATER = (408, 425, 429, 500, 502, 503, 504)
# Servers that compress on the way would send other bytes than those that lengths and ranges count.
_HEADERS = {'Accept-Encoding': 'identity', 'User-Agent': 'mmtriad-download'}


class _Broken(Exception):
    """Signal an answer that may be better the next time."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class _Unavailable(Exception):
    """Signal that an address does not serve the file."""


@dataclass(frozen=True)
class _Version:
    """Identify the version of a file that a server has.

    Attributes:
        url: The address that was asked, before redirections.
        etag: The entity tag, or None.
        modified: The date of the last change, or None.
        size: The number of bytes, or None if the server does not say it.
    """

    url: str
    etag: str | None = None
    modified: str | None = None
    size: int | None = None

    @classmethod
    def of(cls, url: str, response: requests.Response, size: int | None) -> _Version:
        """Return what the headers of an answer say."""
        headers = response.headers
        return cls(url, headers.get('ETag'), headers.get('Last-Modified'), size)

    @property
    def condition(self) -> str | None:
        """Return the value of ``If-Range``; weak entity tags are not allowed in it."""
        if self.etag is not None and not self.etag.startswith('W/'):
            return self.etag
        return self.modified

    def is_same(self, other: _Version) -> bool:
        """Return whether nothing that both versions state differs."""
        pairs = ((self.etag, other.etag), (self.modified, other.modified), (self.size, other.size))
        return all(None in pair or pair[0] == pair[1] for pair in pairs)


class _Part:
    """Hold the bytes that have arrived, and the version of the file that they belong to."""

    def __init__(self, path: Path) -> None:
        self.path = part_of(path)
        self.record = self.path.with_name(f'{self.path.name}.json')
        self.version: _Version | None = None
        try:
            self.version = _Version(**json.loads(self.record.read_bytes()))
        except (OSError, ValueError, TypeError):  # no record, or one that was damaged
            self.discard()

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def begin(self, version: _Version) -> None:
        """Drop all bytes and begin another version."""
        self.discard()
        write_atomically(self.record, json.dumps(asdict(version)).encode())
        self.version = version

    def discard(self) -> None:
        """Delete both files."""
        self.path.unlink(missing_ok=True)  # first: bytes must never have another version's record
        self.record.unlink(missing_ok=True)
        self.version = None

    def finish(self, path: Path) -> None:
        """Give the complete file its name."""
        os.replace(self.path, path)
        self.record.unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """Return the file that collects the bytes of a file until it is complete."""
    return path.with_name(f'{path.name}.part')


def download(
    urls: Sequence[str],
    path: Path,
    size: int | None = None,
    digest: str | None = None,
    wait: float = 1.0,
) -> None:
    """Download a file, or continue an interrupted download.

    A connection that breaks, an answer that is too short, and a busy server are tried again, after
    a wait that doubles each time. A server without ranges, or one that has another version of the
    file by now, sends the file from its beginning. If an address does not serve the file, the next
    one is tried.

    Args:
        urls: Addresses of the file, the preferred one first.
        path: The file to write. It appears when it is complete and checked.
        size: Number of bytes that the file must have, or None if it is not known.
        digest: Checksum that the file must have, such as ``'md5:...'`` or ``'sha256:...'``.
        wait: Seconds before the second attempt.

    Raises:
        InputError: No address serves the file, or its size or checksum is wrong.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _Part(path)
    problems = []
    with requests.Session() as session:
        for i, url in enumerate(urls):
            try:
                _fetch(session, url, part, size, wait, is_last=i == len(urls) - 1)
                break
            except _Unavailable as error:
                problems.append(f'{url}: {error}')
                if i < len(urls) - 1:
                    print(f'{problems[-1]}; trying {urls[i + 1]}', flush=True)
        else:
            raise InputError('; '.join(problems))
    if digest is not None:
        try:
            check_digest(part.path, digest)
        except InputError as error:
            part.discard()
            raise InputError(f'{url}: {error}; the file was deleted') from None
    part.finish(path)


def check_digest(path: Path, digest: str) -> None:
    """Compare the checksum of a file.

    Args:
        path: The file.
        digest: An algorithm of :mod:`hashlib`, a colon and the hexadecimal checksum.

    Raises:
        InputError: The file has another checksum.
    """
    kind, _, expected = digest.partition(':')
    hasher = hashlib.new(kind)
    with open(path, 'rb') as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
    found = hasher.hexdigest()
    if found != expected:
        raise InputError(f'{path.name}: found the {kind} checksum {found}, expected {expected}')


def remote_size(urls: Sequence[str]) -> int | None:
    """Ask servers for the size of a file in bytes; return None if none of them says it."""
    for url in urls:
        try:
            answer = requests.head(url, headers=_HEADERS, allow_redirects=True, timeout=TIMEOUT)
        except requests.RequestException:
            continue
        length = answer.headers.get('Content-Length', '')
        if answer.ok and length.isdecimal() and int(length):
            return int(length)
    return None


def _fetch(
    session: requests.Session, url: str, part: _Part, size: int | None, wait: float, is_last: bool
) -> None:
    """Collect all bytes of a file from one address.

    Raises:
        _Unavailable: The address does not serve the file.
    """
    failures, most, has_answered = 0, part.size, False
    while True:
        try:
            return _attempt(session, url, part, size)
        except _Unavailable:
            raise
        except (
            requests.exceptions.InvalidSchema,
            requests.exceptions.InvalidURL,
            requests.exceptions.MissingSchema,
            requests.exceptions.TooManyRedirects,
        ) as error:
            raise _Unavailable(_reason(error)) from None
        except (_Broken, requests.RequestException, urllib3.exceptions.HTTPError) as error:
            failures = 1 if part.size > most else failures + 1
            most = max(most, part.size)
            has_answered |= not isinstance(error, requests.ConnectionError) or part.size > 0
            # Another address is better than a long wait for one that does not answer at all.
            if failures >= (ATTEMPTS if is_last or has_answered else 2):
                raise _Unavailable(f'{_reason(error)}, {failures} times in a row') from None
            pause = min(wait * 2 ** (failures - 1), _MAX_WAIT)
            if isinstance(error, _Broken) and error.wait is not None:
                pause = min(error.wait, _MAX_WAIT)
            print(f'{url}: {_reason(error)}; trying again in {pause:g} s', flush=True)
            time.sleep(pause)


def _attempt(session: requests.Session, url: str, part: _Part, size: int | None) -> None:
    version = part.version
    offset = part.size if version is not None and version.url == url else 0
    if offset and version is not None and offset == version.size:
        return  # killed between the last byte and the new name
    headers = dict(_HEADERS)
    if offset and version is not None:
        headers['Range'] = f'bytes={offset}-'
        if version.condition is not None:
            headers['If-Range'] = version.condition
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if offset and response.status_code == 206 and version is not None:
            start, whole = _content_range(response)
            if start != offset or not version.is_same(_Version.of(url, response, whole)):
                part.discard()
                raise _Broken('found bytes of another version of the file, starting again')
        elif response.status_code == 416:  # the file has become shorter
            part.discard()
            raise _Broken('found a shorter file than before, starting again')
        else:
            _check_status(response)
            if offset:
                print(f'{url}: the server sends the file from its beginning again', flush=True)
            length = response.headers.get('Content-Length', '')
            version = _Version.of(url, response, int(length) if length.isdecimal() else None)
            _check_size(version.size, size)
            part.begin(version)
        _write_body(response, part, version)
    _check_size(part.size, size)


def _check_status(response: requests.Response) -> None:
    status = f'found status {response.status_code} {response.reason}, expected 200'
    if response.status_code in _TRY_LATER:
        wait = response.headers.get('Retry-After', '')
        raise _Broken(status, float(wait) if wait.isdecimal() else None)
    if response.status_code != 200:
        raise _Unavailable(status)
    kind = response.headers.get('Content-Type', '')
    if kind.startswith('text/html'):  # a login, or the maker's page about a file that has moved
        raise _Unavailable(f'found a web page ({kind}), expected a file')


def _check_size(found: int | None, expected: int | None) -> None:
    if None not in (found, expected) and found != expected:
        raise _Unavailable(f'found {found:,} bytes, expected {expected:,}')


def _content_range(response: requests.Response) -> tuple[int, int | None]:
    """Return the first byte and the size of the whole file that a partial answer states."""
    text = response.headers.get('Content-Range', '')
    match = re.fullmatch(r'bytes (\d+)-\d+/(\d+|\*)', text)
    if match is None:
        raise _Broken(f'found the range {text!r}, expected one of bytes')
    return int(match[1]), None if match[2] == '*' else int(match[2])


def _write_body(response: requests.Response, part: _Part, version: _Version) -> None:
    """Append the body to the part and check that all of the file has arrived."""
    done = part.size
    bar = progress_bar(
        (version.size or 0) // _MB, part.path.name.removesuffix('.part'), 'MB', done // _MB
    )
    # Not decoded: some servers label .tgz files as compressed content.
    with bar, open(part.path, 'ab') as file:
        for chunk in response.raw.stream(_CHUNK, decode_content=False):
            file.write(chunk)
            bar.update((done + len(chunk)) // _MB - done // _MB)
            done += len(chunk)
        file.flush()
        os.fsync(file.fileno())
    if version.size is not None and done != version.size:
        if done > version.size:
            part.discard()
        raise _Broken(f'found {done:,} bytes, expected {version.size:,}')


def _reason(error: Exception) -> str:
    """Return why an attempt failed, in a few words of the innermost error."""
    inner: BaseException = error
    while isinstance(inner, (requests.RequestException, urllib3.exceptions.HTTPError)):
        causes = [getattr(inner, 'reason', None), *inner.args]
        cause = next((each for each in causes if isinstance(each, BaseException)), None)
        if cause is None:
            break
        inner = cause
    text = ' '.join(str(inner).split()) or type(inner).__name__
    return re.sub(r'^.*?object at 0x\w+>: |^HTTPS?Connection\w*\([^)]*\): ', '', text)
