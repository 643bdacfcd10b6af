import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from run_files import read_csv

from tests import tolerances

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / 'tests/data/configs/tiny.py'
LENGTH = 20  # 10 updates of each turn
LR = 1e-3
OPTIONS = {
    'train_cfg.max_iters': LENGTH, 'train_cfg.accumulation': 2, 'train_cfg.val_interval': LENGTH,
    'optim_wrapper.autoencoder.optimizer.lr': LR, 'optim_wrapper.discriminator.optimizer.lr': LR,
    'default_hooks.discriminator.start_iter': 0, 'default_hooks.logger.interval': 5,
    'default_hooks.curves': None, 'default_hooks.pictures': None,
    # A row that runs the autoencoder again: its gradient enters the one backward pass that DDP reduces.
    'model.losses.again': dict(type='run_probes.MirroredLoss', weight=0.1),
    # What else is random, or keeps a state, or differentiates twice.
    'model.latent_transforms': [dict(type='NoisyLatents', max_std=0.1)],
    'model.discriminator_augmentation': dict(type='DiffAugment'),
    'model.losses.r1': dict(type='R1Penalty', weight=0.1), 'model.losses.r2': dict(type='R2Penalty', weight=0.1),
    'model.losses.lecam': dict(type='LeCamLoss', weight=0.01),
    'model.losses.kl.balance': ('pixel',), 'model.losses.kl.balance_at': 'encoder.conv_out',
    # A row that needs an extra field of the samples.
    'model.losses.masked': dict(type='MaskedL1Loss'),
    'train_dataloader.dataset.type': 'ImageManifest', 'train_dataloader.dataset.mask_keys': ['mask'],
    'custom_hooks': [dict(type='run_probes.RankRecord')]}


