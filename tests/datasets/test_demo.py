import numpy as np
import pytest
from PIL import Image

from wfvae_toolkit.datasets import demo


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp('demo')
    return folder, demo.make_demo_data(folder)


def test_validation_pictures_are_never_trained_on(made):
    folder, photos = made
    names = {split: sorted(path.name for path in (folder / split).iterdir()) for split in ('train', 'val')}
    assert names['val'] == ['chelsea.png', 'flower.png']
    assert len(names['train']) == 14
    assert not set(names['train']) & set(names['val'])
    assert sorted((photo.split, photo.name) for photo in photos) == sorted(
        (split, name) for split in names for name in names[split])


def test_pixels_are_those_of_the_package(made):
    folder, _ = made
    data = pytest.importorskip('skimage.data')
    images = pytest.importorskip('sklearn.datasets')
    for path, expected in (
            ('val/chelsea.png', data.chelsea()),
            ('val/flower.png', images.load_sample_image('flower.jpg')),
            ('train/brick.png', np.repeat(data.brick()[..., None], 3, axis=2))):
        image = Image.open(folder / path)
        assert image.mode == 'RGB'
        np.testing.assert_array_equal(np.asarray(image), expected)


def test_second_call_writes_only_what_is_missing(made, monkeypatch):
    folder, photos = made
    (folder / 'train/coins.png').unlink()
    written = []
    write = demo._write_png
    monkeypatch.setattr(demo, '_write_png', lambda source, target: (written.append(target.name), write(source, target)))
    assert demo.make_demo_data(folder) == photos
    assert written == ['coins.png']


def test_a_failing_write_leaves_no_picture_behind(tmp_path, monkeypatch):
    def fail(self, file, format):
        file.write(b'half a picture')
        raise OSError('disk full')

    monkeypatch.setattr(Image.Image, 'save', fail)
    with pytest.raises(OSError, match='disk full'):
        demo.make_demo_data(tmp_path)
    assert not [path for path in tmp_path.rglob('*') if path.is_file()]


def test_missing_package_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(demo.SOURCES, 'scikit-image', ('no_such_package', 'data'))
    with pytest.raises(ModuleNotFoundError, match=r'scikit-image .* pip install wfvae_toolkit\[demo\]'):
        demo.make_demo_data(tmp_path)


def test_photograph_that_the_package_does_not_ship():
    with pytest.raises(FileNotFoundError, match='no_such.png: this version of scikit-image'):
        demo.find_photo('scikit-image', 'no_such.png')
