"""Extra fields of a sample: masks follow their picture, and everything reaches the batch in its order."""

import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image

from wfvae_toolkit.datasets import ImageDataset, ImageManifest, Mask, SampleKey, build_dataloader, collate_training
from wfvae_toolkit.datasets.extras import map_tensors
from wfvae_toolkit.datasets.transforms import CenterCrop
from wfvae_toolkit.registry import DATASETS
from wfvae_toolkit.utils.errors import SettingError

CROPS = {
    'centre': [dict(type='CenterCrop', size=16)],
    'resized': [dict(type='ResizeShortSide', size=20), dict(type='CenterCrop', size=16)],
    'enlarged': [dict(type='CenterCrop', size=48)],
    'random': [dict(type='RandomCrop', size=16), dict(type='RandomFlip')],
    'random scale': [dict(type='RandomCrop', size=16, scale=(0.4, 1)), dict(type='RandomFlip')]}


def halves(width=40, height=32):
    """A picture whose left part, 3/8 of it, is white and the rest black."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, :width * 3 // 8] = 255
    return Image.fromarray(pixels)


@DATASETS.register_module()
class WithFields(ImageDataset):
    """Pictures that are given, with fields that are given: dicts, or a callable of the index."""

    def __init__(self, pictures, fields, **options):
        super().__init__(**options)
        self.pictures, self.fields = pictures, fields

    def __len__(self):
        return len(self.pictures)

    def read(self, index):
        return self.pictures[index]

    def extras(self, index):
        return self.fields(index) if callable(self.fields) else self.fields[index]


class Darker:
    moves_pixels = False

    def __call__(self, image):
        return image.point(lambda value: value // 2)


class Turned:
    def __call__(self, image):
        return image.transpose(Image.Transpose.ROTATE_90)


@pytest.mark.parametrize('pipeline', CROPS.values(), ids=CROPS)
@pytest.mark.parametrize('seed', range(6))
def test_a_mask_is_cropped_flipped_and_resized_with_its_picture(pipeline, seed):
    mask = halves().convert('L')
    plain = WithFields([halves()], [{}], pipeline=pipeline)[SampleKey(0, 0, seed)]
    sample = WithFields([halves()], [dict(mask=Mask(mask))], pipeline=pipeline)[SampleKey(0, 0, seed)]
    assert torch.equal(sample.image, plain.image)
    assert sample.upsampled == plain.upsampled
    found = sample.extras['mask']
    assert found.shape == (1, *sample.image.shape[1:])
    assert found.dtype == torch.uint8
    assert set(found.unique().tolist()) <= {0, 255}  # nearest pixel: no value between two labels
    # The edge of the mask is the edge of the picture, which bicubic resizing has at half of its height.
    assert torch.equal(found[0] > 127, sample.image[0] > 127)


def test_fast_decoding_cuts_the_same_mask(tmp_path):
    halves(400, 320).save(tmp_path / 'a.jpg', quality=95)
    pipeline = [dict(type='RandomCrop', size=32, scale=(0.2, 0.4)), dict(type='RandomFlip')]
    for seed in range(4):
        exact, fast = (WithFields([tmp_path / 'a.jpg'], [dict(mask=Mask(halves(400, 320).convert('L')))],
                                  pipeline=pipeline, decoder=decoder)[SampleKey(0, 0, seed)]
                       for decoder in ('exact', 'fast'))
        assert torch.equal(exact.extras['mask'], fast.extras['mask'])


@pytest.mark.parametrize('decoder', ['exact', 'fast'])
def test_a_mask_that_does_not_fit_is_a_bad_file(tmp_path, decoder):
    halves(400, 320).save(tmp_path / 'a.jpg')
    dataset = WithFields([tmp_path / 'a.jpg'] * 5, [
        dict(mask=Mask(halves(40, 32).convert('L'))), dict(mask=Mask(halves(400, 320))),
        dict(mask=Mask(tmp_path / 'none.png')), dict(mask=Mask(b'text')),
        dict(mask=Mask(halves(400, 320).convert('L')))],
        pipeline=[dict(type='ResizeShortSide', size=20)], decoder=decoder)
    sample = dataset[SampleKey(0, 0, 0)]
    assert sample.index == 4
    assert sample.extras['mask'].shape == sample.image[:1].shape
    size, mode, missing, text = (bad.reason for bad in sample.bad)
    assert size == 'mask: a mask of 40x32 px for a picture of 400x320 px'
    assert mode.startswith('mask: a mask of mode RGB; one channel')
    assert missing == 'mask: missing'
    assert text.startswith('mask: not an image')


def test_a_mask_keeps_labels_and_is_turned_upright(tmp_path):
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    palette = Image.fromarray(labels).convert('P')
    palette.putpalette([255 - value for value in range(256) for _ in range(3)])
    palette.save(tmp_path / 'labels.png')
    bits = Image.fromarray(labels > 5)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(labels).save(tmp_path / 'turned.png', exif=exif)
    picture = Image.new('RGB', (4, 3))
    kept, black_and_white = WithFields([picture] * 2, [
        dict(mask=Mask(tmp_path / 'labels.png')), dict(mask=Mask(bits))])
    np.testing.assert_array_equal(kept.extras['mask'][0], labels)
    np.testing.assert_array_equal(black_and_white.extras['mask'][0], 255 * (labels > 5))
    turned, = WithFields([Image.new('RGB', (3, 4))], [dict(mask=Mask(tmp_path / 'turned.png'))])
    np.testing.assert_array_equal(turned.extras['mask'][0], np.rot90(labels, -1))


def test_an_own_transform_says_how_it_acts_on_a_mask():
    mask = dict(mask=Mask(halves(16, 16).convert('L')))
    sample = WithFields([halves(16, 16)], [mask], pipeline=[dict(type=Darker)])[0]
    assert torch.equal(sample.extras['mask'][0], sample.image[0] * 2 + sample.image[0] % 2)
    with pytest.raises(SettingError, match=r"Turned does not say what becomes of the mask 'mask': .*moves_pixels"):
        WithFields([halves(16, 16)], [mask], pipeline=[dict(type=Turned)])[0]
    assert WithFields([halves(16, 8)], [{}], pipeline=[dict(type=Turned)])[0].image.shape == (3, 16, 8)


def test_a_child_that_overrides_call_alone_would_leave_the_mask_behind():
    class TurnedCrop(CenterCrop):
        def __call__(self, image):
            return super().__call__(image).transpose(Image.Transpose.ROTATE_90)

    row = dict(type=TurnedCrop, size=16)
    with pytest.raises(SettingError, match='TurnedCrop overrides __call__, and .* with_masks: override'):
        WithFields([halves()], [dict(mask=Mask(halves().convert('L')))], pipeline=[row])[0]
    assert WithFields([halves()], [{}], pipeline=[row])[0].image.shape == (3, 16, 16)


def fields(index):
    return dict(caption=f'number {index}', rank=np.int64(index), share=index / 4, vector=[index, 2.5],
                tokens=np.arange(3) + index, mask=Mask(Image.new('L', (8, 8), index)))


def test_a_training_batch_has_a_row_per_picture():
    dataset = WithFields([Image.new('RGB', (8, 8))] * 4, fields)
    extras = collate_training([dataset[index] for index in (2, 0)]).extras
    assert extras['caption'] == ['number 2', 'number 0']
    assert extras['rank'].tolist() == [2, 0]
    assert extras['share'].tolist() == [0.5, 0]
    assert extras['vector'].tolist() == [[2, 2.5], [0, 2.5]]
    assert extras['tokens'].tolist() == [[2, 3, 4], [0, 1, 2]]
    assert extras['mask'].shape == (2, 1, 8, 8)
    assert extras['mask'][:, 0, 0, 0].tolist() == [2, 0]


@pytest.mark.filterwarnings('ignore:This DataLoader will create')  # PyTorch's, on machines with few cores
@pytest.mark.parametrize('workers', [0, 1])
def test_two_ranks_together_have_the_extras_of_one_process(workers):
    dataset = dict(type='WithFields', pictures=[Image.new('RGB', (8, 8))] * 7, fields=fields)

    def take(batch_size, **share):
        cfg = dict(batch_size=batch_size, num_workers=workers, dataset=dataset)
        return list(itertools.islice(build_dataloader(cfg, training=True, seed=3, **share), 4))

    parts = [take(2, rank=rank, world_size=2) for rank in range(2)]
    for whole, *shares in zip(take(4), *parts, strict=True):
        assert whole.extras['rank'].tolist() == whole.indices
        rows = {position: (part.extras['caption'][row], part.extras['mask'][row]) for part in shares
                for row, position in enumerate(part.positions)}
        assert [rows[position][0] for position in whole.positions] == whole.extras['caption']
        assert torch.equal(torch.stack([rows[position][1] for position in whole.positions]), whole.extras['mask'])


def test_evaluation_groups_them_by_size():
    sizes = [(8, 8), (8, 8), (6, 4)]
    dataset = dict(type='WithFields', pictures=[Image.new('RGB', size) for size in sizes],
                   fields=lambda index: dict(mask=Mask(Image.new('L', sizes[index], index)), caption=str(index)))
    batch, = build_dataloader(dict(batch_size=3, dataset=dataset), training=False)
    first, second = batch.groups()
    assert first.extras['mask'].shape == (2, 1, 8, 8)
    assert second.extras['mask'].tolist() == [[[[2] * 6] * 4]]
    assert (first.extras['caption'], second.extras['caption']) == (['0', '1'], ['2'])


@pytest.mark.parametrize(('one', 'two', 'message'), [
    (dict(a=1), dict(b=1), r"0 has the extra fields \['a'\] and 1 \['b'\]"),
    (dict(a=1), {}, r"0 has the extra fields \['a'\] and 1 \[\]"),
    (dict(a=1), dict(a='x'), "field 'a': 0 has a number and 1 a string"),
    (dict(a=[1, 2]), dict(a=[1, 2, 3]), r'shape \(2,\) and 1 torch.int64 of shape \(3,\)'),
    (dict(a=None), dict(a=1), "'a': None is NoneType; use a Mask, a number")])
def test_fields_that_differ_are_named(one, two, message):
    with pytest.raises(SettingError, match=message):
        collate_training(list(WithFields([Image.new('RGB', (8, 8))] * 2, [one, two])))


@pytest.fixture
def manifest(tmp_path):
    """Three pictures, each with a mask of its own value and a caption."""
    with open(tmp_path / 'list.jsonl', 'w') as file:
        for number in range(3):
            Image.new('RGB', (8, 8), (number,) * 3).save(tmp_path / f'{number}.png')
            Image.new('L', (8, 8), number).save(tmp_path / f'{number}_mask.png')
            row = dict(path=f'{number}.png', mask=f'{number}_mask.png', caption=f'number {number}', scores=[number, 1])
            file.write(json.dumps(row) + '\n')
    return tmp_path / 'list.jsonl'


def test_a_manifest_names_masks_and_captions(manifest):
    dataset = ImageManifest(manifest, mask_keys=['mask'], extra_keys=['caption', 'scores'])
    assert dataset.has_extras
    for number, sample in enumerate(dataset):
        assert sample.extras['mask'].unique().tolist() == [number]
        assert sample.extras['caption'] == f'number {number}'
        assert sample.extras['scores'].tolist() == [number, 1]
    assert not ImageManifest(manifest).has_extras
    assert ImageManifest(manifest)[0].extras == {}


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(mask_keys=['masks']), r"list.jsonl, line 1: lacks the key 'masks', which mask_keys"),
    (dict(mask_keys=['scores']), 'line 1: scores is .*, not the path of a picture'),
    (dict(mask_keys='mask'), r"mask_keys='mask': use a list of keys"),
    (dict(extra_keys=['path']), 'name each key once, and none of image_path, path'),
    (dict(mask_keys=['mask'], extra_keys=['mask']), 'name each key once')])
def test_wrong_keys_of_a_manifest_stop_the_start(manifest, settings, message):
    with pytest.raises(SettingError, match=message):
        ImageManifest(manifest, **settings)


def test_a_mask_outside_of_the_manifests_folder_needs_leave(manifest):
    manifest.write_text('{"path": "0.png", "mask": "../mask.png"}\n')
    with pytest.raises(SettingError, match='line 1: .*allow_outside=True'):
        ImageManifest(manifest, mask_keys=['mask'])


def test_a_mixture_gives_what_its_sources_give(manifest):
    source = dict(weight=1, dataset=dict(type='ImageManifest', data_root=str(manifest), extra_keys=['caption']))
    mixed = DATASETS.build(dict(type='MixedDataset', sources=dict(one=source, two=source)))
    assert mixed.has_extras
    assert mixed[4].extras == dict(caption='number 1')


def test_a_batch_is_kept_as_data_alone(tmp_path):
    """As `save_post_mortem` does."""
    dataset = WithFields([Image.new('RGB', (8, 8))] * 4, fields)
    extras = collate_training(list(dataset)).extras
    torch.save(extras, tmp_path / 'extras.pth')
    kept = torch.load(tmp_path / 'extras.pth', weights_only=True)
    assert kept['caption'] == extras['caption']
    assert torch.equal(kept['mask'], extras['mask'])


def test_tensors_are_moved_wherever_they_are():
    extras = dict(stacked=torch.ones(2), listed=[torch.ones(1), torch.ones(2)], text=['a', 'b'])
    moved = map_tensors(torch.Tensor.double, extras)
    assert [tensor.dtype for tensor in (moved['stacked'], *moved['listed'])] == [torch.float64] * 3
    assert moved['text'] == ['a', 'b']
    assert extras['listed'][0].dtype == torch.float32
