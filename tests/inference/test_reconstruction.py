import numpy as np
import pytest
import torch
from PIL import Image

from wfvae_toolkit.datasets import fixed_pipeline, open_images
from wfvae_toolkit.inference import Reconstructor
from wfvae_toolkit.inference.reconstruction import PictureFormat, format_of, plan_outputs, reconstruct_files
from wfvae_toolkit.utils.errors import NotFinite, SettingError


class Inverter:
    """A stand-in for a Reconstructor: the negative."""

    def reconstruct(self, images, names):
        return -images


@pytest.fixture
def pictures(tmp_path):
    """A folder with a.png, deep/b.jpg and deep/c.PNG, of different sizes."""
    folder = tmp_path / 'pictures'
    (folder / 'deep/er').mkdir(parents=True)
    for number, name in enumerate(['a.png', 'deep/b.jpg', 'deep/er/c.PNG']):
        pixels = np.random.default_rng(number).integers(0, 256, (20 + number, 30 - number, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file())


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert('RGB'))


def run(data, output, picture_format=None, pipeline=(), **options):
    picture_format = picture_format or PictureFormat()
    dataset = open_images(data, pipeline)
    planned = plan_outputs(dataset, output, f'.{picture_format.name}', **options)
    return reconstruct_files(Inverter(), dataset, planned, picture_format, options.get('beside', False))


def test_a_folder_keeps_its_tree_and_every_size(pictures, tmp_path):
    assert run(pictures, tmp_path / 'out') == []
    assert files(tmp_path / 'out') == ['a.png', 'deep/b.png', 'deep/er/c.png']
    for name, made in [('a.png', 'a.png'), ('deep/b.jpg', 'deep/b.png'), ('deep/er/c.PNG', 'deep/er/c.png')]:
        np.testing.assert_array_equal(pixels(tmp_path / 'out' / made), 255 - pixels(pictures / name))


def test_beside_writes_what_the_model_saw(pictures, tmp_path):
    run(pictures, tmp_path / 'out', pipeline=fixed_pipeline(16, 12), beside=True, max_images=1)
    assert files(tmp_path / 'out') == ['a.original.png', 'a.png']
    original = pixels(tmp_path / 'out/a.original.png')
    assert original.shape == (12, 12, 3)
    np.testing.assert_array_equal(pixels(tmp_path / 'out/a.png'), 255 - original)


def test_a_manifest_names_the_pictures(pictures, tmp_path):
    (pictures / 'list.jsonl').write_text('{"path": "deep/b.jpg"}\n{"path": "deep/../a.png"}\n')
    run(pictures / 'list.jsonl', tmp_path / 'out')
    assert files(tmp_path / 'out') == ['a.png', 'deep/b.png']


@pytest.mark.parametrize(('output', 'written'), [
    ('made.png', 'made.png'), ('made.webp', 'made.webp'), ('made.JPG', 'made.JPG'), ('folder', 'folder/a.png')])
def test_one_picture_becomes_a_file_or_goes_into_a_folder(pictures, tmp_path, output, written):
    (tmp_path / 'out').mkdir()
    run(pictures / 'a.png', tmp_path / 'out' / output, format_of(output))
    assert files(tmp_path / 'out') == [written]
    with Image.open(tmp_path / 'out' / written) as image:
        assert image.format == {'webp': 'WEBP', 'JPG': 'JPEG'}.get(output.rpartition('.')[2], 'PNG')


@pytest.mark.parametrize('name', ['webp', 'jpg'])
def test_quality_decides_size_and_error(tmp_path, name):
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    results = []
    for quality in (20, None, 100):
        PictureFormat(name, quality).write(picture, tmp_path / 'picture')
        error = np.abs(pixels(tmp_path / 'picture').astype(int) - picture).mean()
        results.append((error, -(tmp_path / 'picture').stat().st_size))
    assert results == sorted(results, reverse=True)
    assert len(set(results)) == 3


@pytest.mark.parametrize(('name', 'quality'), [('png', 90), ('jpg', 0), ('webp', 101), ('gif', None)])
def test_formats_that_cannot_be_are_refused(name, quality):
    with pytest.raises(SettingError):
        PictureFormat(name, quality)


