import json
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from run_files import read_csv

from wfvae_toolkit.registry import MODELS
from wfvae_toolkit.utils.config import load_config

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / 'tests/data/configs/tiny.py'
SHIPPED = sorted(path for folder in ('configs', 'configs/ablations') for path in (ROOT / folder).glob('*.py'))
# What would download weights, or takes long to start and is not looked at here.
QUIET = {'default_hooks.curves': None, 'default_hooks.pictures': None}


def child_config(folder, text):
    path = folder / 'child.py'
    path.write_text(f'_base_ = {str(TINY)!r}\n{text}', encoding='utf-8')
    return path


# a run from start to end

@pytest.fixture(scope='module')
def finished(tmp_path_factory, launch, photos):
    """(work dir, CompletedProcess) of 7 iterations of tiny.py, started as a user does."""
    work_dir = tmp_path_factory.mktemp('finished')
    done = launch(sys.executable, 'tools/train.py', TINY, '--work-dir', work_dir, '--cfg-options',
                  f'train_dataloader.dataset.data_root={photos}/train',
                  f'val_dataloader.dataset.data_root={photos}/val', 'train_cfg.max_iters=7',
                  'visualizer.vis_backends=[{"type":"TensorboardVisBackend"}]')
    return work_dir, done


def test_checkpoints_are_there_and_the_last_one_is_named(finished):
    work_dir, _ = finished
    assert {path.name for path in work_dir.glob('*.pth')} == {'iter_3.pth', 'iter_6.pth', 'iter_7.pth',
                                                              'best_PSNR.pth'}
    assert (work_dir / 'last_checkpoint').read_text().strip() == 'iter_7.pth'
    checkpoint = torch.load(work_dir / 'iter_7.pth', weights_only=True)
    assert (checkpoint['meta']['iteration'], checkpoint['meta']['consumed']) == (7, 14)
    assert not list(work_dir.glob('.*part'))


def test_both_networks_were_trained(finished):
    first, last = (torch.load(finished[0] / f'iter_{n}.pth', weights_only=True)['state_dict'] for n in (3, 7))
    assert first.keys() == last.keys()
    for network in ('autoencoder.encoder.', 'autoencoder.decoder.', 'discriminator.'):
        weights = [key for key in first if key.startswith(network) and key.endswith(('weight', 'weight_orig'))]
        assert weights
        assert not any(torch.equal(first[key], last[key]) for key in weights)


def test_rows_are_at_the_logged_iterations_in_every_file(finished):
    work_dir, _ = finished
    rows = [json.loads(line) for line in (work_dir / 'log.jsonl').read_text().splitlines()]
    logged = {phase: [row['iteration'] for row in rows if row['phase'] == phase] for phase in ('train', 'val')}
    assert logged == {'train': [2, 4, 6, 7], 'val': [3, 6, 7]}
    for phase, iterations in logged.items():
        table = read_csv(work_dir / f'{phase}.csv')
        assert [int(row['iteration']) for row in table] == iterations
        for row, line in zip((row for row in rows if row['phase'] == phase), table, strict=True):
            for name, value in row.items():
                assert name == 'phase' or float(line[name]) == value
    validation = [row for row in rows if row['phase'] == 'val']
    assert all({'PSNR', 'SSIM', 'raw/PSNR', 'raw/SSIM'} <= row.keys() for row in validation)
    # Iteration 7 is number 6, the autoencoder's: its row has no discriminator loss.
    assert not read_csv(work_dir / 'train.csv')[-1]['discriminator']


def test_pictures_curves_and_tensorboard_events_are_there(finished):
    work_dir, _ = finished
    assert sorted(path.name for path in (work_dir / 'pictures').iterdir()) == ['iter_3.png', 'iter_6.png',
                                                                               'iter_7.png']
    with Image.open(work_dir / 'pictures/iter_7.png') as picture:
        # Input, reconstruction, error, patch scores over the first two; 2 images.
        assert picture.size == (5 * 32 + 4 * 4, 2 * 32 + 4)
    with Image.open(work_dir / 'curves.png') as picture:
        assert len(picture.convert('L').getcolors(256)) > 10
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events, = work_dir.rglob('events.out.tfevents.*')
    board = EventAccumulator(str(events)).Reload()
    recorded = {row['iteration']: row for row in map(json.loads, (work_dir / 'log.jsonl').open())
                if row['phase'] == 'val'}
    assert {event.step: event.value for event in board.Scalars('val/PSNR')} == pytest.approx(
        {iteration: row['PSNR'] for iteration, row in recorded.items()})
    assert len(board.Images('val/input_reconstruction_error')) == 3


def test_log_starts_with_what_repeats_the_run(finished):
    work_dir, done = finished
    text = done.stdout + done.stderr
    for part in ('seed: 0', 'packages: torch ', 'training images: 9', 'encoder: ', 'max_iters', 'ETA '):
        assert part in text
    # The whole config stands in the run's folder.
    config, = work_dir.glob('*.py')
    assert "type='WaveletFlowLoss'" in config.read_text(encoding='utf-8')


