import os

import pytest
from PIL import Image

from tests.datasets.shard_samples import encoded, write_shards_of, write_tar
from wfvae_toolkit.datasets import BadImage, ImageFolder, ImageManifest, ImageShards, MixedDataset
from wfvae_toolkit.datasets.picture_sizes import picture_sizes as sizes_of


@pytest.fixture
def folder(tmp_path):
    """Pictures of 4x3, 5x3 (turned), ... and a file that is none."""
    folder = tmp_path / 'photos'
    folder.mkdir()
    for number in range(5):
        exif = Image.Exif()
        exif[0x0112] = 6 if number == 1 else 1
        Image.new('RGB', (4 + number, 3)).save(folder / f'{number}.jpg', exif=exif)
    (folder / 'bad.jpg').write_bytes(b'text')
    return folder


EXPECTED = [[4, 3], [3, 5], [6, 3], [7, 3], [8, 3], [0, 0]]


def test_sizes_are_upright_and_zero_where_there_is_none(folder, monkeypatch):
    assert sizes_of(ImageFolder(folder)).tolist() == EXPECTED
    from wfvae_toolkit.datasets import picture_sizes as module

    monkeypatch.setattr(module, '_CHUNK', 2)
    monkeypatch.setattr(os, 'sched_getaffinity', lambda process: {0, 1}, raising=False)
    assert sizes_of(ImageFolder(folder)).tolist() == EXPECTED


def test_a_cache_spares_all_but_new_and_changed_pictures(folder, tmp_path, monkeypatch):
    cache = tmp_path / 'sizes'
    assert sizes_of(ImageFolder(folder), cache).tolist() == EXPECTED
    read, real = [], ImageFolder.picture_size
    monkeypatch.setattr(ImageFolder, 'picture_size',
                        lambda self, index: read.append(self.path(index)) or real(self, index))
    assert sizes_of(ImageFolder(folder), cache).tolist() == EXPECTED
    assert read == []
    Image.new('RGB', (20, 10)).save(folder / '2.jpg')
    Image.new('RGB', (9, 9)).save(folder / '6.jpg')
    (folder / '0.jpg').unlink()
    expected = [[3, 5], [20, 10], [7, 3], [8, 3], [9, 9], [0, 0]]
    assert sizes_of(ImageFolder(folder), cache).tolist() == expected
    assert read == ['2.jpg', '6.jpg']
    cache.write_bytes(cache.read_bytes()[:-3])
    with pytest.warns(UserWarning, match='no usable sizes .*every header is read again'):
        assert sizes_of(ImageFolder(folder), cache).tolist() == expected


def test_a_manifest_gives_the_sizes_that_it_holds(folder):
    (folder / 'list.jsonl').write_text('{"path": "0.jpg", "width": 40, "height": 30}\n{"path": "1.jpg"}\n'
                                       '{"path": "2.jpg", "width": "6"}\n')
    manifest = ImageManifest(folder / 'list.jsonl')
    assert sizes_of(manifest).tolist() == [[40, 30], [3, 5], [6, 3]]


def test_shards_and_mixtures_have_sizes(folder, tmp_path):
    write_shards_of(tmp_path / 'shards', [2])
    shards = dict(type='ImageShards', data_root=str(tmp_path / 'shards'))
    mixed = MixedDataset({'a': dict(weight=1, dataset=shards),
                          'b': dict(weight=1, dataset=dict(type='ImageFolder', data_root=str(folder)))})
    assert sizes_of(mixed).tolist() == [[24, 20]] * 2 + EXPECTED


def test_only_the_first_bytes_of_a_large_picture_in_a_shard_are_read(tmp_path):
    large = encoded(0, (600, 400))
    write_tar(tmp_path / 'a.tar', [('a.jpg', large)])
    dataset = ImageShards(tmp_path)
    reads, read = [], dataset.files.read
    dataset.files.read = lambda number, start, length: reads.append(length) or read(number, start, length)
    assert dataset.picture_size(0) == (400, 600)
    assert reads == [2**16] != [len(large)]


def test_a_header_beyond_the_first_bytes_is_found(tmp_path):
    content = encoded(0, icc_profile=None)
    comment = b'\xff\xfe\xff\xff' + bytes(65533)
    write_tar(tmp_path / 'a.tar', [('a.jpg', content[:2] + comment * 3 + content[2:]), ('b.jpg', content[:12])])
    dataset = ImageShards(tmp_path)
    assert dataset.picture_size(0) == (24, 20)
    with pytest.raises(BadImage):
        dataset.picture_size(1)
