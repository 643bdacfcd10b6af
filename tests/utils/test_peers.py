import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
from torch.distributed import HashStore

from wfvae_toolkit.utils import peers
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.peers import Peer, PeerLost, describe, interface_of, meet, name_lost_peers, source_address

# Two machines of two processes each.
FOUR = [Peer(rank, f'node{rank // 2 + 1}', f'10.0.0.{rank // 2 + 1}') for rank in range(4)]
GLOO = '[pair.cc:553] Connection closed by peer [{}]:46760. This is typically caused by a remote worker crashing.'
TIMED_OUT = '[unbound_buffer.cc:78] Timed out waiting 8000ms for recv operation to complete'


@pytest.fixture
def store(monkeypatch):
    monkeypatch.setattr(peers, 'ROLL_CALL', timedelta(milliseconds=20))
    made = HashStore()
    made.set_timeout(timedelta(milliseconds=20))
    return made


def lose(store, said, rank=0):
    with pytest.raises(PeerLost) as error, name_lost_peers(store, FOUR, rank):
        raise RuntimeError(said)
    return str(error.value)


# the way to each other

@pytest.fixture
def debian(monkeypatch):
    """node1, whose own name is at 127.0.1.1."""
    monkeypatch.setenv('GLOO_SOCKET_IFNAME', '')  # so that what `meet` sets is undone
    monkeypatch.delenv('GLOO_SOCKET_IFNAME')
    monkeypatch.setattr(peers, 'source_address', lambda host, port: '10.0.0.1' if host == '10.0.0.2' else '127.0.1.1')
    monkeypatch.setattr(peers, 'interface_of', {'10.0.0.1': 'eth7'}.get)
    monkeypatch.setattr(peers.socket, 'gethostname', lambda: 'node1')
    return monkeypatch


def come(store, rank, route, address):
    store.set(f'route/{rank}', f'node2 {route}')
    store.set(f'address/{rank}', f'node2 {address}')


def test_gloo_takes_the_interface_of_the_route_to_the_other_machine(store, debian):
    come(store, 1, '10.0.0.2', '10.0.0.2')
    assert meet(store, 0, 2, 'node1', 29500) == [Peer(0, 'node1', '10.0.0.1'), Peer(1, 'node2', '10.0.0.2')]
    assert peers.os.environ['GLOO_SOCKET_IFNAME'] == 'eth7'


def test_an_interface_that_the_user_set_stays(store, debian):
    debian.setenv('GLOO_SOCKET_IFNAME', 'ib0')
    come(store, 1, '10.0.0.2', '10.0.0.2')
    meet(store, 0, 2, 'node1', 29500)
    assert peers.os.environ['GLOO_SOCKET_IFNAME'] == 'ib0'


def test_one_machine_is_left_to_gloo(store, debian):
    come(store, 1, '127.0.1.1', '127.0.1.1')
    assert [peer.address for peer in meet(store, 0, 2, 'node1', 29500)] == ['127.0.1.1'] * 2
    assert 'GLOO_SOCKET_IFNAME' not in peers.os.environ


def test_a_rank_that_does_not_come_is_named(store):
    with pytest.raises(PeerLost, match='rank 1 of 2 did not come within 0.02 s; start the same command on every '):
        meet(store, 0, 2, '127.0.0.1', 29500)


def test_routes_of_this_machine():
    assert source_address('127.0.0.1', '29500') == '127.0.0.1'
    assert interface_of('127.0.0.1').startswith('lo')
    assert interface_of('203.0.113.9') is None


# who is lost

def test_a_closed_connection_names_the_machine_at_its_other_end(store):
    assert lose(store, GLOO.format('10.0.0.2')).startswith('lost contact with node2 (10.0.0.2; ranks 2-3); ')


@pytest.mark.parametrize('machines', [FOUR, [Peer(rank, 'node1', '127.0.0.1') for rank in range(2)]])
def test_on_its_own_machine_it_is_the_launcher_that_knows_which(store, machines):
    with pytest.raises(PeerLost, match='lost contact with another process on node1; '), \
            name_lost_peers(store, machines, 0):
        raise RuntimeError(GLOO.format('10.0.0.1'))


def test_a_survivor_that_ended_is_not_taken_for_the_lost_one(store):
    """Rank 0 lost node2 and ended; rank 3 of a third machine lost rank 0 because of that."""
    lose(store, GLOO.format('10.0.0.2'))
    assert lose(store, GLOO.format('10.0.0.1'), rank=3).startswith('lost contact with node2 (')


def test_after_a_timeout_those_are_named_who_do_not_answer(store):
    for rank in (0, 1, 2):
        store.set(f'present/{rank}', '1')
    assert lose(store, TIMED_OUT).startswith('lost contact with node2 (10.0.0.2; rank 3); ')


def broken(key, value):
    raise RuntimeError('recv, got 0 bytes')


@pytest.mark.parametrize('answer', [broken, lambda key, value: time.sleep(60)])
def test_without_the_store_its_machine_is_lost(store, answer):
    said = lose(SimpleNamespace(set=answer), TIMED_OUT, rank=2)
    assert said.startswith('lost contact with node1 (10.0.0.1; ranks 0-1); ')


def test_other_errors_pass(store):
    with pytest.raises(RuntimeError, match='^out of memory$'), name_lost_peers(store, FOUR, 0):
        raise RuntimeError('out of memory')
    with pytest.raises(SettingError), name_lost_peers(store, FOUR, 0):
        raise SettingError('Timed out waiting')


def test_machines_and_ranks_in_words():
    assert describe(FOUR[1:]) == 'node1 (10.0.0.1; rank 1) and node2 (10.0.0.2; ranks 2-3)'
    assert describe([Peer(rank, 'a', '10.0.0.1') for rank in (0, 2)]) == 'a (10.0.0.1; ranks 0, 2)'
    assert describe([]) == 'another process'


# how long to wait

def test_peer_timeout_is_in_seconds():
    assert peers.timeout_from({}) is None
    assert peers.timeout_from({'PEER_TIMEOUT': '90'}) == timedelta(seconds=90)


@pytest.mark.parametrize('text', ['soon', '0', '-1', 'inf', 'nan'])
def test_other_timeouts_are_refused(text):
    with pytest.raises(SettingError, match=f'PEER_TIMEOUT={text}: use seconds, such as 600'):
        peers.timeout_from({'PEER_TIMEOUT': text})