def test_resuming_a_finished_run_says_so_and_changes_nothing(finished, train, capsys):
    work_dir, _ = finished
    before = {path.name: path.read_bytes() for path in work_dir.glob('*.pth')}
    train('tiny', work_dir, '--resume', **{'train_cfg.max_iters': 7})
    said = ''.join(capsys.readouterr())
    assert 'nothing to do: 7 of 7 iterations are done' in said
    assert {path.name: path.read_bytes() for path in work_dir.glob('*.pth')} == before
    assert [row['iteration'] for row in read_csv(work_dir / 'train.csv')] == ['2', '4', '6', '7']


def test_resuming_with_nothing_there_says_so_and_starts_at_0(train, tmp_path, capsys):
    train('tiny', tmp_path, '--resume', **{'train_cfg.max_iters': 2, **QUIET})
    assert f'--resume: no checkpoint in {tmp_path}, starting at iteration 0' in ''.join(capsys.readouterr())
    assert (tmp_path / 'iter_2.pth').is_file()


def test_training_again_from_the_start_gives_the_same_weights(finished, train, photos, tmp_path):
    train('tiny', tmp_path, **{'train_cfg.max_iters': 7, **QUIET})
    first, again = (torch.load(folder / 'iter_7.pth', weights_only=True)['state_dict']
                    for folder in (finished[0], tmp_path))
    # Another process with another number of threads may sum in another order. Softmax does not see a key's bias: its
    # gradient is rounding noise, which AdamW turns into full steps.
    for key, value in first.items():
        if not key.endswith('key.bias'):
            torch.testing.assert_close(again[key], value, rtol=1e-3, atol=1e-4)


# configs

def test_child_removes_a_loss_and_swaps_norm_and_wavelet(train, tmp_path):
    config = child_config(tmp_path, (
        'model = dict(\n'
        "    autoencoder=dict(norm=dict(_delete_=True, type='GroupNorm', groups=4),\n"
        "                     wavelet=dict(_delete_=True, type='DiscreteWavelet', name='db2')),\n"
        '    losses=dict(wavelet=None))\n'))
    assert len(config.read_text().splitlines()) < 10
    train(config, tmp_path, **{'train_cfg.max_iters': 3, 'default_hooks.logger.interval': 1, **QUIET})
    row = read_csv(tmp_path / 'train.csv')[0]
    assert {'pixel', 'kl'} <= row.keys()
    assert 'wavelet' not in row
    checkpoint = torch.load(tmp_path / 'iter_3.pth', weights_only=True)
    described = json.loads(checkpoint['meta']['autoencoder'])
    assert (described['norm'], described['wavelet']) == (dict(type='GroupNorm', groups=4),
                                                         dict(type='DiscreteWavelet', name='db2'))


@pytest.mark.parametrize('max_iters', [1, 3])
@pytest.mark.parametrize('decay', ['constant', 'cosine'])
def test_any_length_fits_schedules_that_were_made_for_a_longer_run(train, tmp_path, max_iters, decay):
    train('tiny', tmp_path, **{
        'train_cfg.max_iters': max_iters, 'train_cfg.val_interval': 1000, 'default_hooks.logger.interval': 1,
        'default_hooks.checkpoint.interval': 1000, 'default_hooks.learning_rate.warmup_iters': 1000,
        'default_hooks.learning_rate.decay': decay, 'default_hooks.discriminator.start_iter': 1000, **QUIET})
    rates = [float(row['learning_rate/autoencoder']) for row in read_csv(tmp_path / 'train.csv')]
    assert len(rates) == max_iters
    assert all(0 < rate <= 1e-3 for rate in rates)
    assert (tmp_path / f'iter_{max_iters}.pth').is_file()
    assert [row['iteration'] for row in read_csv(tmp_path / 'val.csv')] == [str(max_iters)]


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.relative_to(ROOT / 'configs').as_posix())
def test_shipped_config_loads_and_its_model_builds(path):
    cfg = load_config(path)
    assert load_config_text(cfg.pretty_text) == cfg._cfg_dict.to_dict()
    if cfg.model.losses.get('perceptual') is not None:  # LPIPS would need a download
        cfg.model.losses.perceptual = dict(type='STLPIPSLoss')
    with torch.device('meta'):  # shapes without numbers: a hundred million take seconds to draw
        model = MODELS.build(cfg.model)
    assert type(model.autoencoder).__name__ == cfg.model.autoencoder.type
    assert set(model.losses) == {name for name, row in cfg.model.losses.items() if row is not None}


def load_config_text(text):
    """What a printed config says, as plain data."""
    from mmengine.config import Config

    return Config.fromstring(text, '.py')._cfg_dict.to_dict()


def test_a_second_launch_reads_settings_from_the_command_line(train, tmp_path):
    train('tiny', tmp_path, **{
        'train_cfg.max_iters': 1, 'model.losses.wavelet': None, 'model.losses.kl.weight': 0.0,
        'model.losses.extra': dict(type='L2Loss', weight=2.0), **QUIET})
    row, = read_csv(tmp_path / 'train.csv')
    assert 'wavelet' not in row
    assert float(row['loss']) == pytest.approx(float(row['pixel']) + 2.0 * float(row['extra']), rel=1e-6)


