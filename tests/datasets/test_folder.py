import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from wfvae_toolkit.datasets import ImageFolder, scan_folder
from wfvae_toolkit.registry import DATASETS


def write(path, size=(12, 8), value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, (value, 1, 2)).save(path)


def test_extensions_in_any_case_and_order_of_posix_paths(tmp_path):
    names = ['b/x.JPG', 'b.png', 'a/c/z.jpeg', 'a/B.WebP', 'a/a.bmp', 'Z.tif', 'a.b/1.TIFF', 'b/10.png', 'b/9.png']
    for name in names:
        write(tmp_path / name)
    for other in ('notes.txt', 'jpg', 'a/animation.gif', 'a/x.jpg.json'):
        (tmp_path / other).touch()
    dataset = ImageFolder(tmp_path)
    assert list(dataset.paths) == sorted(names)
    assert [sample.path for sample in dataset] == sorted(names)
    assert list(ImageFolder(tmp_path, extensions=['.PNG']).paths) == ['b.png', 'b/10.png', 'b/9.png']
    with pytest.raises(TypeError, match=r"\['png'\]"):
        ImageFolder(tmp_path, extensions='png')


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
    with pytest.raises(FileNotFoundError, match='no folder'):
        ImageFolder(tmp_path / 'file')


def test_an_empty_folder_says_what_is_read(tmp_path):
    (tmp_path / 'readme.txt').touch()
    with pytest.raises(ValueError, match='jpg, jpeg, png, webp, bmp, tif, tiff'):
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
