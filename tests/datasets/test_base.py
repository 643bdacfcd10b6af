import pickle
import random

import numpy as np
import pytest
import torch
from PIL import Image

from wfvae_toolkit.datasets import (
    BadFile,
    BadImage,
    ImageDataset,
    SampleError,
    SampleKey,
    build_dataloader,
    evaluation_key,
)
from wfvae_toolkit.registry import DATASETS
from wfvae_toolkit.utils.errors import SettingError


class Squares(ImageDataset):
    """Grey squares in memory; the indices in ``bad`` cannot be read."""

    def __init__(self, length=5, bad=(), **options):
        super().__init__(**options)
        self.length = length
        self.bad = bad

    def __len__(self):
        return self.length

    def load(self, index):
        if index in self.bad:
            raise BadImage(None, f'cause {index}')
        return Image.new('L', (8, 8), index)


class Noise:
    """A transform that draws from every global generator."""

    def __call__(self, image):
        values = torch.randint(256, (8, 8, 3)).numpy() + np.random.randint(256) + random.randrange(256)  # noqa: NPY002
        return Image.fromarray(values.astype(np.uint8))


class Broken:
    def __call__(self, image):
        raise KeyError('what')


class Grey:
    def __call__(self, image):
        return image.convert('L')


def test_a_sample_from_a_folder(tmp_path):
    class Names(ImageDataset):
        def __len__(self):
            return 1

        def path(self, index):
            return 'sub/a.png'

    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    (tmp_path / 'sub').mkdir()
    Image.fromarray(pixels).save(tmp_path / 'sub/a.png')
    sample = Names(tmp_path)[SampleKey(0, 41, 9)]
    assert sample.image.dtype == torch.uint8
    assert sample.image.is_contiguous()
    np.testing.assert_array_equal(sample.image.permute(1, 2, 0), pixels)
    assert (sample.path, sample.index, sample.position, sample.seed) == ('sub/a.png', 0, 41, 9)
    assert (sample.bad, sample.upsampled) == ((), False)


class Sources(ImageDataset):
    """Gives what it was made from: paths, bytes or pictures; a callable is called."""

    def __init__(self, *sources, **options):
        super().__init__(**options)
        self.sources = sources

    def __len__(self):
        return len(self.sources)

    def read(self, index):
        source = self.sources[index]
        return source() if callable(source) else source


class Old(Sources):
    """The contract of version 0.1: `load` gives a PIL image."""

    def load(self, index):
        return Image.open(self.sources[index])


