"""Ranges of bytes of files on HTTP and S3 servers, through fsspec: one request at a time, and how long to try again."""

import asyncio
import logging
import re
import socket
import time
from http import HTTPStatus
from typing import NamedTuple

from ..utils.errors import StorageError, import_extra
from ..utils.urls import shown_url
from .block_cache import BLOCK

STALL_S = 30  # without a byte, after which a connection counts as lost
_SIGNED_S = 3600  # validity of a signature
_CHUNK = 2**16
_LONGEST_WAIT_S = 10  # between two tries
_MAY_PASS = (408, 425, 429)  # and all from 500 on


class Passing(Exception):
    """A failure that may pass; the message is the reason."""


class Refused(Exception):
    """A failure that trying again does not change; the message is the reason."""


class Missing(Refused):
    """There is no such file."""


class Version(NamedTuple):
    """What tells whether a file is still the same."""

    size: int  # in bytes
    mark: str  # its ETag or the time of its change; '' if the server gives neither


class Store:
    """Files by URL, for one process.

    Args:
        protocol (str): ``'http'``, ``'https'`` or ``'s3'``.
        options (dict): arguments of fsspec's file system of that protocol.

    Raises:
        MissingLibrary: the extra ``remote`` is not installed.
    """

    def __init__(self, protocol, options):
        self._is_s3 = protocol == 's3'
        import_extra('aiohttp', 'remote')
        http = import_extra('fsspec.implementations.http', 'remote')
        # trust_env: proxies of the environment, and credentials of ~/.netrc.
        own = {} if self._is_s3 else options
        self._http = http.HTTPFileSystem(skip_instance_cache=True, use_listings_cache=False, **{
            **own, 'client_kwargs': {'trust_env': True, **own.get('client_kwargs', {})}})
        self._signed = {}  # URL on S3 -> its signed form, and when it was made
        if self._is_s3:
            s3fs = import_extra('s3fs', 'remote')
            signing = {} if options.get('anon') else {'signature_version': 's3v4'}
            self._s3 = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False, **{
                'cache_regions': True, **options, 'config_kwargs': {
                    **signing, 'retries': {'max_attempts': 0}, **options.get('config_kwargs', {})}})
            self._s3.retries = 1  # the caller tries again, until its deadline

    def read(self, url, start, stop, data, on_version, patience_s, on_data=None):
        """Append bytes ``start`` to ``stop`` - 1 of a file to ``data``; what has come before a failure stays there.

        Args:
            data (bytearray): see above.
            on_version (callable): called with the `Version` before any byte is taken.
            patience_s (float): longest time until the answer begins; without ``on_data``, until it ends.
            on_data (callable): called whenever ``data`` has grown.

        Raises:
            Passing: trying again may help.
            Refused: it does not; Missing, which is one: there is no such file.
        """
        asyn = import_extra('fsspec.asyn', 'remote')
        asyn.sync(self._http.loop, self._read, url, start, stop, data, on_version, patience_s, on_data)

    def version(self, url, patience_s):
        """`Version` of a file; raises as `read`."""
        found = []
        self.read(url, 0, 1, bytearray(), found.append, patience_s)
        return found[0]

    def find(self, url):
        """{URL: `Version`} of the files below a folder on S3; raises as `read`."""
        try:
            found = self._s3.find(url, detail=True)
        except FileNotFoundError:
            return {}
        except _s3_errors() as error:
            raise _reason_of_s3(error) from None
        return {f's3://{path}': Version(info['size'], info.get('ETag', '').strip('"')) for path, info in found.items()}

    async def _read(self, url, start, stop, data, on_version, patience_s, on_data):
        import aiohttp
        import yarl

        address = await self._address(url)
        stall_s = min(STALL_S, patience_s)
        limits = aiohttp.ClientTimeout(total=None if on_data else patience_s, connect=stall_s, sock_read=stall_s)
        headers = {**self._http.kwargs.get('headers', {}), 'Accept-Encoding': 'identity',
                   'Range': f'bytes={start}-{stop - 1}'}
        begun = time.monotonic()
        try:
            session = await self._http.set_session()
            # What is escaped already, as in signed URLs, must stay as it is.
            async with session.get(yarl.URL(address, encoded='%' in address), timeout=limits, headers=headers) as reply:
                on_version(_version(reply, start))
                left = stop - start if reply.status == 206 else 0
                async for chunk in reply.content.iter_chunked(_CHUNK):
                    data += chunk[:left]
                    left = max(0, left - len(chunk))
                    if on_data:
                        on_data()
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise _reason_of(error, time.monotonic() - begun) from None

    async def _address(self, url):
        if not self._is_s3:
            return url
        signed, since_s = self._signed.get(url, (None, 0))
        if signed is None or time.monotonic() - since_s > _SIGNED_S / 4:
            try:
                signed = await self._s3._url(url, _SIGNED_S)
            except _s3_errors() as error:
                raise _reason_of_s3(error) from None
            self._signed[url] = signed, time.monotonic()
        return signed


