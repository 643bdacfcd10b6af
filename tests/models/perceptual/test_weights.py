import os
import socket
import subprocess
import sys
import urllib.error
from pathlib import Path

import pytest
import torch
from torch import distributed

from wfvae_toolkit.models.perceptual import LPIPS, PerceptualWeightsMissing
from wfvae_toolkit.models.perceptual.weights import find_trunk, read_package_weights, read_weights

NAME = 'alexnet-owt-7be5be79.pth'


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """torch.hub's folder of checkpoints, empty."""
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    return tmp_path / 'hub' / 'checkpoints'


def test_without_a_network_the_error_says_what_to_do(hub, monkeypatch):
    def no_network(url, path, hash_prefix):
        assert socket.getdefaulttimeout() <= 10
        raise urllib.error.URLError('no route to host')

    monkeypatch.setattr(torch.hub, 'download_url_to_file', no_network)
    with pytest.raises(PerceptualWeightsMissing) as caught:
        LPIPS('alex')
    message = str(caught.value)
    assert isinstance(caught.value, FileNotFoundError)
    for part in (str(hub / NAME), 'no route to host', 'trunk_weights=', 'STLPIPS works without a download',
                 f'https://download.pytorch.org/models/{NAME}'):
        assert part in message
    assert socket.getdefaulttimeout() is None


def test_with_a_network_the_file_is_fetched_once_and_checked(hub, monkeypatch):
    calls = []

    def download(url, path, hash_prefix):
        calls.append((url, hash_prefix))
        Path(path).touch()

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    assert find_trunk(NAME) == find_trunk(NAME) == hub / NAME
    assert calls == [(f'https://download.pytorch.org/models/{NAME}', '7be5be79')]


def test_a_wrong_path_is_named(hub, tmp_path):
    with pytest.raises(PerceptualWeightsMissing, match=r'absent\.pth \(no such file\)'):
        LPIPS('alex', trunk_weights=tmp_path / 'absent.pth')


def test_package_that_is_not_installed():
    with pytest.raises(PerceptualWeightsMissing, match='pip install no-such-thing'):
        read_package_weights('no_such_package', 'weights.pth', distribution='no-such-thing')


def test_reading_package_weights_imports_nothing():
    program = ("import sys; from wfvae_toolkit.evaluation import STLPIPS; STLPIPS('alex'); "
               "assert not {'stlpips_pytorch', 'torchvision', 'lpips', 'skimage', 'scipy'} & set(sys.modules)")
    subprocess.run([sys.executable, '-c', program], check=True, env=environment())


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / 'cut.pth'
    for content in (b'', b'PK\x03\x04half a file', b'not weights'):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r'cut\.pth is damaged'):
            read_weights(path)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match='holds a list'):
        read_weights(path)


def test_a_failed_download_on_rank_0_reaches_the_other_rank(tmp_path):
    ranks = [subprocess.Popen([sys.executable, __file__, str(rank), tmp_path], env=environment()) for rank in range(2)]
    try:
        assert [process.wait(timeout=60) for process in ranks] == [0, 0]
    finally:
        for process in ranks:
            process.kill()
    assert [(tmp_path / f'downloads.{rank}').read_text() for rank in range(2)] == ['1', '0']


def environment():
    return {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))}


def run_rank(rank, folder):
    downloads = []

    def no_network(url, path, hash_prefix):
        downloads.append(url)
        raise urllib.error.URLError('no route to host')

    torch.hub.set_dir(str(folder / 'hub'))
    torch.hub.download_url_to_file = no_network
    distributed.init_process_group('gloo', store=distributed.FileStore(str(folder / 'store'), 2), rank=rank,
                                   world_size=2)
    with pytest.raises(PerceptualWeightsMissing, match='no route to host'):
        find_trunk(NAME)
    (folder / f'downloads.{rank}').write_text(str(len(downloads)))
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == '__main__':
    run_rank(int(sys.argv[1]), Path(sys.argv[2]))
