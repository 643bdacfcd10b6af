"""The processes of a run on several machines: the way to each other, and the name of one that is lost."""

import contextlib
import os
import re
import socket
import threading
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby

import psutil

from .errors import SettingError, UserError

ROLL_CALL = timedelta(seconds=10)  # ranks that wait in one collective run out of time this close together
# What gloo, NCCL and TCPStore say of a connection, as far as it reaches Python.
_LOST = re.compile(r'Connection (?:closed|reset) by peer|Broken pipe|No route to host|Timed out waiting|[Tt]imeout'
                   r'|recv, got 0 bytes|failed to recv|ncclRemoteError')
_ADDRESS = re.compile(r'(?:by peer|remote=|to) \[?([0-9a-fA-F.:]+)\]:\d+')


class PeerLost(UserError, RuntimeError):
    """Another process of the run does not answer any more; the message names it, or its machine."""


@dataclass(frozen=True)
class Peer:
    """A process: its rank, its machine's name, and the address of that machine in the run's network."""

    rank: int
    host: str
    address: str


def timeout_from(environment):
    """``PEER_TIMEOUT``, in seconds, as a timedelta; None without it: torch's own, 1800 s with gloo, 600 s with NCCL.

    Raises:
        SettingError: it is not a number above 0.
    """
    text = environment.get('PEER_TIMEOUT')
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float('inf'):
        raise SettingError(f'PEER_TIMEOUT={text}: use seconds, such as 600')
    return timedelta(seconds=seconds)


def source_address(host, port):
    """This machine's own address on its route to ``host``; nothing is sent."""
    family, kind, protocol, _, target = socket.getaddrinfo(host, int(port), type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(target)
        return probe.getsockname()[0]


def interface_of(address):
    """Name of the network interface that has ``address``; None if none has."""
    return next((name for name, entries in psutil.net_if_addrs().items()
                 if any(entry.address.partition('%')[0] == address for entry in entries)), None)


def meet(store, rank, world_size, master_address, master_port):
    """Wait in ``store`` for all ranks; returns the Peers by rank.

    On several machines gloo's connections take the interface of the route between them (``GLOO_SOCKET_IFNAME``,
    unless it is set): gloo itself takes that of the machine's own name, which Debian's /etc/hosts puts at 127.0.1.1.
    """
    own = Peer(rank, socket.gethostname(), source_address(master_address, master_port))
    peers = _exchange(store, 'route', own, world_size)
    distant = [peer.address for peer in peers if not _is_loopback(peer.address)]
    if not distant:
        return peers
    if _is_loopback(own.address):
        own = Peer(rank, own.host, source_address(distant[0], master_port))
    peers = _exchange(store, 'address', own, world_size)
    if len({peer.address for peer in peers}) > 1 and (name := interface_of(own.address)):
        os.environ.setdefault('GLOO_SOCKET_IFNAME', name)
    return peers


@contextlib.contextmanager
def name_lost_peers(store, peers, rank):
    """Turn the error of a broken connection, raised inside, into PeerLost; any other error passes.

    Raises:
        PeerLost: a connection to another process broke, or one did not answer in time.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, UserError) or not _LOST.search(str(error)):
            raise
        lost = _lost(store, peers, rank, str(error))
        raise PeerLost(f'lost contact with {lost}; what it printed may say why. The same command on every machine, '
                       'with --resume, goes on from the newest checkpoint') from error


def _exchange(store, key, own, world_size):
    store.set(f'{key}/{own.rank}', f'{own.host} {own.address}')
    peers = []
    for rank in range(world_size):
        try:
            host, address = store.get(f'{key}/{rank}').decode().split(' ')
        except RuntimeError as error:
            if not _LOST.search(str(error)):
                raise
            raise PeerLost(f'rank {rank} of {world_size} did not come within {store.timeout.total_seconds():g} s; '
                           'start the same command on every machine, each with its own NODE_RANK') from error
        peers.append(Peer(rank, host, address))
    return peers


def _lost(store, peers, rank, said):
    """Words for the lost processes. The first rank that finds one out tells the others, whose own peers may be
    survivors that have only ended because of it."""
    found, own = _ADDRESS.search(said), peers[rank]
    lost = [peer for peer in peers if found and peer.address == found[1]]
    alone = len({peer.address for peer in peers}) == 1
    # All processes of one machine have one address; its launcher says which has ended.
    named = f'another process on {own.host}' if found and (alone or own in lost) else lost and describe(lost)
    told = []

    def call_roll():
        with contextlib.suppress(RuntimeError):
            store.set(f'present/{rank}', '1')
            told.append(store.compare_set('lost', '', named or describe(_absent(store, peers))).decode())

    # TCPStore has no limit for an answer that never comes: a thread of its own waits, and may be left behind.
    thread = threading.Thread(target=call_roll, daemon=True)
    thread.start()
    thread.join(2 * ROLL_CALL.total_seconds())
    if told:
        return told[0]
    # The store, which the first machine keeps, is lost as well.
    return named or describe([peer for peer in peers if peer.address == peers[0].address and peer is not own])


def _absent(store, peers):
    absent = []
    for peer in peers:
        try:
            store.wait([f'present/{peer.rank}'], ROLL_CALL if not absent else timedelta(milliseconds=200))
        except RuntimeError:
            absent.append(peer)
    return absent


def describe(peers):
    """'node2 (10.0.0.2; ranks 8-15)', machine by machine."""
    machines = [(key, [peer.rank for peer in group])
                for key, group in groupby(peers, lambda peer: (peer.host, peer.address))]
    return ' and '.join(f'{host} ({address}; {_ranks(ranks)})' for (host, address), ranks in machines) or (
        'another process')


def _ranks(ranks):
    if len(ranks) == 1:
        return f'rank {ranks[0]}'
    whole = ranks == list(range(ranks[0], ranks[-1] + 1))
    return f'ranks {ranks[0]}-{ranks[-1]}' if whole else f'ranks {", ".join(map(str, ranks))}'


def _is_loopback(address):
    return address.startswith('127.') or address == '::1'
