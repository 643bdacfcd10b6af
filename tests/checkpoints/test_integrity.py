import random
import re
import resource

import pytest
import torch

from wfvae_toolkit.checkpoints import (
    CheckpointError,
    find_resumable,
    load_training_checkpoint,
    save_training_checkpoint,
)
from wfvae_toolkit.checkpoints.integrity import SUFFIX
from wfvae_toolkit.utils.files import WriteError


def content():
    generator = torch.Generator().manual_seed(0)
    return {'meta': {'iteration': 1}, 'state_dict': {f'layer.{i}': torch.randn(40, 50, generator=generator)
                                                     for i in range(5)}, 'optimizers': {}, 'best': 0.5}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / 'iter_1.pth'
    save_training_checkpoint(content(), path, {'type': 'WFVAE2Image'})
    return path


@pytest.fixture
def saved_before(saved):
    """As version 1 wrote it."""
    checkpoint = torch.load(saved, weights_only=True)
    checkpoint['meta']['format_version'] = 1
    torch.save(checkpoint, saved)
    return saved


def same(a, b):
    return all(torch.equal(a['state_dict'][name], b['state_dict'][name]) for name in b['state_dict'])


def flipped(bytes_, place, mask):
    return bytes_[:place] + bytes([bytes_[place] ^ mask]) + bytes_[place + 1:]


def test_plain_torch_reads_the_file(saved):
    for options in ({}, {'mmap': True}):
        assert same(torch.load(saved, weights_only=True, **options), content())
    assert saved.read_bytes()[-20:].startswith(SUFFIX)
    assert torch.serialization.get_crc32_options()


def test_any_flipped_bit_is_noticed(saved):
    whole, rng = saved.read_bytes(), random.Random(0)
    places = {*range(100), *range(len(whole) - 400, len(whole)), *rng.sample(range(len(whole)), 600)}
    for place in places:
        saved.write_bytes(flipped(whole, place, 1 << rng.randrange(8)))
        with pytest.raises(CheckpointError, match=re.escape(str(saved))):
            load_training_checkpoint(saved)


@pytest.mark.parametrize('change', [
    lambda whole: whole[:-1], lambda whole: whole[:-20], lambda whole: whole[:-21], lambda whole: whole[:9000],
    lambda whole: whole + b'\0', lambda whole: whole[:5000] + whole[5001:],
    lambda whole: whole[:9000] + bytes(512) + whole[9512:],
], ids=['a byte less', 'no trailer', 'and a byte', 'half', 'a byte more', 'one left out', 'zeros'])
def test_other_damage_is_noticed(saved, change):
    saved.write_bytes(change(saved.read_bytes()))
    with pytest.raises(CheckpointError, match=re.escape(f'{saved}: damaged or not a checkpoint')):
        load_training_checkpoint(saved)


def test_files_of_version_1_load_and_no_flipped_bit_changes_a_value(saved_before):
    whole, rng, noticed = saved_before.read_bytes(), random.Random(1), 0
    assert same(load_training_checkpoint(saved_before), content())
    for place in rng.sample(range(len(whole)), 300):
        saved_before.write_bytes(flipped(whole, place, 1 << rng.randrange(8)))
        try:
            assert same(load_training_checkpoint(saved_before), content())
        except CheckpointError:
            noticed += 1
    assert noticed > 200  # the rest hit padding


def test_plain_torch_would_not_notice(saved):
    whole = saved.read_bytes()
    saved.write_bytes(flipped(whole, len(whole) // 2, 1))
    assert not same(torch.load(saved, weights_only=True), content())


def test_resuming_passes_over_a_flipped_bit(saved):
    newest, warnings = saved.with_name('iter_2.pth'), []
    newest.write_bytes(flipped(saved.read_bytes(), 20_000, 1))
    assert find_resumable(saved.parent, warnings.append) == saved
    warning, = warnings
    assert f'{newest}: damaged or not a checkpoint (its checksum does not fit its content)' in warning


@pytest.mark.parametrize('limit_bytes', [0, 100, 10_000, 40_000])
def test_a_disk_that_fills_while_torch_writes_is_named(saved, limit_bytes):
    before = saved.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        with pytest.raises(WriteError, match=f'{saved}: not written: File too large'):
            save_training_checkpoint(content(), saved, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]
