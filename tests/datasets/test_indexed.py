"""What `ImageShards` and `ImageTable` share is tested with them; here, where an index is kept."""

from pathlib import Path

from wfvae_toolkit.datasets.indexed import index_path
from wfvae_toolkit.datasets.shard_files import ShardFiles


def test_an_index_lies_beside_its_files_or_in_a_folder_under_a_name_of_its_own(tmp_path):
    files = ShardFiles(tmp_path, ['a.tar'])
    assert index_path(tmp_path, files, None, 'shards') == tmp_path / 'shards.wfvae_index'
    assert index_path(tmp_path / 'a.tar', files, None, 'shards') == tmp_path / 'a.tar.shards.wfvae_index'
    roots = tmp_path, tmp_path / 'a.tar', f'{tmp_path}/{{a,b}}.tar'
    paths = {index_path(root, files, '~/kept', name) for root in roots for name in ('shards', 'tables')}
    assert len(paths) == 6
    assert {path.parent for path in paths} == {Path.home() / 'kept'}
