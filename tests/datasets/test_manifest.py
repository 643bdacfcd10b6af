import codecs
import json
import os
import pickle
import tracemalloc
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from wfvae_toolkit.datasets import ImageFolder, ImageManifest, build_dataloader, read_size, write_manifest
from wfvae_toolkit.registry import DATASETS
from wfvae_toolkit.utils.errors import SettingError


@pytest.fixture
def folder(tmp_path):
    """Six pictures whose red channel is their number."""
    for number, name in enumerate(('a/1.png', 'a/2.png', 'b/1.png', 'b/größe.png', '1.png', 'z.png')):
        path = tmp_path / 'root' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (8 + number, 8), (number, 0, 0)).save(path)
    return tmp_path / 'root'


def write(folder, *lines, name='list.jsonl', prefix=b''):
    content = b''.join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b'\n' for line in lines)
    (folder / name).write_bytes(prefix + content)
    return folder / name


@pytest.mark.parametrize('prefix', [b'', codecs.BOM_UTF8, b'\r\n \t\n', codecs.BOM_UTF8 + b'\n'])
def test_lines_in_their_order_with_their_fields(folder, prefix):
    rows = [{'path': 'z.png', 'caption': 'ü "q" 🙂', 'score': 0.5}, {'target': 'a/1.png', 'source': 'x.png'},
            {'image_path': 'b/größe.png', 'tags': ['a', {'b': None}]}, {'path': 'z.png'}]
    manifest = write(folder, rows[0], b'', rows[1], b'  \t\r', json.dumps(rows[2], ensure_ascii=False).encode() + b'\r',
                     rows[3], prefix=prefix)
    for dataset in (ImageManifest(manifest), pickle.loads(pickle.dumps(ImageManifest(manifest)))):
        assert [sample.path for sample in dataset] == ['z.png', 'a/1.png', 'b/größe.png', 'z.png']
        assert [int(sample.image[0, 0, 0]) for sample in dataset] == [5, 0, 3, 5]
        assert [dataset.fields(index) for index in range(4)] == [
            {key: value for key, value in row.items() if key not in ('path', 'target', 'image_path')} for row in rows]


def test_the_last_line_needs_no_end(folder):
    (folder / 'list.jsonl').write_bytes(b'{"path": "1.png"}\n{"path": "z.png", "n": 1}')
    assert ImageManifest(folder / 'list.jsonl').fields(1) == {'n': 1}


def test_no_such_manifest_names_the_option(folder):
    for training, name in ((True, 'train_dataloader'), (False, 'val_dataloader')):
        for path, end in ((folder / 'none.jsonl', '$'), (folder, '. It is a folder')):
            with pytest.raises(FileNotFoundError, match=f'no manifest .*set {name}.dataset.data_root{end}'):
                build_dataloader({'batch_size': 1, 'dataset': {'type': 'ImageManifest', 'data_root': str(path)}},
                                 training=training)


def test_paths_outside(folder):
    (folder / 'a/sub').mkdir()
    manifest = write(folder / 'a', {'path': str(folder / '1.png')}, {'path': '../z.png'}, {'path': 'sub/../1.png'})
    assert [int(sample.image[0, 0, 0]) for sample in ImageManifest(manifest, allow_outside=True)] == [4, 5, 0]
    inside = write(folder / 'a', {'path': 'sub/../1.png'}, {'path': './2.png'}, {'path': '..2.png'})
    assert len(ImageManifest(inside)) == 3


def test_missing_pictures_are_bad_files(folder):
    manifest = write(folder, {'path': 'none.png'}, {'path': 'nul\0.png'}, {'path': '1.png'})
    sample = ImageManifest(manifest)[0]
    assert (sample.path, [bad.path for bad in sample.bad]) == ('1.png', ['none.png', 'nul\0.png'])


def test_fields_of_a_file_that_changed(folder):
    manifest = write(folder, {'path': '1.png', 'a': 1})
    dataset = ImageManifest(manifest)
    write(folder, {'path': 'z.png', 'a': 22})
    with pytest.raises(SettingError, match='has changed since it was read'):
        dataset.fields(0)


def test_memory_is_small(tmp_path):
    count = 20_000
    manifest = write(tmp_path, *({'path': f'folder/{number:08}.jpg', 'caption': 'x' * 300} for number in range(count)))
    tracemalloc.start()
    dataset = ImageManifest(manifest)
    held_bytes, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(dataset) == count
    assert held_bytes < count * (19 + 16) + 50_000
    assert peak_bytes < count * 150


def test_it_is_the_folder(folder, tmp_path):
    manifest = tmp_path / 'lists/all.jsonl'
    written = write_manifest(folder, manifest)
    assert (written.counts, written.bad, written.outside) == ({manifest: 6}, [], True)
    listed, scanned = ImageManifest(manifest, allow_outside=True), ImageFolder(folder)
    assert [path.removeprefix('../root/') for path in listed.paths] == list(scanned.paths)
    for index in range(6):
        assert torch.equal(listed[index].image, scanned[index].image)
        assert listed.fields(index) == {'width': scanned[index].image.shape[2], 'height': 8}
    inside = folder / 'all.jsonl'
    assert not write_manifest(folder, inside).outside
    assert list(ImageManifest(inside).paths) == list(scanned.paths)
    write_manifest(folder / 'a', inside)
    assert list(ImageManifest(inside).paths) == ['a/1.png', 'a/2.png']