def test_a_suffix_that_contradicts_the_format_is_refused():
    with pytest.raises(SettingError, match='suffix .webp'):
        format_of('out.png', 'webp')
    assert format_of('out.jpeg', 'jpg').name == format_of('out.jpeg').name == 'jpg'
    assert format_of('folder.v2', 'webp').name == 'webp'


def test_two_pictures_of_one_name_are_refused_before_anything_is_written(pictures, tmp_path):
    Image.new('RGB', (8, 8)).save(pictures / 'a.webp')
    with pytest.raises(SettingError, match=r'a\.png and a\.webp would both become .*a\.png'):
        run(pictures, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_the_copy_of_an_original_counts_as_an_output(pictures, tmp_path):
    Image.new('RGB', (8, 8)).save(pictures / 'a.original.png')
    with pytest.raises(SettingError, match=r'a\.original\.png and a\.png would both|a\.png and a\.original'):
        run(pictures, tmp_path / 'out', beside=True)
    run(pictures, tmp_path / 'out')


@pytest.mark.parametrize('existing', ['error', 'replace'])
def test_originals_are_never_overwritten(pictures, existing):
    before = pixels(pictures / 'a.png')
    for output in (pictures / 'a.png', pictures):
        with pytest.raises(SettingError, match='would overwrite the picture'):
            run(pictures / 'a.png', output, existing=existing)
    for output in (pictures, pictures / 'deep/../out'):
        with pytest.raises(SettingError, match='lies in .*pictures'):
            run(pictures, output, existing=existing)
    np.testing.assert_array_equal(pixels(pictures / 'a.png'), before)


def test_existing_outputs_stop_are_kept_or_replaced(pictures, tmp_path):
    out = tmp_path / 'out'
    (out / 'deep').mkdir(parents=True)
    (out / 'deep/b.png').write_bytes(b'mine')
    with pytest.raises(SettingError, match='1 outputs are there already, such as .*b.png: --existing skip'):
        run(pictures, out)
    assert files(out) == ['deep/b.png']
    run(pictures, out, existing='skip')
    assert files(out) == ['a.png', 'deep/b.png', 'deep/er/c.png']
    assert (out / 'deep/b.png').read_bytes() == b'mine'
    assert run(pictures, out, existing='skip') == []
    run(pictures, out, existing='replace')
    np.testing.assert_array_equal(pixels(out / 'deep/b.png'), 255 - pixels(pictures / 'deep/b.jpg'))


def test_bad_files_are_named_and_the_others_written(pictures, tmp_path):
    (pictures / 'deep/b.jpg').write_bytes((pictures / 'deep/b.jpg').read_bytes()[:100])
    bad, = run(pictures, tmp_path / 'out')
    assert bad.path == 'deep/b.jpg'
    assert bad.reason
    assert files(tmp_path / 'out') == ['a.png', 'deep/er/c.png']


def test_reconstruction_is_rounded_and_clamped(tmp_path):
    class Fixed:
        def reconstruct(self, images, names):
            return torch.tensor([-1.5, 0.0, 1.5])[None, :, None, None].expand(images.shape)

    Image.new('RGB', (4, 5)).save(tmp_path / 'in.png')
    dataset = open_images(tmp_path / 'in.png')
    reconstruct_files(Fixed(), dataset, plan_outputs(dataset, tmp_path / 'out.png', '.png'), PictureFormat())
    assert set(map(tuple, pixels(tmp_path / 'out.png').reshape(-1, 3).tolist())) == {(0, 128, 255)}


def test_nothing_is_written_for_a_picture_without_numbers_and_those_before_it_stay(
        make_model, overflow_float16, pictures, tmp_path):
    class White(Reconstructor):
        def reconstruct(self, images, names):
            # White alone overflows: a network of which single pictures are too much.
            return super().reconstruct(images, names) if images.min() == 1 else -images

    Image.new('RGB', (24, 24), 'white').save(pictures / 'deep/b.jpg')
    model = White(overflow_float16(make_model().autoencoder), device='cpu', dtype=torch.float16)
    dataset = open_images(pictures)
    planned = plan_outputs(dataset, tmp_path / 'out', '.png')
    with pytest.raises(NotFinite, match=r'^deep/b\.jpg: the encoder gave NaN or infinity in float16'):
        reconstruct_files(model, dataset, planned, PictureFormat(), beside=True)
    assert files(tmp_path / 'out') == ['a.original.png', 'a.png']
