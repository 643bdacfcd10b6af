"""What a server may do while a picture is read from it by URL, with what becomes of it."""

from typing import NamedTuple


class OddServer(NamedTuple):
    """A case, and the words of the error; '' where the picture is read."""

    what: str
    answers: object  # number of a request, from 1 on -> an answer of RangeServer
    error: str = ''
    tag: str = ''  # of the ETags

    @property
    def outcome(self):
        return f'the run ends: {self.error}' if self.error else 'read, counted as tried again'


SERVERS = [
    OddServer('connection cut in the middle of an answer', {1: 'cut'}.get),
    OddServer('HTTP 503 or 429, twice', {1: 503, 2: 429}.get),
    OddServer('HTTP 503 until the deadline', lambda number: 503, 'HTTP 503 Service Unavailable; nothing came'),
    OddServer('no answer until the deadline', lambda number: 'stall', 'no answer, or too slow a one'),
    OddServer('HTTP 404: the file has been removed', lambda number: 404, 'it has been removed while it was in use'),
    OddServer('HTTP 401 or 403', lambda number: 403, 'HTTP 403 Forbidden: are the credentials right, and still valid?'),
    OddServer('another ETag or time of change: the file has been replaced', lambda number: None,
              'it has changed while it was in use', tag='new'),
    OddServer('another size', {1: 'longer'}.get, 'it has changed while it was in use'),
    OddServer('whole files in place of ranges', lambda number: 200,
              'the server sends whole files, not ranges of bytes'),
]
