"""The servers, and the shards and tables that they serve."""

import io

import pytest

from tests.datasets.shard_samples import encoded, write_shards_of, write_tar
from tests.datasets.table_samples import rows_of, write_parquet
from tests.remote.servers import S3, Nginx, missing_programs

pytest.register_assert_rewrite('run_files')


@pytest.fixture(scope='session', autouse=True)
def programs():
    """A machine without the servers fails; it does not skip."""
    if missing := missing_programs():
        pytest.exit('these tests need: ' + '; '.join(missing), returncode=1)


@pytest.fixture(scope='session')
def folder(tmp_path_factory):
    """Three shards of 16, 4 and 12 samples, a shard of 1.9 MB, and a table of them."""
    folder = write_shards_of(tmp_path_factory.mktemp('served'), [16, 4, 12])
    write_tar(folder / 'large.tar', [(f'{number}.bmp', encoded(number, (200, 200), 'BMP')) for number in range(16)])
    for compression in ('none', 'zstd'):
        write_parquet(folder / f'{compression}.parquet', rows_of(range(8)), compression=compression)
    folder.chmod(0o755)
    return folder


@pytest.fixture(scope='session')
def nginx(folder, tmp_path_factory):
    server = Nginx(folder, tmp_path_factory.mktemp('nginx'))
    yield server
    server.kill()


@pytest.fixture(scope='session')
def s3(folder, tmp_path_factory):
    server = S3(tmp_path_factory.mktemp('s3'))
    server.put_folder(folder, 'pictures', 'of/mine')
    yield server
    server.kill()


@pytest.fixture
def remote(tmp_path):
    return dict(cache_folder=str(tmp_path / 'cache'), deadline_s=2)


@pytest.fixture
def assert_same():
    """Every sample of a dataset has the bytes of another one's."""
    def compare(dataset, expected):
        assert len(dataset) == len(expected)
        for index in range(len(expected)):
            found, wanted = dataset.read(index), expected.read(index)
            assert (found if isinstance(found, bytes) else io.FileIO(found).read()) == wanted
    return compare
