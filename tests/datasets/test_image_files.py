import pytest
from PIL import Image

from wfvae_toolkit.datasets import BlockSampler, ImageFiles, count_images, fixed_pipeline, load_batches, open_images
from wfvae_toolkit.utils.errors import MissingFile, SettingError


@pytest.fixture
def folder(tmp_path):
    """deep/b.png (8x6), a.png (4x4) and a manifest of the first."""
    (tmp_path / 'deep').mkdir()
    Image.new('RGB', (8, 6)).save(tmp_path / 'deep/b.png')
    Image.new('RGB', (4, 4)).save(tmp_path / 'a.png')
    (tmp_path / 'list.jsonl').write_text('{"path": "deep/b.png"}\n')
    return tmp_path


@pytest.mark.parametrize(('name', 'paths'), [
    ('.', ['a.png', 'deep/b.png']), ('list.jsonl', ['deep/b.png']), ('deep/b.png', ['b.png'])])
def test_folder_manifest_and_picture_open_alike(folder, name, paths):
    dataset = open_images(folder / name, fixed_pipeline(resolution=4, crop=3))
    assert [dataset.path(index) for index in range(len(dataset))] == paths
    assert dataset[0].image.shape == (3, 3, 3)


def test_nothing_there_is_named(folder):
    with pytest.raises(MissingFile, match="there is no '.*nowhere': name a folder, a manifest"):
        open_images(folder / 'nowhere')
    (folder / 'empty').mkdir()
    with pytest.raises(SettingError, match='no image under .*empty'):
        open_images(folder / 'empty')


def test_count_is_bounded_by_what_there_is(folder):
    dataset = open_images(folder)
    assert [count_images(dataset, most) for most in (None, 1, 2, 9)] == [2, 1, 2, 2]
    with pytest.raises(SettingError, match='0 images: use at least 1'):
        count_images(dataset, 0)


@pytest.mark.parametrize('workers', [0, 1])
def test_chosen_batches_report_bad_files(folder, workers):
    (folder / 'c.png').write_bytes(b'')
    dataset = ImageFiles(folder, ['c.png', 'a.png', 'missing.png', 'deep/b.png'])
    batches = list(load_batches(dataset, [[0, 1], [3, 2]], workers))
    assert [batch.indices for batch in batches] == [[1], [3]]
    assert [[bad.path for bad in batch.bad] for batch in batches] == [['c.png'], ['missing.png']]


@pytest.mark.parametrize('world_size', [1, 2, 3])
def test_blocks_are_the_same_on_any_number_of_ranks(world_size):
    dealt = [[[key.index for key in block] for block in BlockSampler(11, 4, rank, world_size)]
             for rank in range(world_size)]
    assert sorted(block for share in dealt for block in share) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    assert [len(BlockSampler(11, 4, rank, world_size)) for rank in range(world_size)] == list(map(len, dealt))
    with pytest.raises(SettingError, match='batch size 0'):
        BlockSampler(11, 0)
