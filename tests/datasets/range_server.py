"""A web server in a thread that gives ranges of bytes of a folder's files, and fails on demand."""

import http.server
import re
import socket
import struct
import threading
from pathlib import Path


class RangeServer:
    """Serves ``folder`` at ``url``; a context manager.

    Attributes:
        requests (list): (path with query, first byte, last byte) of each request.
        answer (callable): (path, number of the request) -> ``'cut'`` (after half of the bytes), ``'stall'``, a status
            such as 503, ``'longer'`` (than the file is), or None for the file.
        tag (str): of the ETags; None leaves them out.
    """

    def __init__(self, folder):
        self.folder, self.requests, self.tag = Path(folder), [], ''
        self.answer, self._closing = lambda path, number: None, threading.Event()
        handler = type('Handler', (_Handler,), {'owner': self})
        self._server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
        self.url = f'http://127.0.0.1:{self._server.server_address[1]}'

    def __enter__(self):
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={'poll_interval': 0.01}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        owner, path = self.owner, self.path.partition('?')[0]
        first, last = map(int, re.fullmatch(r'bytes=(\d+)-(\d+)', self.headers['Range']).groups())
        owner.requests.append((self.path, first, last))
        answer = owner.answer(path, len(owner.requests))
        file = owner.folder / path.lstrip('/')
        if answer is None and not file.is_file():
            answer = 404
        if isinstance(answer, int):
            self.send_response(answer)
            self.send_header('Content-Length', '0')
            self.end_headers()
            return
        content = file.read_bytes()
        data = content[first:last + 1]
        content += b' ' * (answer == 'longer')
        self.send_response(206 if data else 416)
        self.send_header('Content-Range', f'bytes {first}-{first + len(data) - 1}/{len(content)}' if data
                         else f'bytes */{len(content)}')
        self.send_header('Content-Length', str(len(data)))
        if owner.tag is not None:
            self.send_header('ETag', f'"{len(content):x}{owner.tag}"')
        self.end_headers()
        if answer == 'stall':
            owner._closing.wait(30)
        elif answer == 'cut':
            self.wfile.write(data[:len(data) // 2])
            # Reset, not closed.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
            self.connection.close()
            self.close_connection = True
        else:
            self.wfile.write(data)

    def log_message(self, *arguments):
        """Nothing on stderr."""
