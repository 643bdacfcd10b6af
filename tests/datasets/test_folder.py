import os
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from wfvae_toolkit.datasets import ImageFolder, ImageManifest, images, open_images, scan, scan_folder
from wfvae_toolkit.registry import DATASETS


def write(path, size=(12, 8), value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, (value, 1, 2)).save(path)


def test_extensions_in_any_case_and_order_of_posix_paths(tmp_path):
    names = ['b/x.JPG', 'b.png', 'a/c/z.jpeg', 'a/B.WebP', 'a/a.bmp', 'Z.tif', 'a.b/1.TIFF', 'b/10.png', 'b/9.png']
    for name in names:
        write(tmp_path / name)
    for other in ('notes.txt', 'jpg', 'a/vector.svg', 'a/x.jpg.json'):
        (tmp_path / other).touch()
    dataset = ImageFolder(tmp_path)
    assert list(dataset.paths) == sorted(names)
    assert [sample.path for sample in dataset] == sorted(names)
    assert list(ImageFolder(tmp_path, extensions=['.PNG']).paths) == ['b.png', 'b/10.png', 'b/9.png']
    with pytest.raises(TypeError, match=r"\['png'\]"):
        ImageFolder(tmp_path, extensions='png')


@pytest.mark.parametrize(('suffix', 'form'), [
    ('JPEG', 'JPEG'), ('jfif', 'JPEG'), ('jpe', 'JPEG'), ('apng', 'PNG'), ('webp', 'WEBP'), ('TIF', 'TIFF'),
    ('bmp', 'BMP'), ('gif', 'GIF'), ('jp2', 'JPEG2000'), ('ppm', 'PPM'), ('pgm', 'PPM'),
    *[('avif', 'AVIF')] * ('avif' in images.readable_extensions())])  # Pillow from 11.3
def test_what_pillow_decodes_is_read_whatever_its_suffix(tmp_path, suffix, form):
    Image.new('L' if suffix == 'pgm' else 'RGB', (12, 8)).save(tmp_path / f'a.{suffix}', form)
    assert [(sample.path, sample.image.shape) for sample in ImageFolder(tmp_path)] == [(f'a.{suffix}', (3, 8, 12))]


def test_a_format_that_this_pillow_lacks_is_passed_over_and_counted(tmp_path, monkeypatch):
    write(tmp_path / 'a.png')
    (tmp_path / 'b.avif').write_bytes(b'whatever')
    monkeypatch.setattr(images.features, 'check', lambda name: name != 'avif')
    for cached in (images.readable_formats, images.readable_extensions):
        monkeypatch.setattr(images, cached.__name__, cached.__wrapped__)
    monkeypatch.setattr(scan, 'readable_extensions', images.readable_extensions)
    dataset = ImageFolder(tmp_path)
    assert list(dataset.paths) == ['a.png']
    assert dataset.remarks() == [f'{tmp_path}: 1 pictures; 1 other files are passed over: 1 .avif']


def test_what_is_passed_over_is_counted_by_kind(tmp_path):
    write(tmp_path / 'root/a.png')
    assert ImageFolder(tmp_path / 'root').remarks() == []
    for name in ('b.HEIC', 'deep/c.heic', 'deep/notes.txt', 'README', '.DS_Store', 'deep/.png'):
        (tmp_path / 'root' / name).parent.mkdir(exist_ok=True)
        (tmp_path / 'root' / name).touch()
    expected = [f'{tmp_path / "root"}: 1 pictures; 6 other files are passed over: 2 .heic, 2 hidden, 1 without suffix, '
                '1 .txt']
    for _ in range(2):  # the second time from the cache
        dataset = ImageFolder(tmp_path / 'root', scan_cache=tmp_path / 'cache')
        assert [sorted(line.split(': ')[-1].split(', ')) for line in dataset.remarks()] == [
            sorted(expected[0].split(': ')[-1].split(', '))]
    for number in range(20):
        (tmp_path / f'root/x.{number:02}').touch()
    (line,) = ImageFolder(tmp_path / 'root').remarks()
    assert line.endswith(' of other kinds')
    assert sum(int(part.split()[0]) for part in line.rpartition(': ')[2].split(', ')) == 26
    (tmp_path / 'root/a.png').unlink()
    with pytest.raises(ValueError, match=r'no image under .*: 0 pictures; 26 other files are passed over: 2 '):
        ImageFolder(tmp_path / 'root')


@pytest.mark.skipif(os.name != 'posix', reason='needs symbolic links')
def test_links_that_lead_nowhere_are_counted(tmp_path):
    write(tmp_path / 'a.png')
    (tmp_path / 'gone.txt').symlink_to('nothing')
    (tmp_path / 'up').symlink_to(tmp_path)
    assert ImageFolder(tmp_path).passed_over == {'.txt': 1, 'links back to a folder above': 1}


