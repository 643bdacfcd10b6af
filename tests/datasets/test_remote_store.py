"""One request of a range of bytes: what comes back, or why not."""

import sys
import time

import pytest

from tests.datasets.range_server import RangeServer
from wfvae_toolkit.datasets.remote_store import Missing, Passing, Refused, Store, Version, storage_error
from wfvae_toolkit.utils.errors import MissingLibrary


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp('served')
    (folder / 'a.tar').write_bytes(bytes(range(256)) * 4000)
    (folder / 'empty.tar').write_bytes(b'')
    with RangeServer(folder) as server:
        server.store = Store('http', {})
        yield server


@pytest.fixture
def read(server):
    def get(answer=None, path='a.tar', start=256, stop=1_000_000, patience_s=5):
        server.answer = lambda path, number: answer
        data, versions = bytearray(), []
        try:
            server.store.read(f'{server.url}/{path}?sig=5ecret', start, stop, data, versions.append, patience_s)
        finally:
            server.answer = lambda path, number: None
            get.data, get.versions = bytes(data), versions
        return bytes(data)
    return get


def test_a_range_comes_with_the_version_of_the_file(read, server):
    assert read() == (bytes(range(256)) * 4000)[256:1_000_000]
    assert read.versions == [Version(1_024_000, 'fa000')]
    assert server.store.version(f'{server.url}/empty.tar', 5) == Version(0, '0')
    assert read(start=2_000_000, stop=2_000_001) == b''  # the version tells that the file has changed


def test_what_has_come_before_a_cut_is_kept(read):
    with pytest.raises(Passing, match='^the connection was cut$'):
        read('cut')
    assert (bytes(range(256)) * 4000)[256:].startswith(read.data)
    assert read.data


@pytest.mark.parametrize(('answer', 'error', 'reason'), [
    (404, Missing, 'HTTP 404 Not Found'), (410, Missing, 'HTTP 410 Gone'),
    (403, Refused, 'HTTP 403 Forbidden: are the credentials right'), (401, Refused, 'HTTP 401 Unauthorized: are'),
    (503, Passing, 'HTTP 503 Service Unavailable'), (429, Passing, 'HTTP 429 Too Many'), (999, Passing, 'HTTP 999$'),
    (200, Refused, 'whole files, not ranges of bytes'), (400, Refused, 'HTTP 400 Bad Request')])
def test_a_status_is_a_reason(read, answer, error, reason):
    with pytest.raises(error, match=reason) as caught:
        read(answer)
    assert (type(caught.value), caught.value.__cause__) == (error, None)
    assert read.data == b''


def test_a_server_that_says_nothing_or_is_not_there(read, server):
    begun = time.monotonic()
    with pytest.raises(Passing, match=r'no answer, or too slow a one, in 0\.\d+ s'):
        read('stall', patience_s=0.2)
    with pytest.raises(Passing, match=r'cannot connect to 127.0.0.1:9 \('):
        server.store.version('http://user:5ecret@127.0.0.1:9/a.tar', 5)
    with pytest.raises(Refused, match='no usable'):
        server.store.version('http://[h/a.tar', 5)
    assert time.monotonic() - begun < 5


def test_an_error_shows_no_credentials():
    assert str(storage_error('https://user:5ecret@h/a.tar?sig=5ecret', 'gone')) == 'https://h/a.tar: gone'


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, 'aiohttp', None)
    with pytest.raises(MissingLibrary, match=r"aiohttp is not installed: pip install 'wfvae_toolkit\[remote\]'"):
        Store('http', {})