@pytest.fixture(scope='module')
def validation(photos, tmp_path_factory):
    """37 images, a number that 2 ranks cannot share equally."""
    folder = tmp_path_factory.mktemp('validation')
    pictures = [Image.open(path) for path in sorted(photos.rglob('*.png'))]
    for number in range(37):
        picture = pictures[number % len(pictures)].rotate(90 * (number // len(pictures)))
        picture.save(folder / f'{number:02}.png')
    return folder


@pytest.fixture(scope='module')
def masked(photos, tmp_path_factory):
    """A manifest of the training photographs, each with its own mask."""
    folder = tmp_path_factory.mktemp('masked')
    with open(folder / 'list.jsonl', 'w', encoding='utf-8') as file:
        for number, path in enumerate(sorted((photos / 'train').glob('*.png'))):
            Image.open(path).save(folder / path.name)
            Image.linear_gradient('L').resize((32, 32)).rotate(40 * number).save(folder / f'mask_{number}.png')
            file.write(json.dumps({'path': path.name, 'mask': f'mask_{number}.png'}) + '\n')
    return folder / 'list.jsonl'


@pytest.fixture(scope='module')
def runs(train, launch, masked, validation, tmp_path_factory):
    """Folders of the same training on one process and on two ranks, with equal images per update."""
    folder = tmp_path_factory.mktemp('distributed')
    options = {**OPTIONS, 'train_dataloader.dataset.data_root': masked,
               'val_dataloader.dataset.data_root': validation}
    launch('tools/dist_train.sh', TINY, 2, '--work-dir', folder / 'two', '--cfg-options',
           *(f'{key}={value}' for key, value in {**options, 'train_dataloader.batch_size': 2}.items()))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / 'tests/data/plugins')
        train('tiny', folder / 'one', **options, **{'train_dataloader.batch_size': 4})
    return folder


def read_rank(runs, rank, run='two'):
    return json.loads((runs / run / f'rank_{rank}.json').read_text(encoding='utf-8'))


@pytest.mark.parametrize('part', ['autoencoder', 'discriminator', 'losses', 'average'])
def test_two_ranks_train_the_weights_of_one_process(runs, part):
    states = []
    for run in ('one', 'two'):
        checkpoint = torch.load(runs / run / f'iter_{LENGTH}.pth', weights_only=True)
        assert checkpoint['meta']['consumed'] == LENGTH * 2 * 4
        state = checkpoint['ema_state_dict'] if part == 'average' else {
            key: value for key, value in checkpoint['state_dict'].items() if key.startswith(f'{part}.')}
        states.append(torch.cat([value.double().flatten() for value in state.values()]))
    one, two = states
    assert (one - two).norm() <= tolerances.of_training(one, LR, LENGTH / 2)


def test_two_ranks_log_the_losses_of_one_process(runs):
    one, two = (read_csv(runs / run / 'train.csv') for run in ('one', 'two'))
    assert [row['iteration'] for row in two] == ['5', '10', '15', '20']
    for row, expected in zip(two, one, strict=True):
        for name in ('pixel', 'masked', 'kl', 'wavelet', 'adversarial', 'discriminator', 'adaptive_weight',
                     'adaptive_weight/kl', 'r1', 'r2', 'lecam', 'scores/real', 'gradient_norm/autoencoder',
                     'gradient_norm/discriminator'):
            assert float(row[name]) == pytest.approx(float(expected[name]), rel=1e-3, abs=1e-5), name


def test_ranks_see_different_images_and_noise(runs):
    """Otherwise the comparison with one process would prove too little."""
    first, second = (read_rank(runs, rank)['rows'] for rank in (0, 1))
    assert all(a['log']['pixel'] != b['log']['pixel'] for a, b in zip(first, second, strict=True)
               if a['turn'] == 'autoencoder')


def test_adaptive_weight_is_equal_on_both_ranks(runs):
    first, second = ([row['log']['adaptive_weight'] for row in read_rank(runs, rank)['rows']
                      if row['turn'] == 'autoencoder'] for rank in (0, 1))
    assert len(first) == 10
    assert first == second


def test_gradients_are_reduced_once_an_update_in_the_turn_s_network_only(runs):
    record = read_rank(runs, 0)
    assert [row['turn'] for row in record['rows']] == ['autoencoder', 'discriminator'] * 10
    for row in record['rows']:
        # Two micro-batches: twice as many numbers would be an all-reduce in each.
        assert row['reduced'] == {row['turn']: record['sizes'][row['turn']]}
    assert all(not row['reduced'] for row in read_rank(runs, 0, 'one')['rows'])


# evaluation

@pytest.mark.slow
def test_two_ranks_evaluate_like_one_process(runs, tool, launch, validation, tmp_path):
    checkpoint = runs / 'two' / f'iter_{LENGTH}.pth'
    option = f'val_dataloader.dataset.data_root={validation}'
    launch('tools/dist_test.sh', TINY, checkpoint, 2, '--work-dir', tmp_path / 'two', '--cfg-options', option)
    tool('test')(TINY, checkpoint, '--work-dir', tmp_path / 'one', '--cfg-options', option)
    one, two = (read_csv(tmp_path / run / 'metrics.csv') for run in ('one', 'two'))
    assert [row['path'] for row in two] == [f'{number:02}.png' for number in range(37)]
    for row, expected in zip(two, one, strict=True):
        assert row.pop('path') == expected.pop('path')
        assert {name: float(value) for name, value in row.items()} == pytest.approx(
            {name: float(value) for name, value in expected.items()}, abs=1e-6, rel=1e-6)
    first, second = (json.loads((tmp_path / run / 'summary.json').read_text()) for run in ('one', 'two'))
    assert second['images'] == first['images'] == 37
    assert second['metrics']['raw/PSNR'] == pytest.approx(first['metrics']['raw/PSNR'], rel=1e-6)
    pictures = [sorted(path.name for path in (tmp_path / run / 'pictures').iterdir()) for run in ('one', 'two')]
    assert pictures[0] == pictures[1]


@pytest.mark.slow
def test_two_ranks_score_protocols_and_sets_like_one_process(runs, tool, launch, validation, tmp_path):
    features = "features='stlpips-alex')"
    options = [f'val_dataloader.dataset.data_root={validation}', *(
        f"val_evaluator.metrics.{name}=dict(type='{kind}', {features}" for name, kind in (
            ('FD', 'FrechetDistance'), ('KD', 'KernelDistance'), ('PR', 'PrecisionRecall'),
            ('between', 'InterpolatedFrechetDistance')))]
    arguments = [TINY, runs / 'two' / f'iter_{LENGTH}.pth']
    more = ['--no-report', '--pictures', 0, '--protocol', 'ours', 'va-vae', 'rae', '--resolution', 32, '--cfg-options']
    launch('tools/dist_test.sh', *arguments, 2, '--work-dir', tmp_path / 'two', *more, *options)
    tool('test')(*arguments, '--work-dir', tmp_path / 'one', *more, *options)
    for name in ('ours', 'va-vae', 'rae'):
        one, two = (json.loads((tmp_path / run / name / 'summary.json').read_text()) for run in ('one', 'two'))
        assert one['metrics'].keys() == two['metrics'].keys()
        assert {'PSNR', 'FD', 'KD', 'PR.precision', 'between', 'raw/between'} <= one['metrics'].keys()
        for column, entry in one['metrics'].items():
            assert two['metrics'][column]['mean'] == pytest.approx(entry['mean'], rel=1e-6, abs=1e-6), (name, column)
            assert two['metrics'][column].get('images') == entry.get('images')


def test_validation_in_training_counts_every_image_once(runs, tool, validation, tmp_path):
    tool('test')(TINY, runs / 'two', '--work-dir', tmp_path, '--cfg-options',
                 f'val_dataloader.dataset.data_root={validation}')
    metrics = json.loads((tmp_path / 'summary.json').read_text())['metrics']
    row, = read_csv(runs / 'two/val.csv')
    assert int(row['iteration']) == LENGTH
    for name in ('PSNR', 'SSIM', 'raw/PSNR', 'raw/SSIM'):
        assert float(row[name]) == pytest.approx(metrics[name]['mean'], rel=1e-6)


@pytest.mark.slow
def test_a_frozen_encoder_trains_on_two_ranks_with_a_complete_average(launch, photos, tmp_path):
    roots = [f'{split}_dataloader.dataset.data_root={photos / split}' for split in ('train', 'val')]
    launch('tools/dist_train.sh', TINY, 2, '--work-dir', tmp_path, '--cfg-options', *roots,
           'model.freeze=["autoencoder.encoder.*"]', 'train_cfg.max_iters=4')
    checkpoint = torch.load(tmp_path / 'iter_4.pth', weights_only=True)
    state, average = checkpoint['state_dict'], checkpoint['ema_state_dict']
    assert {f'autoencoder.{name}' for name in average} == {name for name in state if name.startswith('autoencoder.')}
    for name, value in average.items():
        same = torch.equal(value, state[f'autoencoder.{name}'])
        assert same or name.startswith('decoder.'), name
    assert not torch.equal(average['decoder.conv_out.weight'], state['autoencoder.decoder.conv_out.weight'])


@pytest.mark.slow
@pytest.mark.parametrize('discriminator', [
    dict(type='UNetDiscriminator', num_layers=1, width=4),
    dict(type='FeatureDiscriminator', features='tests.helpers.TinyMaps', width=4)], ids=lambda row: row['type'])
def test_two_ranks_train_other_discriminators_as_one_process_does(train, launch, photos, validation, tmp_path,
                                                                  discriminator):
    length = 6
    options = {
        'model.discriminator': discriminator, 'model.losses.r1': dict(type='R1Penalty'),
        'model.losses.matching': dict(type='FeatureMatchingLoss'), 'train_cfg.max_iters': length,
        'default_hooks.discriminator.start_iter': 0, 'default_hooks.curves': None, 'default_hooks.pictures': None,
        'val_cfg': None, 'val_dataloader': None, 'val_evaluator': None, 'default_hooks.checkpoint.save_best': None,
        'default_hooks.checkpoint.interval': length, 'optim_wrapper.discriminator.optimizer.lr': LR}
    train('tiny', tmp_path / 'one', **options, **{'train_dataloader.batch_size': 4})
    launch('tools/dist_train.sh', TINY, 2, '--work-dir', tmp_path / 'two', '--cfg-options',
           f'train_dataloader.dataset.data_root={photos / "train"}',
           *(f'{key}={value}' for key, value in options.items()))
    states = [torch.load(tmp_path / run / f'iter_{length}.pth', weights_only=True)['state_dict']
              for run in ('one', 'two')]
    assert states[0].keys() == states[1].keys()
    one, two = (torch.cat([value.double().flatten() for name, value in state.items()
                           if name.startswith('discriminator.')]) for state in states)
    assert (one - two).norm() <= tolerances.of_training(one, LR, length / 2)