@pytest.mark.skipif(os.name != 'posix', reason='needs symbolic links')
def test_links_are_followed_without_looping(tmp_path):
    write(tmp_path / 'root/a/1.png')
    write(tmp_path / 'elsewhere/2.png')
    write(tmp_path / 'elsewhere/deep/3.png')
    (tmp_path / 'root/link').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'root/a/up').symlink_to(tmp_path / 'root')
    (tmp_path / 'elsewhere/deep/over').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'root/itself').symlink_to('itself')
    (tmp_path / 'root/a/file.png').symlink_to(tmp_path / 'root/a/1.png')
    (tmp_path / 'root/gone.png').symlink_to(tmp_path / 'nothing.png')
    assert scan_folder(tmp_path / 'root') == ['a/1.png', 'a/file.png', 'gone.png', 'link/2.png', 'link/deep/3.png']
    (tmp_path / 'linked_root').symlink_to(tmp_path / 'root')
    assert scan_folder(tmp_path / 'linked_root') == scan_folder(tmp_path / 'root')


def test_no_such_folder_names_the_option(tmp_path):
    with pytest.raises(FileNotFoundError, match='train_dataloader.dataset.data_root or val_dataloader.dataset.data'):
        ImageFolder(tmp_path / 'none')
    with pytest.raises(FileNotFoundError, match='none.*: set my.option$'):
        ImageFolder(tmp_path / 'none', option='my.option')
    (tmp_path / 'file').touch()
    with pytest.raises(FileNotFoundError, match='no folder .*: set .*It is a file$'):
        ImageFolder(tmp_path / 'file')


def test_a_file_in_the_place_of_a_folder_says_what_would_work(tmp_path):
    write(tmp_path / 'a.png')
    with tarfile.open(tmp_path / 'photos.tar', 'w') as archive:
        archive.add(tmp_path / 'a.png', 'a.png')
    with zipfile.ZipFile(tmp_path / 'photos.zip', 'w') as archive:
        archive.write(tmp_path / 'a.png', 'a.png')
    (tmp_path / 'list.jsonl').write_text('{"path": "a.png"}')
    with tarfile.open(tmp_path / 'photos.tgz', 'w:gz') as archive:
        archive.add(tmp_path / 'a.png', 'a.png')
    for name, words in (('photos.tar', "It is a tar file: dataset.type='ImageShards' reads those$"),
                        ('photos.tgz', 'It is an archive: unpack it and give the folder$'),
                        ('photos.zip', 'It is an archive: unpack it'), ('list.jsonl', "type='ImageManifest' reads")):
        with pytest.raises(FileNotFoundError, match=words):
            ImageFolder(tmp_path / name)
    for name in ('photos.tgz', 'photos.zip'):
        with pytest.raises(FileNotFoundError, match='is an archive, not a folder: unpack it'):
            open_images(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="It is a folder: dataset.type='ImageFolder' reads folders"):
        ImageManifest(tmp_path)


def test_a_tilde_is_the_home_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    write(tmp_path / 'photos/a.png')
    (tmp_path / 'list.jsonl').write_text('{"path": "photos/a.png"}')
    (tmp_path / 'elsewhere.jsonl').write_text('{"path": "~/photos/a.png"}')
    datasets = [
        ImageFolder('~/photos', scan_cache='~/cache'), ImageManifest('~/list.jsonl'), open_images('~/photos'),
        open_images('~/photos/a.png'), ImageManifest('~/elsewhere.jsonl', allow_outside=True)]
    for dataset in datasets:
        assert [sample.image.shape for sample in dataset] == [(3, 8, 12)]
    with pytest.raises(ValueError, match='allow_outside=True'):
        ImageManifest('~/elsewhere.jsonl')


def test_an_empty_folder_says_what_is_read(tmp_path):
    (tmp_path / 'readme.txt').touch()
    with pytest.raises(ValueError, match='jpg, .*png, .*webp, .*tif'):
        ImageFolder(tmp_path)


def test_registered_and_picklable(tmp_path):
    write(tmp_path / 'a.png', value=7)
    dataset = DATASETS.build({'type': 'ImageFolder', 'data_root': str(tmp_path),
                              'pipeline': [{'type': 'CenterCrop', 'size': 4}]})
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[0].image, dataset[0].image)
    with pytest.raises(TypeError, match='pipelin.*its settings are'):
        DATASETS.build({'type': 'ImageFolder', 'data_root': str(tmp_path), 'pipelin': []})


def test_options_reach_the_reader(tmp_path):
    Image.new('RGBA', (4, 4), (0, 0, 0, 0)).save(tmp_path / 'a.png')
    assert ImageFolder(tmp_path)[0].image.unique().tolist() == [255]
    assert np.array_equal(ImageFolder(tmp_path, background=(1, 2, 3))[0].image[:, 0, 0], [1, 2, 3])
    assert ImageFolder(tmp_path, on_bad='report', max_pixels=15)[0].image is None
    with pytest.raises(ValueError, match='substitute.*report'):
        ImageFolder(tmp_path, on_bad='skip')
