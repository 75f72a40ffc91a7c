"""A server of files that misbehaves as told: it breaks off, redirects, or knows no ranges."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class File:
    """What the server has under a path.

    `script` has an entry for each of the next answers to GET: 'whole'; a number of bytes after
    which the connection breaks; a status; or (status, headers). Then all answers are whole.
    """

    data: bytes
    etag: str | None = '"v1"'
    modified: str | None = None
    ranges: bool = True
    length: bool = True
    kind: str = 'application/octet-stream'
    pause: float = 0.0  # seconds between pieces of 64 KiB
    script: list = field(default_factory=list)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address) -> None:
        pass  # the other side was killed


class FileServer:
    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.sent = 0  # bytes of all bodies
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'

            def log_message(self, *args) -> None:
                pass

            def do_HEAD(self) -> None:
                outer.answer(self, body=False)

            def do_GET(self) -> None:
                outer.answer(self, body=True)

        self.server = _Server(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self.server.server_address[1]}'
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def add(self, name: str, data: bytes, **options) -> File:
        """Offer a file, and return what can be changed about it."""
        self.files[f'/{name}'] = File(data, **options)
        return self.files[f'/{name}']

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def ranges(self) -> list[str | None]:
        """The ranges that were asked for."""
        return [headers.get('Range') for method, _, headers in self.requests if method == 'GET']

    def answer(self, handler: BaseHTTPRequestHandler, body: bool) -> None:
        self.requests.append((handler.command, handler.path, dict(handler.headers)))
        handler.close_connection = True
        file = self.files.get(handler.path)
        if file is None:
            return reply(handler, 404, {'Content-Length': '0'})
        step = file.script.pop(0) if body and file.script else 'whole'
        if isinstance(step, tuple):
            return reply(handler, step[0], {'Content-Length': '0', **step[1]})
        if isinstance(step, int) and 400 <= step < 600:
            return reply(handler, step, {'Content-Length': '0'})
        headers = {'Content-Type': file.kind}
        if file.etag:
            headers['ETag'] = file.etag
        if file.modified:
            headers['Last-Modified'] = file.modified
        start, status = 0, 200
        asked = handler.headers.get('Range')
        condition = handler.headers.get('If-Range')
        if asked and file.ranges and condition in (None, file.etag, file.modified):
            start = int(asked.removeprefix('bytes=').rstrip('-'))
            if start >= len(file.data):
                headers = {'Content-Range': f'bytes */{len(file.data)}', 'Content-Length': '0'}
                return reply(handler, 416, headers)
            headers['Content-Range'] = f'bytes {start}-{len(file.data) - 1}/{len(file.data)}'
            status = 206
        if file.length:
            headers['Content-Length'] = str(len(file.data) - start)
        reply(handler, status, headers)
        end = len(file.data) if step == 'whole' else start + step
        for at in range(start, end if body else start, 2**16):
            piece = file.data[at : min(at + 2**16, end)]
            handler.wfile.write(piece)
            self.sent += len(piece)
            time.sleep(file.pause)


def reply(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
    handler.send_response(status)
    handler.send_header('Connection', 'close')
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