# errors

@pytest.mark.parametrize(('option', 'nearest'), [
    ('train_cfg.max_iter=5', 'train_cfg.max_iters'),
    ('model.losses.kl.wieght=1', 'model.losses.kl.weight'),
    ('model.autoencoder.latent_chanels=4', 'model.autoencoder.latent_channels'),
    ('default_hooks.checkpoint.intervall=4', 'default_hooks.checkpoint.interval'),
    ('train_dataloader.dataset.data_rot=x', 'train_dataloader.dataset.data_root'),
    ('trian_cfg.max_iters=5', 'train_cfg'),
])
def test_mistyped_option_names_the_nearest_key(tool, tmp_path, option, nearest):
    with pytest.raises(SystemExit) as exit_:
        tool('train')(TINY, '--work-dir', tmp_path / 'run', '--cfg-options', option)
    assert exit_.value.code.startswith(f'error: --cfg-options {option.partition("=")[0]}: ')
    assert exit_.value.code.endswith(f'did you mean {nearest}?')
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(('options', 'message'), [
    ({'train_dataloader.dataset.data_root': 'nowhere'},
     "there is no folder 'nowhere': set train_dataloader.dataset.data_root"),
    ({'val_dataloader.dataset.data_root': 'nowhere'},
     "there is no folder 'nowhere': set val_dataloader.dataset.data_root"),
    ({'train_cfg.max_iters': 0}, 'train_cfg.max_iters=0: a positive integer is needed'),
    ({'model.autoencoder.norm': dict(type='GropNorm')}, "did you mean 'GroupNorm'?"),
    ({'model.discriminator': None}, 'losses.adversarial needs model.discriminator'),
    ({'default_hooks.ema.decay': 2}, 'EMAHook: decay=2'),
])
def test_a_wrong_setting_is_one_line(train, tmp_path, options, message):
    with pytest.raises(SystemExit) as exit_:
        train('tiny', tmp_path, **options)
    assert message in exit_.value.code
    assert len(exit_.value.code.splitlines()) == 1


def test_a_wrong_setting_ends_the_process_without_a_traceback(launch, tmp_path):
    done = launch(sys.executable, 'tools/train.py', 'no_such_config.py', check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == 'error: no config file no_such_config.py'
    assert launch(sys.executable, 'tools/train.py', 'wfvae2_demo.py', check=False).stderr.strip() == (
        'error: no config file wfvae2_demo.py; there is wfvae_toolkit::wfvae2_demo.py')


def test_a_bug_keeps_its_traceback(train, tmp_path, monkeypatch):
    monkeypatch.setattr('wfvae_toolkit.training.loops.mix_seed', lambda *words: {}['a bug'])
    with pytest.raises(KeyError, match='a bug'):
        train('tiny', tmp_path)


# bad files

def test_bad_files_are_written_down_and_training_goes_on(train, photos, tmp_path):
    data = tmp_path / 'data'
    data.mkdir()
    for path in (photos / 'train').iterdir():
        (data / path.name).write_bytes(path.read_bytes())
    whole = (data / '00.png').read_bytes()
    (data / '00.png').write_bytes(whole[:len(whole) // 2])
    (data / 'empty.png').touch()
    (data / 'words.jpg').write_text('no picture')
    work_dir = tmp_path / 'run'
    options = {'train_dataloader.dataset.data_root': data, 'train_cfg.max_iters': 8, **QUIET}
    train('tiny', work_dir, **options)
    bad = [json.loads(line) for line in (work_dir / 'bad_files.jsonl').read_text().splitlines()]
    assert sorted(line['path'] for line in bad) == ['00.png', 'empty.png', 'words.jpg']
    assert all(line['reason'] for line in bad)
    assert (work_dir / 'iter_8.pth').is_file()
    with pytest.raises(SystemExit, match='repair or remove the files, or raise max_bad_files'):
        train('tiny', tmp_path / 'strict', **options, **{'train_cfg.max_bad_files': 2})


@pytest.mark.parametrize(('lines', 'arguments', 'expected'), [
    ('', [], (False, [], 'none')),
    ("resume = True\nresume_drop = ['optimizers']\n", [], (True, ['optimizers'], 'none')),
    ('resume = True\n', ['--resume', 'a.pth'], ('a.pth', [], 'none')),
])
def test_a_config_may_say_what_the_command_line_does(tool, tmp_path, monkeypatch, lines, arguments, expected):
    from wfvae_toolkit.training import TrainingRunner

    class Stop(Exception):
        pass

    def from_cfg(cfg):
        assert (cfg.resume, cfg.resume_drop, cfg.launcher) == expected
        raise Stop

    monkeypatch.setattr(TrainingRunner, 'from_cfg', from_cfg)
    (tmp_path / 'config.py').write_text(f"_base_ = 'wfvae_toolkit::wfvae2_demo.py'\n{lines}")
    with pytest.raises(Stop):
        tool('train')(str(tmp_path / 'config.py'), *arguments)