def _version(reply, start):
    """`Version` of a reply that gives the bytes asked for, else an exception."""
    status, headers = reply.status, reply.headers
    told = re.fullmatch(r'bytes (?:(\d+)-\d+|\*)/(\d+)', headers.get('Content-Range', ''))
    mark = (headers.get('ETag') or headers.get('Last-Modified') or '').strip('"')
    if status == 416 and told:  # the file ends before these bytes
        return Version(int(told[2]), mark)
    if status == 206 and told and told[1] and int(told[1]) == start:
        return Version(int(told[2]), mark)
    name = f'HTTP {status} {_phrase(status)}'.strip()
    if status in _MAY_PASS or status >= 500:
        raise Passing(name)
    if status in (404, 410):
        raise Missing(name)
    if status in (401, 403):
        raise Refused(f'{name}: are the credentials right, and still valid?')
    if status in (200, 206):
        raise Refused('the server sends whole files, not ranges of bytes: use another server, or download the files')
    raise Refused(name)


def _phrase(status):
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ''


def _reason_of(error, seconds):
    """An error of aiohttp as `Passing` or `Refused`. Its own text may hold the URL with its query."""
    import aiohttp

    if isinstance(error, (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError)):
        return Refused('its TLS certificate is refused')
    if isinstance(error, (aiohttp.InvalidURL, aiohttp.TooManyRedirects)):
        return Refused('no usable URL' if isinstance(error, aiohttp.InvalidURL) else 'it redirects in a circle')
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        if isinstance(cause, socket.gaierror) or isinstance(error, aiohttp.ClientConnectorDNSError):
            return Passing(f'no address is known for {error.host}')
        return Passing(f'cannot connect to {error.host}:{error.port} ({cause.strerror or type(cause).__name__})')
    if isinstance(error, asyncio.TimeoutError):
        return Passing(f'no answer, or too slow a one, in {seconds:.3g} s')
    if isinstance(error, (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, ConnectionError)):
        return Passing('the connection was cut')
    if isinstance(error, (aiohttp.ClientError, OSError)):
        return Passing(type(error).__name__)
    return Refused(f'no usable answer ({type(error).__name__})')


def _s3_errors():
    """What s3fs raises where it cannot sign or list."""
    import aiohttp
    from botocore.exceptions import BotoCoreError, ClientError

    return OSError, ValueError, BotoCoreError, ClientError, aiohttp.ClientError


def _reason_of_s3(error):
    """An error of s3fs or botocore outside of a read as `Passing` or `Refused`."""
    name = type(error).__name__
    if name in ('NoCredentialsError', 'PartialCredentialsError'):
        return Refused('no credentials are found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or '
                       'storage_options=dict(anon=True) of remote for a public bucket')
    if isinstance(error, PermissionError):
        return Refused('access is denied: are the credentials right, and still valid?')
    if isinstance(error, ValueError) or name in ('ProfileNotFound', 'ParamValidationError'):
        return Refused(f'{name}: {error}')
    return Passing(f'the S3 server does not answer ({name})')


def storage_error(url, reason):
    """StorageError of a URL, which is shown without credentials."""
    return StorageError(f'{shown_url(url)}: {reason}')


class Patience:
    """Waits between the tries of a read, until its deadline."""

    def __init__(self, url, deadline_s, cache):
        self._url, self._deadline_s, self._cache = url, deadline_s, cache
        self._said, self._blocks = False, 0
        self.begin()

    def begin(self):
        """Some of it has come: the deadline counts from now."""
        self._until, self._next_s = time.monotonic() + self._deadline_s, min(0.2, self._deadline_s / 10)

    def check(self, received):
        """A further block begins the deadline anew; Passing if none came before it."""
        if received // BLOCK > self._blocks:
            self._blocks = received // BLOCK
            self.begin()
        elif time.monotonic() > self._until:
            raise Passing(f'too slow: {BLOCK} bytes take longer than {self._deadline_s:g} s')

    def left_s(self):
        return max(min(1, self._deadline_s), self._until - time.monotonic())  # too short a try tells nothing

    def wait(self, reason):
        """Wait before the next try; StorageError after the deadline."""
        if time.monotonic() + self._next_s >= self._until:
            raise storage_error(self._url, f'{reason}; nothing came for {self._deadline_s:g} s (deadline_s of remote). '
                                           'No picture counts as bad: once it can be reached again, the same command '
                                           'goes on, a training with --resume') from None
        if not self._said and self._next_s >= 0.8:  # a short failure is only counted
            self._said = True
            logging.getLogger('wfvae_toolkit').warning(
                f'{shown_url(self._url)}: {reason}; trying again for {self._deadline_s:g} s')
        self._cache.count(retries=1)
        time.sleep(self._next_s)
        self._next_s = min(2 * self._next_s, _LONGEST_WAIT_S)
