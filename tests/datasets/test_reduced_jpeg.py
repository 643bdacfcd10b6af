import io
import sys

import numpy as np
import pytest
from PIL import Image

from wfvae_toolkit.datasets import (
    BadImage,
    ImageDataset,
    ImageFolder,
    RandomCrop,
    ResizeShortSide,
    SampleKey,
    build_dataloader,
    load_rgb,
    reduced_jpeg,
)
from wfvae_toolkit.datasets.demo import PHOTOS, find_photo
from wfvae_toolkit.datasets.reduced_jpeg import load_resized
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.seeding import seeded

SHIPPED = [name for names in PHOTOS.values() for name in names['scikit-image']]
RESIZE = ResizeShortSide(40)


def smooth(width=200, height=150, mode='RGB'):
    """A picture whose every pixel tells its place."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - x], axis=-1).round().astype(np.uint8)).convert(mode)


def save(image, path, **options):
    image.save(path, **{'quality': 95, **options})
    return path


def with_xmp(path, xmp):
    """Put XMP behind the first mark of a JPEG file, as cameras do; older versions of Pillow write none."""
    segment = b'http://ns.adobe.com/xap/1.0/\0' + xmp
    data = path.read_bytes()
    path.write_bytes(data[:2] + b'\xff\xe1' + (len(segment) + 2).to_bytes(2, 'big') + segment + data[2:])


@pytest.fixture
def reduced(monkeypatch):
    """Reductions that OpenCV decoded at."""
    found, decode = [], reduced_jpeg._decode

    def watched(data, size, reduction):
        found.append(reduction)
        return decode(data, size, reduction)

    monkeypatch.setattr(reduced_jpeg, '_decode', watched)
    return found


def difference(one, two):
    assert one.size == two.size
    return np.abs(np.asarray(one).astype(int) - np.asarray(two))


# Factor by which the short side shrinks -> mean and largest difference that the docstring of ImageDataset states.
STATED = {2: (1.32, 55), 3: (0.86, 18), 4: (1.60, 35), 6: (1.15, 19), 8: (2.20, 41)}


@pytest.mark.parametrize('factor', STATED)
def test_photographs_differ_as_stated(tmp_path, factor):
    means, largest = [], []
    for name in SHIPPED:
        with Image.open(find_photo('scikit-image', name)) as image:
            path = save(image.convert('RGB'), tmp_path / 'a.jpg', quality=90)
        transform = ResizeShortSide(int(min(image.size) / factor))
        error = difference(load_resized(path, transform), transform(load_rgb(path)))
        means.append(error.mean())
        largest.append(error.max())
    mean, most = STATED[factor]
    assert abs(np.mean(means) - mean) < 0.05
    assert abs(max(largest) - most) <= 3


@pytest.mark.parametrize(('size', 'expected'), [
    (76, []), (75, [2]), (38, [2]), (37, [4]), (19, [4]), (18, [8]), (3, [8])])
def test_it_decodes_as_small_as_will_do(tmp_path, reduced, size, expected):
    path = save(smooth(), tmp_path / 'a.jpg')
    assert min(load_resized(path, ResizeShortSide(size)).size) == size
    assert reduced == expected


@pytest.mark.parametrize('size', [(200, 150), (203, 157), (199, 151), (150, 211)])
def test_geometry_is_exact_where_sides_do_not_divide(tmp_path, reduced, size):
    path = save(smooth(*size), tmp_path / 'a.jpg', subsampling=0)
    for edge in (64, 30, 15):
        transform = ResizeShortSide(edge)
        assert difference(load_resized(path, transform), transform(load_rgb(path))).mean() < 0.7  # a pixel is 2 to 17
    assert reduced == [2, 4, 8]


@pytest.mark.parametrize('seed', range(8))
def test_a_random_crop_is_of_the_same_region(tmp_path, reduced, seed):
    path = save(smooth(403, 301), tmp_path / 'a.jpg', subsampling=0)
    transform = RandomCrop(32, scale=(0.15, 0.9))
    with seeded(seed):
        exact = transform(load_rgb(path))
    with seeded(seed):
        quick = load_resized(path, transform)
    assert difference(quick, exact).mean() < 0.7


@pytest.mark.parametrize('options', [{}, {'subsampling': 0}, {'progressive': True}, {'keep_rgb': True}])
def test_pixels_are_libjpegs_own(tmp_path, options):
    noise = np.random.default_rng(0).integers(0, 256, (75, 101, 3), dtype=np.uint8)
    data = save(Image.fromarray(noise), tmp_path / 'a.jpg', **options).read_bytes()
    for reduction in reduced_jpeg.REDUCTIONS:
        with Image.open(io.BytesIO(data)) as image:
            image.draft('RGB', (101 // reduction, 75 // reduction))
            assert difference(reduced_jpeg._decode(data, (101, 75), reduction), image).max() <= 1


def orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


UNUSUAL = {
    'grey': lambda path: save(smooth(mode='L'), path),
    'CMYK': lambda path: save(smooth(mode='CMYK'), path),
    'turned': lambda path: save(smooth(), path, exif=orientation(6)),
    'mirrored': lambda path: save(smooth(), path, exif=orientation(2)),
    'orientation 0': lambda path: save(smooth(), path, exif=orientation(0)),
    'turned by XMP': lambda path: with_xmp(save(smooth(), path), b'<x tiff:Orientation="6"/>'),
    'several pictures': lambda path: smooth().save(path, 'MPO', save_all=True, append_images=[smooth()]),
    'bytes after the end': lambda path: save(smooth(), path) and path.open('ab').write(b'more'),
    'png': lambda path: smooth().save(path, 'PNG'),
    'alpha': lambda path: smooth(mode='LA').save(path, 'PNG'),
    'small': lambda path: save(smooth(38, 50), path),
    'hardly shrunk': lambda path: save(smooth(79, 90), path)}


@pytest.mark.parametrize('kind', UNUSUAL)
def test_whatever_is_unusual_takes_the_exact_path(tmp_path, reduced, kind):
    path = tmp_path / 'a.jpg'
    UNUSUAL[kind](path)
    for transform in (RESIZE, RandomCrop(40, scale=(0.1, 0.2)) if kind not in ('small', 'hardly shrunk') else RESIZE):
        with seeded(1):
            exact = transform(load_rgb(path))
        with seeded(1):
            assert difference(load_resized(path, transform), exact).max() == 0
    assert reduced == []


def test_an_exif_orientation_of_upright_is_usual(tmp_path, reduced):
    load_resized(save(smooth(), tmp_path / 'a.jpg', exif=orientation(1)), RESIZE)
    assert reduced == [2]


def test_what_opencv_refuses_takes_the_exact_path_in_the_same_region(tmp_path, monkeypatch):
    path = save(smooth(), tmp_path / 'a.jpg')
    transform = RandomCrop(20, scale=(0.2, 0.4))
    with seeded(1):
        exact = transform(load_rgb(path))
    monkeypatch.setattr(reduced_jpeg, '_decode', lambda data, size, reduction: None)
    with seeded(1):
        assert difference(load_resized(path, transform), exact).max() == 0
    assert reduced_jpeg.import_cv2()
    monkeypatch.undo()
    assert reduced_jpeg._decode(b'no picture', (20, 15), 2) is None
    assert reduced_jpeg._decode(path.read_bytes(), (300, 150), 2) is None


def bad_files(folder):
    """Files that cannot be read, each in its own way."""
    whole = save(smooth(), folder / 'whole.jpg').read_bytes()
    for share in (0.02, 0.3, 0.6, 0.99):
        (folder / f'cut_{share}.jpg').write_bytes(whole[:int(len(whole) * share)])
    (folder / 'empty.jpg').touch()
    (folder / 'text.jpg').write_text('text')
    (folder / 'two.jpg').write_bytes(b'\xff\xd8')
    (folder / 'link.jpg').symlink_to('nothing.jpg')
    (folder / 'folder.jpg').mkdir()
    (folder / 'header.jpg').write_bytes(whole[:400] + b'\xff\xd9')
    return sorted(path.name for path in folder.iterdir())


def test_bad_files_are_the_same_with_the_same_reasons(tmp_path):
    class Names(ImageDataset):
        names = bad_files(tmp_path)

        def __len__(self):
            return len(self.names)

        def path(self, index):
            return self.names[index]

    exact, quick = (
        [sample.bad for sample in Names(tmp_path, [{'type': 'ResizeShortSide', 'size': 40}], 'report', decoder=decoder)]
        for decoder in ('exact', 'fast'))
    assert quick == exact
    assert sum(map(len, exact)) == len(exact) - 1
    assert load_resized(save(smooth(), tmp_path / 'a.jpg'), RESIZE, max_pixels=30_000)
    with pytest.raises(BadImage, match='more than max_pixels=29999'):
        load_resized(tmp_path / 'a.jpg', RESIZE, max_pixels=29_999)


def pipeline(*steps):
    return [{'type': 'ResizeShortSide', 'size': 40}, {'type': 'CenterCrop', 'size': 32}, *steps]


def test_a_dataset_goes_on_with_the_pipeline(tmp_path, reduced):
    save(smooth(), tmp_path / 'a.jpg')
    exact, quick = (ImageFolder(tmp_path, pipeline({'type': 'RandomFlip'}), decoder=decoder)
                    for decoder in ('exact', 'fast'))
    for seed in range(6):
        one, two = exact[SampleKey(0, 0, seed)], quick[SampleKey(0, 0, seed)]
        assert two.image.shape == (3, 32, 32)
        assert (one.image.int() - two.image.int()).abs().float().mean() < 1
    assert set(reduced) == {2}


def test_evaluation_refuses_it(tmp_path):
    save(smooth(), tmp_path / 'a.jpg')
    dataset = {'type': 'ImageFolder', 'data_root': str(tmp_path), 'pipeline': pipeline(), 'decoder': 'fast'}
    mixed = {'type': 'MixedDataset', 'sources': {'one': {'weight': 1, 'dataset': dataset}}}
    for cfg in (dataset, mixed):
        with pytest.raises(SettingError, match="evaluation needs decoder='exact'"):
            build_dataloader({'batch_size': 1, 'dataset': cfg}, training=False)
        batch = next(iter(build_dataloader({'batch_size': 1, 'dataset': cfg}, training=True)))
        assert batch.images.shape == (1, 3, 32, 32)


def test_settings_that_cannot_work(tmp_path):
    save(smooth(), tmp_path / 'a.jpg')
    for steps in ([], [{'type': 'CenterCrop', 'size': 4}], [{'type': 'RandomFlip'}, *pipeline()]):
        with pytest.raises(SettingError, match='begin the pipeline with ResizeShortSide'):
            ImageFolder(tmp_path, steps, decoder='fast')
    with pytest.raises(SettingError, match='use only one'):
        ImageFolder(tmp_path, pipeline(), decoder='fast', cache_mib=1)
    with pytest.raises(SettingError, match='exact.*fast'):
        ImageFolder(tmp_path, pipeline(), decoder='quick')

    class Own(ImageFolder):
        def load(self, index):
            return smooth()

    with pytest.raises(SettingError, match='Own.load decodes them itself; override read'):
        Own(tmp_path, pipeline(), decoder='fast')


def test_without_opencv_the_message_says_how_to_get_it(tmp_path, monkeypatch):
    save(smooth(), tmp_path / 'a.jpg')
    monkeypatch.setitem(sys.modules, 'cv2', None)
    assert len(ImageFolder(tmp_path, pipeline())) == 1
    with pytest.raises(ImportError, match='apt-get install libgl1.*opencv-python-headless'):
        ImageFolder(tmp_path, pipeline(), decoder='fast')
