"""Shards and tables in a bucket of moto's S3 server; `make test-remote`."""

import pytest

from tests.remote.servers import remove_blocks
from wfvae_toolkit.datasets import ImageShards, ImageTable, open_images
from wfvae_toolkit.utils.errors import MissingFile, SettingError, StorageError

PATTERN = '{00000..00002}.tar'


@pytest.fixture(autouse=True)
def environment(s3, monkeypatch, tmp_path):
    for name, value in {**s3.environment, 'XDG_CACHE_HOME': str(tmp_path / 'xdg'), 'HOME': str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv('AWS_PROFILE', raising=False)


def test_a_pattern_and_a_folder_are_those_of_the_disk(folder, remote, assert_same):
    assert_same(ImageShards(f's3://pictures/of/mine/{PATTERN}', remote=remote), ImageShards(f'{folder}/{PATTERN}'))
    shards = ImageShards('s3://pictures/of/mine', remote=remote)
    assert_same(shards, ImageShards(folder))
    assert shards.path(0) == '00000.tar/000000000.jpg'
    assert shards.remarks() == ['s3://pictures/of/mine: 48 pictures in 4 shards; 2 other files are passed over: 2 '
                                '.parquet']


@pytest.mark.parametrize('name', ['none.parquet', 'zstd.parquet'])
def test_tables_are_those_of_the_disk(folder, remote, assert_same, name):
    assert_same(ImageTable(f's3://pictures/of/mine/{name}', remote=remote), ImageTable(folder / name))


def test_every_tool_takes_a_bucket_as_data(s3, folder):
    assert len(open_images('s3://pictures/of/mine/')) == 48
    s3.client().create_bucket(Bucket='tables')
    s3.client().put_object(Bucket='tables', Key='a.parquet', Body=(folder / 'none.parquet').read_bytes())
    assert len(open_images('s3://tables')) == 8


def test_a_signed_url_is_read_and_not_shown(s3, folder, remote, assert_same):
    url = s3.client().generate_presigned_url('get_object', {'Bucket': 'pictures', 'Key': 'of/mine/00000.tar'})
    assert 'Signature=' in url
    shards = ImageShards(url, remote=remote)
    assert_same(shards, ImageShards(folder / '00000.tar'))
    assert 'Signature' not in f'{shards.closing_remarks()}{shards.data_root}{shards.path(0)}'


def test_an_object_that_is_replaced_or_removed_ends_the_run(s3, folder, remote):
    client = s3.client()
    client.create_bucket(Bucket='changing')
    client.put_object(Bucket='changing', Key='a.tar', Body=(folder / '00000.tar').read_bytes())
    shards = ImageShards('s3://changing/a.tar', remote=remote)
    remove_blocks(remote['cache_folder'])
    client.put_object(Bucket='changing', Key='a.tar', Body=(folder / '00002.tar').read_bytes())
    with pytest.raises(StorageError, match='s3://changing/a.tar: it has changed while it was in use'):
        shards[0]
    client.delete_object(Bucket='changing', Key='a.tar')
    with pytest.raises(StorageError, match='it has been removed while it was in use .HTTP 404'):
        shards[0]


def test_what_is_not_there_is_named(s3, remote, monkeypatch):
    with pytest.raises(MissingFile, match='s3://pictures/no.tar is missing .HTTP 404'):
        ImageShards('s3://pictures/no.tar', remote=remote)
    with pytest.raises(SettingError, match="no tar shard .* under 's3://pictures/nowhere' .*; it holds nothing"):
        ImageShards('s3://pictures/nowhere', remote=remote)
    monkeypatch.delenv('AWS_ACCESS_KEY_ID')
    monkeypatch.delenv('AWS_SECRET_ACCESS_KEY')
    monkeypatch.setenv('AWS_EC2_METADATA_DISABLED', 'true')
    with pytest.raises(StorageError, match='no credentials are found: set AWS_ACCESS_KEY_ID'):
        ImageShards('s3://pictures/of/mine/00000.tar', remote=remote)
    s3.client().put_object_acl(Bucket='pictures', Key='of/mine/00000.tar', ACL='public-read')
    assert len(ImageShards('s3://pictures/of/mine/00000.tar', remote=dict(
        remote, storage_options=dict(anon=True)))) == 16


def test_a_server_that_is_not_there_ends_at_the_deadline(remote, monkeypatch):
    monkeypatch.setenv('AWS_ENDPOINT_URL', 'http://127.0.0.1:9')
    for place in ('s3://pictures/of/mine', 's3://pictures/of/mine/00000.tar'):
        with pytest.raises(StorageError, match=f'^{place}: .*; nothing came for 2 s'):
            ImageShards(place, remote=remote)
