"""docs/bad_input.md is what really becomes of odd files: in training, in evaluation, in the manifest tool."""

import os

import numpy as np
import pytest
import torch

from tests.datasets.odd_files import FILES, Bad, corners
from tests.datasets.odd_manifests import MANIFESTS
from tests.datasets.odd_shards import NAME, SHARDS, good_shard
from tests.datasets.odd_tables import TABLES
from tests.datasets.table_samples import rows_of, write_parquet
from tests.datasets.write_bad_input import PAGE, with_tables
from wfvae_toolkit.datasets import (
    BadImage,
    ImageFolder,
    ImageManifest,
    ImageShards,
    ImageTable,
    SampleKey,
    load_rgb,
    read_size,
)
from wfvae_toolkit.utils.errors import SettingError

pytestmark = pytest.mark.filterwarnings('ignore')  # Pillow's, about damaged headers
WITHOUT_CONTENT = ('bad: missing', 'bad: too many', 'bad: not a regular file', 'bad: permission denied')
CROP = [{'type': 'CenterCrop', 'size': 8}]


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes an odd file beside a good one; returns the folder."""
    def write(odd):
        folder = tmp_path / 'data'
        folder.mkdir()
        corners().save(folder / 'zz good.png')
        odd.write(folder / odd.name)
        if 'permission' in odd.what and os.access(folder / odd.name, os.R_OK):
            real = os.stat

            def stat(path, *arguments, **settings):
                if os.fspath(path) == os.fspath(folder / odd.name):
                    raise PermissionError(13, 'Permission denied', os.fspath(path))
                return real(path, *arguments, **settings)
            monkeypatch.setattr('wfvae_toolkit.datasets.images.os.stat', stat)
        return folder
    return write


@pytest.mark.parametrize('odd', FILES, ids=lambda odd: odd.what)
def test_it_is_read_as_stated(written, odd):
    path = written(odd) / odd.name
    if isinstance(odd.outcome, Bad):
        with pytest.raises(BadImage) as caught:
            load_rgb(path)
        assert odd.outcome.reason.lower() in caught.value.reason.lower()
        return
    image = load_rgb(path)
    assert (image.mode, image.size) == ('RGB', odd.outcome.size)
    difference = np.abs(np.asarray(image)[0, 0].astype(int) - odd.outcome.pixel)
    assert difference.max() <= odd.outcome.tolerance
    assert read_size(path) == odd.outcome.size


@pytest.mark.parametrize('odd', [odd for odd in FILES if str(odd.outcome) not in WITHOUT_CONTENT],
                         ids=lambda odd: odd.what)
def test_its_content_is_read_as_the_file_is(written, odd):
    path = written(odd) / odd.name
    if isinstance(odd.outcome, Bad):
        with pytest.raises(BadImage) as caught:
            load_rgb(path.read_bytes())
        assert odd.outcome.reason.lower() in caught.value.reason.lower()
        return
    assert load_rgb(path.read_bytes()).tobytes() == load_rgb(path).tobytes()


@pytest.mark.parametrize('odd', FILES, ids=lambda odd: odd.what)
@pytest.mark.parametrize('decoder', ['exact', 'fast'])
def test_training_has_a_picture_and_evaluation_says_which_has_none(written, odd, decoder):
    folder = written(odd)
    pipeline = CROP if decoder == 'exact' else [{'type': 'ResizeShortSide', 'size': 8}, *CROP]
    training = ImageFolder(folder, pipeline, decoder=decoder)
    assert list(training.paths) == sorted([odd.name, 'zz good.png'])
    index = list(training.paths).index(odd.name)
    sample = training[SampleKey(index, 0, 0)]
    assert sample.image.shape == (3, 8, 8)
    assert sample.image.dtype == torch.uint8
    evaluation = ImageFolder(folder, CROP, on_bad='report')[index]
    if isinstance(odd.outcome, Bad):
        assert sample.path == 'zz good.png'
        assert [bad.path for bad in sample.bad] == [odd.name]
        assert evaluation.image is None
        assert odd.outcome.reason in evaluation.bad[0].reason.lower()
    else:
        assert (sample.path, sample.bad) == (odd.name, ())
        assert evaluation.image.shape == (3, 8, 8)


@pytest.mark.parametrize('odd', MANIFESTS, ids=lambda odd: odd.what)
def test_a_manifest_is_read_as_stated(tmp_path, odd):
    for name in ('1.png', 'z.png', 'odd\\name.png'):
        corners().save(tmp_path / name)
    manifest = tmp_path / 'list.jsonl'
    manifest.write_bytes(odd.content)
    if isinstance(odd.outcome, int):
        dataset = ImageManifest(manifest, **odd.settings)
        assert [sample.position for sample in dataset] == list(range(odd.outcome))
        return
    with pytest.raises(SettingError) as caught:
        ImageManifest(manifest, **odd.settings)
    assert str(manifest) in str(caught.value)
    assert odd.outcome in str(caught.value)
    assert odd.line is None or f'line {odd.line}: ' in str(caught.value)


@pytest.mark.parametrize('odd', SHARDS, ids=lambda odd: odd.what)
def test_a_shard_is_read_as_stated(tmp_path, odd):
    odd.write(tmp_path / NAME)
    (tmp_path / '00001.tar').write_bytes(good_shard())
    assert_as_stated(ImageShards, tmp_path, odd)


@pytest.mark.parametrize('odd', TABLES, ids=lambda odd: odd.what)
def test_a_table_is_read_as_stated(tmp_path, odd):
    odd.write(tmp_path / '00000.parquet')
    write_parquet(tmp_path / '00001.parquet', rows_of([7, 8]))
    assert_as_stated(ImageTable, tmp_path, odd)


def assert_as_stated(kind, folder, odd):
    evaluation = kind(folder, CROP, on_bad='report', **odd.settings)
    own = [index for index in range(len(evaluation)) if evaluation.path(index).startswith('00000.')]
    assert len(own) == odd.pictures
    assert odd.said in '; '.join(evaluation.remarks())
    assert bool(odd.said) == bool(evaluation.remarks())
    reasons = [sample.bad[0].reason for index in own if (sample := evaluation[index]).image is None]
    assert len(reasons) == bool(odd.bad)
    assert all(odd.bad in reason.lower() for reason in reasons)
    training = kind(folder, CROP, **odd.settings)
    assert all(training[SampleKey(index, 0, 0)].image.shape == (3, 8, 8) for index in range(len(training))
               if not odd.settings.get('mask_keys'))


def test_there_are_many():
    assert len({odd.what for odd in FILES}) == len(FILES) >= 40
    assert len({odd.what for odd in MANIFESTS}) == len(MANIFESTS) >= 40
    assert len({odd.what for odd in SHARDS}) == len(SHARDS) >= 30
    assert len({odd.what for odd in TABLES}) == len(TABLES) >= 20


def test_the_page_says_so():
    text = PAGE.read_text(encoding='utf-8')
    assert text == with_tables(text), 'run: python -m tests.datasets.write_bad_input'