def test_registered(folder):
    manifest = write(folder, {'path': '1.png'})
    assert len(DATASETS.build({'type': 'ImageManifest', 'data_root': str(manifest)})) == 1


def touch_many(folder, numbers):
    for number in numbers:
        Image.new('L', (2, 1)).save(folder / f'{number:04}.png')


def sides(folder, out, **options):
    """Path -> 'train' or 'val'."""
    found = {}
    for manifest in write_manifest(folder, out, **options).counts:
        for path in ImageManifest(manifest, allow_outside=True).paths:
            assert path not in found
            found[path] = manifest.stem.rpartition('_')[2]
    return found


def test_a_split_depends_on_each_path_alone(tmp_path):
    root = tmp_path / 'root'
    root.mkdir()
    touch_many(root, range(0, 300, 2))
    before = sides(root, tmp_path / 'all.jsonl', split=0.8)
    assert len(before) == 150
    assert sorted(path.name for path in tmp_path.glob('*.jsonl')) == ['all_train.jsonl', 'all_val.jsonl']
    touch_many(root, range(1, 300, 2))
    (root / '0000.png').unlink()
    after = sides(root, tmp_path / 'all', split=0.8)
    assert {path: after[path] for path in after if path in before} == {
        path: side for path, side in before.items() if not path.endswith('0000.png')}
    assert abs(Counter(after.values())['train'] / len(after) - 0.8) < 0.06
    other = sides(root, tmp_path / 'all', split=0.8, seed=1)
    assert sum(other[path] != after[path] for path in after) > 50
    root.rename(tmp_path / 'moved')  # the folder's own name plays no part
    moved = sides(tmp_path / 'moved', tmp_path / 'all', split=0.8)
    assert list(moved.values()) == list(after.values())


def test_more_for_training_takes_from_validation_only(tmp_path):
    touch_many(tmp_path, range(60))
    small, large = (sides(tmp_path, tmp_path / 'all.jsonl', split=split) for split in (0.5, 0.8))
    assert {path for path in small if small[path] == 'train'} < {path for path in large if large[path] == 'train'}


def test_nothing_is_written_where_a_side_would_be_empty(tmp_path):
    with pytest.raises(SettingError, match='would be empty: 0 pictures'):
        write_manifest(tmp_path, tmp_path / 'all.jsonl')
    touch_many(tmp_path, [1])
    with pytest.raises(SettingError, match='would be empty: 1 pictures'):
        write_manifest(tmp_path, tmp_path / 'all.jsonl', split=0.9)
    for split in (0, 1, 1.5, float('nan')):
        with pytest.raises(SettingError, match='between 0 and 1'):
            write_manifest(tmp_path, tmp_path / 'all.jsonl', split=split)
    with pytest.raises(FileNotFoundError, match='no folder'):
        write_manifest(tmp_path / 'none', tmp_path / 'all.jsonl')
    assert [path.name for path in tmp_path.iterdir()] == ['0001.png']


@pytest.mark.skipif(os.name != 'posix', reason='needs names that are not UTF-8')
def test_any_file_name(tmp_path):
    names = ['\udcff.png', 'new\nline.png', 'ü "q".png']
    for name in names:
        Image.new('L', (2, 1)).save(tmp_path / name)
    write_manifest(tmp_path, tmp_path / 'all.jsonl')
    assert {sample.path for sample in ImageManifest(tmp_path / 'all.jsonl', on_bad='report') if not sample.bad} == {
        *names}


def test_sizes_are_those_of_the_upright_picture(tmp_path):
    pixels = np.zeros((4, 9, 3), np.uint8)
    for orientation in range(10):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(pixels).save(tmp_path / f'{orientation}.jpg', exif=exif)
    for sample in ImageFolder(tmp_path):
        assert read_size(tmp_path / sample.path) == (sample.image.shape[2], sample.image.shape[1])


def test_tool_lists_bad_files_and_leaves_them_out(folder, tool, capsys):
    (folder / 'empty.png').touch()
    (folder / 'text.jpg').write_text('text')
    tool('make_manifest')(folder, folder / 'all.jsonl', '--split', '0.6', '--seed', '3')
    out, err = capsys.readouterr()
    counts = [int(line.rpartition(': ')[2].split()[0]) for line in out.splitlines()]
    assert sum(counts) == 6
    assert [line.split(': ')[:2] for line in err.splitlines()[:2]] == [
        ['left out', 'empty.png'], ['left out', 'text.jpg']]
    assert err.splitlines()[2:] == ['2 files could not be read and were left out']
    assert len(ImageManifest(folder / 'all_train.jsonl')) == counts[0]
    tool('make_manifest')(folder, folder.parent / 'lists/all')
    assert 'allow_outside=True' in capsys.readouterr().err
    assert (folder.parent / 'lists/all').is_file()
    with pytest.raises(SystemExit, match="^error: there is no folder 'nowhere'"):
        tool('make_manifest')('nowhere', folder / 'all.jsonl')
