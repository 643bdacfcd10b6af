"""Shards hold the pictures byte by byte, are equal for equal input, and are finished by the same call after a stop."""

import json
import tarfile

import pytest
from PIL import Image

from tests.datasets.shard_samples import encoded
from wfvae_toolkit.datasets import ImageManifest, ImageShards, shard_writer, write_shards
from wfvae_toolkit.datasets.shard_writer import parse_bytes
from wfvae_toolkit.utils.errors import SettingError


@pytest.fixture
def folder(tmp_path):
    """Twelve pictures, one of which is none."""
    folder = tmp_path / 'photos'
    folder.mkdir()
    for number in range(11):
        (folder / f'{number:02d}.a.jpg').write_bytes(encoded(number))
    (folder / '03b.jpg').write_bytes(b'text')
    return folder


def content_of(out):
    return {path.name: path.read_bytes() for path in out.iterdir() if path.suffix != '.wfvae_index'}


def test_pictures_and_names_are_read_back(folder, tmp_path):
    written = write_shards(folder, tmp_path / 'out', '2KB')
    assert (written.pictures, [bad.path for bad in written.left_out]) == (11, ['03b.jpg'])
    dataset = ImageShards(tmp_path / 'out')
    assert len(dataset.files.names) == written.shards > 3
    assert [dataset.read(index) for index in range(11)] == [encoded(number) for number in range(11)]
    assert [dataset.fields(index)['path'] for index in range(11)] == [f'{number:02d}.a.jpg' for number in range(11)]
    assert dataset.path(10).endswith('/000000011.jpg')  # the twelfth of the folder
    assert dataset.remarks() == []
    for name in dataset.files.names:
        with tarfile.open(tmp_path / 'out' / name) as archive:
            assert sum(member.size for member in archive) <= 2000


def test_equal_input_gives_equal_bytes(folder, tmp_path):
    for out in ('one', 'two'):
        write_shards(folder, tmp_path / out, '2KB', seed=3)
    assert content_of(tmp_path / 'one') == content_of(tmp_path / 'two')
    paths = [ImageShards(tmp_path / 'one').fields(index)['path'] for index in range(11)]
    assert paths != sorted(paths)


@pytest.mark.parametrize('lost', ['a shard', 'the record', 'the end of a shard', 'nothing'])
def test_a_stopped_call_is_finished_by_the_same_one(folder, tmp_path, monkeypatch, lost):
    whole, out = tmp_path / 'whole', tmp_path / 'out'
    write_shards(folder, whole, '2KB')
    add, count = shard_writer._add, []

    def stop(archive, number, sample):
        count.append(number)
        if len(count) == 7:
            raise KeyboardInterrupt
        add(archive, number, sample)
    with monkeypatch.context() as patch:
        patch.setattr(shard_writer, '_add', stop)
        with pytest.raises(KeyboardInterrupt):
            write_shards(folder, out, '2KB')
    assert content_of(out).keys() < content_of(whole).keys()
    if lost == 'a shard':
        (out / '00001.tar').unlink()
    elif lost == 'the record':
        (out / 'make_shards.json').unlink()
        for path in out.glob('0000[1-9].tar'):
            path.unlink()
    elif lost == 'the end of a shard':
        (out / '00001.tar').write_bytes((out / '00001.tar').read_bytes()[:-1])
    assert write_shards(folder, out, '2KB') == write_shards(folder, whole, '2KB')
    assert content_of(out) == content_of(whole)


def test_what_lies_there_of_another_call_is_refused(folder, tmp_path):
    out = tmp_path / 'out'
    write_shards(folder, out, '2KB')
    with pytest.raises(SettingError, match='holds shards of other pictures, or made with other settings'):
        write_shards(folder, out, '3KB')
    (folder / '99.jpg').write_bytes(encoded(99))
    with pytest.raises(SettingError, match='holds shards of other pictures'):
        write_shards(folder, out, '2KB')
    (out / 'make_shards.json').write_text('{')
    with pytest.raises(SettingError, match='make_shards.json is damaged'):
        write_shards(folder, out, '2KB')
    (out / 'make_shards.json').unlink()
    with pytest.raises(SettingError, match='holds 00001.tar, which this call has not written'):
        write_shards(folder, out, '2KB')


def test_fields_and_masks_of_a_manifest_go_along(folder, tmp_path):
    Image.linear_gradient('L').resize((24, 20)).save(folder / 'mask.PNG')
    (folder / 'list.jsonl').write_text('{"path": "00.a.jpg", "caption": "a", "mask": "mask.PNG"}\n'
                                       '{"path": "01.a.jpg", "caption": "b", "mask": "mask.PNG"}\n')
    write_shards(folder / 'list.jsonl', tmp_path / 'out', mask_keys=['mask'])
    shards = ImageShards(tmp_path / 'out', mask_keys=['mask.png'], extra_keys=['caption'])
    manifest = ImageManifest(folder / 'list.jsonl', mask_keys=['mask'], extra_keys=['caption'])
    for one, two in zip(shards, manifest, strict=True):
        assert one.extras.keys() == two.extras.keys()
        assert (one.extras['mask'] == two.extras['mask']).all()
        assert one.extras['caption'] == two.extras['caption']
    write_shards(tmp_path / 'out', tmp_path / 'again')
    assert (tmp_path / 'again/00000.tar').read_bytes() == (tmp_path / 'out/00000.tar').read_bytes()


def test_a_name_without_suffix_gets_that_of_its_format(folder, tmp_path):
    (folder / 'list.jsonl').write_text('{"path": "00"}\n')
    (folder / '00.a.jpg').rename(folder / '00')
    write_shards(folder / 'list.jsonl', tmp_path / 'out')
    assert ImageShards(tmp_path / 'out').path(0) == '00000.tar/000000000.jpg'


def test_no_readable_picture_is_an_error(tmp_path):
    (tmp_path / 'a.jpg').write_bytes(b'text')
    with pytest.raises(SettingError, match='no picture is written, because none of 1 can be read; the first is a.jpg'):
        write_shards(tmp_path / 'a.jpg', tmp_path / 'out')


def test_sizes_have_units():
    assert [parse_bytes(text) for text in ('1GB', '500 mb', '2GiB', '1.5K', 1000)] == [
        10**9, 5 * 10**8, 2**31, 1500, 1000]
    for text in ('', '0', 'large', '-1GB'):
        with pytest.raises(SettingError, match='use a size such as 1GB'):
            parse_bytes(text)


def test_the_tool_says_what_it_did(tool, folder, tmp_path, capsys):
    tool('make_shards')(folder, tmp_path / 'out', '--shard-size', '1MB', '--shuffle', 0)
    output = capsys.readouterr()
    assert output.out == f'{tmp_path / "out"}: 11 pictures in 1 shards\n'
    assert 'left out: 03b.jpg: not an image' in output.err
    assert json.loads((tmp_path / 'out/make_shards.json').read_text())['settings']['seed'] == 0
