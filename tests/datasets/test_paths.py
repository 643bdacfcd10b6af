import pickle
import random
import tracemalloc

import pytest

from wfvae_toolkit.datasets import PathList


def test_it_is_the_list():
    draw = random.Random(0)
    strings = ['', 'a/b.jpg', 'größe.png', '写真/1.jpg', '🙂.png', '\udcff.jpg', '\ud83d alone', *(
        ''.join(chr(draw.randrange(1, 0xd7ff)) for _ in range(draw.randrange(30))) for _ in range(50))]
    paths = PathList(iter(strings))
    assert list(paths) == strings
    assert len(paths) == len(strings)
    assert [paths[index] for index in range(-len(strings), 0)] == strings
    assert list(pickle.loads(pickle.dumps(paths))) == strings
    for index in (len(strings), -len(strings) - 1):
        with pytest.raises(IndexError):
            paths[index]
    assert list(PathList()) == []


def test_memory_is_eight_bytes_beside_the_characters():
    count = 50_000
    tracemalloc.start()
    paths = PathList(f'folder/{number:013}.jpg' for number in range(count))
    held_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(paths) == count
    assert held_bytes < count * (24 + 8) + 10_000