@pytest.fixture
def turned(tmp_path):
    """A JPEG of 100x60 px that EXIF turns by 90 degrees, with a damaged colour profile."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (60, 100, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'turned.jpg', exif=exif, icc_profile=b'no profile')
    return tmp_path / 'turned.jpg'


def test_paths_bytes_and_pictures_are_read_by_the_same_rules(turned):
    with Image.open(turned) as picture:
        path, content, decoded = Sources(turned, turned.read_bytes(), picture)
    old, = Old(turned)
    assert path.image.shape == (3, 100, 60)
    assert 'ignored' in path.profile
    for sample in (content, decoded, old):
        assert torch.equal(sample.image, path.image)
        assert sample.profile == path.profile


def test_a_fault_is_a_bad_file_whatever_gives_the_picture(turned):
    whole = turned.read_bytes()
    turned.write_bytes(whole[:len(whole) // 2])
    half = turned.read_bytes()

    def unreadable():
        raise PermissionError(13, 'Permission denied')

    samples = list(Sources(turned, half, Image.open(turned), b'', b'text', unreadable,
                           (turned.parent / 'nothing').read_bytes, Image.new('L', (90, 90)), max_pixels=6000,
                           on_bad='report'))
    reasons = [sample.bad[0].reason for sample in [*samples, *Old(turned, on_bad='report')]]
    for reason in (*reasons[:3], reasons[-1]):
        assert 'truncated' in reason
    assert reasons[3] == 'zero bytes'
    assert reasons[4].startswith('not an image')
    assert reasons[5:7] == ['Permission denied', 'missing']
    assert reasons[7].startswith('90x90 px, more than max_pixels=6000')


def test_what_is_no_picture_names_the_sample():
    with pytest.raises(SampleError, match='sample 0 .*None is not a picture: use a path, the bytes of a file'):
        Sources(None)[0]


def test_fast_decoding_reads_bytes_and_refuses_decoded_pictures(turned, tmp_path):
    Image.open(turned).resize((64, 48)).save(tmp_path / 'large.jpg')
    options = dict(pipeline=[{'type': 'ResizeShortSide', 'size': 16}], decoder='fast')
    one, two = Sources(tmp_path / 'large.jpg', (tmp_path / 'large.jpg').read_bytes(), **options)
    assert torch.equal(one.image, two.image)
    with pytest.raises(SettingError, match='Sources.read gives decoded pictures'):
        Sources(Image.new('RGB', (64, 64)), **options)[0]


def test_an_index_is_an_evaluation_key():
    sample = Squares()[np.int64(3)]
    assert (sample.index, sample.position, sample.seed) == evaluation_key(3)
    assert sample.image.unique().tolist() == [3]  # grey became RGB
    assert sample.image.shape == (3, 8, 8)
    assert len(list(Squares())) == 5
    for index in (-1, 5):
        with pytest.raises(IndexError, match='there are 5'):
            Squares()[index]


def test_randomness_is_a_function_of_the_seed_alone():
    dataset = Squares(pipeline=[{'type': Noise}])
    first = dataset[SampleKey(0, 0, 77)].image
    torch.rand(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    assert torch.equal(dataset[SampleKey(2, 5, 77)].image, first)
    assert not torch.equal(dataset[SampleKey(0, 0, 78)].image, first)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert random.getstate() == before[2]


def test_substitutes_are_the_next_good_files():
    dataset = Squares(bad=(0, 3, 4), pipeline=[{'type': 'RandomFlip'}])
    for _ in range(2):
        sample = dataset[SampleKey(3, 10, 1)]
        assert (sample.index, sample.path, sample.position, sample.seed) == (1, '1', 10, 1)
        assert sample.image.unique().tolist() == [1]
        assert sample.bad == (BadFile('3', 'cause 3'), BadFile('4', 'cause 4'), BadFile('0', 'cause 0'))
    assert dataset[1].bad == ()
    with pytest.raises(RuntimeError, match='none of the 5 files can be used; the first: 2: cause 2'):
        Squares(bad=range(5))[2]


def test_report_never_substitutes():
    sample = Squares(bad=(3,), on_bad='report')[3]
    assert sample.image is None
    assert (sample.index, sample.path, sample.bad) == (3, '3', (BadFile('3', 'cause 3'),))


def test_too_small_is_counted_dropped_or_names_the_sample():
    def pipeline(**options):
        return [{'type': 'CenterCrop', 'size': 16, **options}, {'type': 'RandomFlip', 'probability': 1}]

    sample = Squares(pipeline=pipeline())[0]
    assert sample.upsampled
    assert sample.image.shape == (3, 16, 16)
    assert not Squares(pipeline=[{'type': 'CenterCrop', 'size': 4}])[0].upsampled
    dropped = Squares(pipeline=pipeline(too_small='drop'), on_bad='report')[1]
    assert dropped.image is None
    assert dropped.bad == (BadFile('1', 'too small: 8x8 px, CenterCrop needs 16 on the short side'),)
    with pytest.raises(SettingError, match=r'^2: 8x8 px, CenterCrop needs 16 .*: use larger pictures'):
        Squares(pipeline=pipeline(too_small='error'))[2]


def test_errors_name_the_sample():
    with pytest.raises(SampleError, match=r'sample 2 \(2\) at position 9: KeyError') as caught:
        Squares(pipeline=[{'type': Broken}])[SampleKey(2, 9, 0)]
    assert isinstance(caught.value.__cause__, KeyError)
    assert 'position 9' in str(pickle.loads(pickle.dumps(caught.value)))
    with pytest.raises(SampleError, match='not a PIL image in RGB'):
        Squares(pipeline=[{'type': Grey}])[0]


def test_a_pipeline_names_what_exists():
    with pytest.raises(KeyError, match="did you mean 'CenterCrop'"):
        Squares(pipeline=[{'type': 'CentreCrop', 'size': 4}])
    with pytest.raises(TypeError, match='its settings are'):
        Squares(pipeline=[{'type': 'CenterCrop', 'sizes': 4}])


def test_a_dataset_of_another_kind_is_told_what_it_lacks():
    @DATASETS.register_module()
    class Foreign(torch.utils.data.Dataset):
        def __len__(self):
            return 1

    with pytest.raises(SettingError, match='Foreign lacks path, order, crop_size, prepare_evaluation: derive it from'):
        build_dataloader(dict(batch_size=1, dataset=dict(type='Foreign')), training=True)
