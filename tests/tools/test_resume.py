import gc
import json
import sys
from pathlib import Path

import pytest
import torch
from run_files import assert_equal_state, assert_same_run, read_csv
from run_probes import Interrupted

from tests.short_runs import BASE, LENGTH, RESUME, STOP, stop
from wfvae_toolkit.datasets import ImageFolder

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / 'tests/data/configs/tiny.py'


# one process

CASES = {
    'discriminator before the stop': {},
    'discriminator after the stop': {'default_hooks.discriminator.start_iter': 6},
    'discriminator at the stop': {'default_hooks.discriminator.start_iter': STOP},
    'accumulation': {'train_cfg.accumulation': 2},
    'cosine': {'default_hooks.learning_rate.decay': 'cosine'},
    'one row': {'default_hooks.logger.interval': LENGTH},
    'row at the stop': {'default_hooks.logger.interval': STOP},
    'validation at the stop': {'train_cfg.val_interval': STOP},
    'bf16': {'model.precision': 'bf16'},
    'no discriminator': {'model.losses.adversarial': None},
    'no average': {'default_hooks.ema': None},
    'dropout': {'model.autoencoder.dropout': 0.3},
    'workers': {'train_dataloader.num_workers': 2, 'train_cfg.accumulation': 2,
                'default_hooks.learning_rate.decay': 'cosine'},
    'joint': {'model.turns': 'joint', 'train_cfg.accumulation': 2, 'train_dataloader.num_workers': 2},
    'joint, discriminator after the stop': {'model.turns': 'joint', 'default_hooks.discriminator.start_iter': 6},
}


QUICK = {'discriminator before the stop', 'discriminator after the stop', 'workers', 'joint'}


@pytest.mark.parametrize('options', [
    pytest.param(case, id=name, marks=[] if name in QUICK else [pytest.mark.slow]) for name, case in CASES.items()])
def test_stopped_and_resumed_equals_uninterrupted(train, tmp_path, options):
    options = {**BASE, **options}
    train('tiny', tmp_path / 'whole', **options)
    train('tiny', tmp_path / 'stopped', **options, **stop())
    assert not (tmp_path / f'stopped/iter_{LENGTH}.pth').exists()
    train('tiny', tmp_path / 'stopped', *RESUME, **options)
    assert_same_run(tmp_path / 'stopped', tmp_path / 'whole', LENGTH)


def test_a_checkpoint_holds_all_that_changes(train, tmp_path):
    """So that equal checkpoints mean equal runs: the comparison above would not miss what no file holds."""
    train('tiny', tmp_path, **BASE)
    first, last = (torch.load(tmp_path / f'iter_{n}.pth', weights_only=True) for n in (STOP, LENGTH))
    assert first.pop('hub_window') == {}  # of hooks that use MMEngine's message hub
    assert first.pop('number_window') == {}  # of hooks that call runner.log_number
    assert {'state_dict', 'ema_state_dict', 'optimizers', 'meta', 'best', 'log_window'} == first.keys()
    for part in first:
        with pytest.raises(AssertionError):
            assert_equal_state(first[part], last[part])
    assert first['optimizers'].keys() == {'autoencoder', 'discriminator'}


@pytest.mark.parametrize('where', ['before the validation', 'before the best'])
def test_ended_between_checkpoint_and_scores(train, tmp_path, where):
    """The checkpoint of an iteration is older than its scores, and these than the file of the best."""
    # Weights that stay have equal scores: the first remains the best.
    options = {**BASE, 'train_cfg.val_interval': STOP, 'default_hooks.pictures.count': 1,
               'optim_wrapper.autoencoder.optimizer.lr': 0.0}
    probe = dict(type='run_probes.StopAt', iteration=STOP, how='raise')
    if where == 'before the best':
        probe = dict(type='run_probes.StopAtScores', iteration=STOP)
    del options['default_hooks.pictures']
    train('tiny', tmp_path / 'whole', **options)
    with pytest.raises(Interrupted):
        train('tiny', tmp_path / 'stopped', **options, custom_hooks=[probe])
    assert (tmp_path / f'stopped/iter_{STOP}.pth').exists()
    assert not (tmp_path / 'stopped/best_PSNR.pth').exists()
    assert (tmp_path / 'stopped/val.csv').exists() == (where == 'before the best')
    train('tiny', tmp_path / 'stopped', '--resume', **options)
    assert_same_run(tmp_path / 'stopped', tmp_path / 'whole', LENGTH)
    best = [torch.load(tmp_path / f'{run}/best_PSNR.pth', weights_only=True) for run in ('stopped', 'whole')]
    assert best[0]['meta']['iteration'] == STOP
    assert_equal_state(*best)
    assert (tmp_path / f'stopped/pictures/iter_{STOP}.png').read_bytes() == (
        tmp_path / f'whole/pictures/iter_{STOP}.png').read_bytes()


def test_no_batch_is_read_to_skip_those_of_the_past(train, tmp_path, monkeypatch):
    """Neither is an image opened that the resumed iterations do not show."""
    options = {**BASE, 'train_cfg.max_iters': 40, 'train_cfg.val_interval': 1000,
               'default_hooks.checkpoint.interval': 38}
    train('tiny', tmp_path, **options, **stop(iteration=38))
    opened, load = [], ImageFolder.load
    monkeypatch.setattr(ImageFolder, 'load', lambda self, index: opened.append(index) or load(self, index))
    train('tiny', tmp_path, *RESUME, **{**options, 'val_dataloader': None, 'val_cfg': None, 'val_evaluator': None})
    assert len(opened) == (40 - 38) * 2


@pytest.mark.parametrize('decay', ['constant', 'cosine'])
def test_a_finished_run_goes_on_to_a_larger_end(train, tmp_path, capsys, decay):
    options = {**BASE, 'default_hooks.learning_rate.decay': decay, 'default_hooks.logger.interval': 5,
               'train_cfg.val_interval': 5}
    train('tiny', tmp_path / 'whole', **options)
    train('tiny', tmp_path / 'longer', **{**options, 'train_cfg.max_iters': STOP})
    capsys.readouterr()
    train('tiny', tmp_path / 'longer', '--resume', **options)
    said = 'this will not equal a run of 9 from the start' in ''.join(capsys.readouterr())
    assert said == (decay == 'cosine')
    if decay == 'constant':
        assert_same_run(tmp_path / 'longer', tmp_path / 'whole', LENGTH)


@pytest.mark.parametrize('workers', [0, 2])
def test_crashed_and_resumed_equals_uninterrupted(train, tmp_path, workers):
    """What the crashed run wrote after its last checkpoint is redone, not doubled."""
    options = {**BASE, 'default_hooks.logger.interval': 1, 'train_dataloader.num_workers': workers}
    train('tiny', tmp_path / 'whole', **options)
    with pytest.raises(Interrupted):
        train('tiny', tmp_path / 'stopped', **options, **stop('raise', STOP + 3))
    gc.collect()  # of the loader's workers, which would wait for 5 s each if left to a later moment
    assert [int(row['iteration']) for row in read_csv(tmp_path / 'stopped/train.csv')][-1] == STOP + 3
    train('tiny', tmp_path / 'stopped', '--resume', **options)
    assert_same_run(tmp_path / 'stopped', tmp_path / 'whole', LENGTH)


def test_resumed_twice_on_the_way_equals_uninterrupted(train, tmp_path):
    options = {**BASE, 'default_hooks.checkpoint.interval': 2, 'train_cfg.val_interval': 2}
    train('tiny', tmp_path / 'whole', **options)
    for number in (2, 6):
        train('tiny', tmp_path / 'stopped', *RESUME, **options, **stop(iteration=number))
    train('tiny', tmp_path / 'stopped', *RESUME, **options)
    assert_same_run(tmp_path / 'stopped', tmp_path / 'whole', LENGTH)
    best = [torch.load(tmp_path / f'{run}/best_PSNR.pth', weights_only=True) for run in ('stopped', 'whole')]
    assert_equal_state(*best)


def test_best_checkpoint_is_not_replaced_by_a_worse_one(train, tmp_path):
    """A checkpoint is older than the validation at its own iteration; resuming must know that score all the same."""
    options = {**BASE, 'default_hooks.checkpoint.interval': 4, 'optim_wrapper.autoencoder.optimizer.lr': 0.0}
    train('tiny', tmp_path, **options, **stop(iteration=4))
    train('tiny', tmp_path, *RESUME, **options)  # equal weights, equal scores: never better
    assert torch.load(tmp_path / 'best_PSNR.pth', weights_only=True)['meta']['iteration'] == 4


def test_killed_process_resumes(train, launch, photos, tmp_path):
    """As the machine would end it, without a word."""
    options = {**BASE, 'train_dataloader.dataset.data_root': photos / 'train',
               'val_dataloader.dataset.data_root': photos / 'val'}
    done = launch(sys.executable, 'tools/train.py', TINY, '--work-dir', tmp_path / 'stopped', '--cfg-options',
                  *(f'{key}={value}' for key, value in {**options, **stop('SIGKILL', STOP + 1)}.items()), check=False)
    assert done.returncode == -9
    assert not (tmp_path / f'stopped/iter_{LENGTH}.pth').exists()
    train('tiny', tmp_path / 'stopped', '--resume', **options)
    rows = [int(row['iteration']) for row in read_csv(tmp_path / 'stopped/train.csv')]
    assert rows == [3, 6, 9]


# what cannot be resumed as it stands

@pytest.fixture
def stopped(train, tmp_path):
    """A run with iter_2, iter_4 and iter_6."""
    train('tiny', tmp_path, **{**BASE, 'train_cfg.max_iters': 6, 'default_hooks.checkpoint.interval': 2})
    return tmp_path


@pytest.mark.parametrize('damage', [
    lambda content: content[:len(content) // 2], lambda content: b'', lambda content: b'no checkpoint',
    lambda content: content[:90_000] + bytes([content[90_000] ^ 1]) + content[90_001:],
], ids=['half', 'empty', 'another file', 'one bit'])
def test_damaged_newest_checkpoint_falls_back_to_the_one_before(train, stopped, tmp_path, capsys, damage):
    newest = stopped / 'iter_6.pth'
    newest.write_bytes(damage(newest.read_bytes()))
    capsys.readouterr()
    train('tiny', stopped, '--resume', **{**BASE, 'train_cfg.max_iters': 7, 'default_hooks.checkpoint.interval': 2})
    said = ''.join(capsys.readouterr())
    assert f'{newest}: damaged or not a checkpoint' in said or f'{newest}: refused' in said
    assert 'trying the checkpoint before' in said
    assert f'resumed from {stopped}/iter_4.pth at iteration 4 of 7' in said
    assert torch.load(newest, weights_only=True)['meta']['iteration'] == 6


def test_all_checkpoints_damaged_is_an_error_and_no_new_start(train, stopped):
    for path in stopped.glob('iter_*.pth'):
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SystemExit, match='none of its 3 checkpoints can be read'):
        train('tiny', stopped, '--resume', **BASE)


def test_an_early_stop_is_said_and_stays(train, tmp_path, capsys):
    """Whether a checkpoint was written at its iteration already or not."""
    for iteration in (STOP, STOP - 1):
        folder = tmp_path / str(iteration)
        train('tiny', folder, **BASE, **stop(iteration=iteration))
        said = f'stopped early by StopAt after iteration {iteration} of {LENGTH}; --resume does not train on from here'
        assert said in ''.join(capsys.readouterr())
        train('tiny', folder, '--resume', **BASE)
        assert said in ''.join(capsys.readouterr())
        assert [path.name for path in folder.glob('iter_*.pth')] == [f'iter_{iteration}.pth']
        train('tiny', folder, '--resume', '--resume-drop', 'early_stop', **BASE)
        again = ''.join(capsys.readouterr())
        assert f'at iteration {iteration} of {LENGTH}, without its early stop' in again
        assert 'stopped early' not in again
        assert torch.load(folder / f'iter_{LENGTH}.pth', weights_only=True)['meta']['early_stop'] is None


def test_named_checkpoint_goes_on_elsewhere(train, stopped, tmp_path):
    options = {**BASE, 'train_cfg.max_iters': 6, 'default_hooks.checkpoint.interval': 2}
    train('tiny', tmp_path / 'other', '--resume', stopped / 'iter_4.pth', **options)
    there, here = (torch.load(folder / 'iter_6.pth', weights_only=True) for folder in (stopped, tmp_path / 'other'))
    for part in ('state_dict', 'ema_state_dict', 'optimizers', 'meta', 'log_window'):
        assert_equal_state(here[part], there[part], part)
    with pytest.raises(SystemExit, match='iter_99.pth: no such file'):
        train('tiny', tmp_path / 'third', '--resume', stopped / 'iter_99.pth', **options)


def test_a_shorter_run_in_the_same_folder_keeps_its_checkpoints(train, stopped):
    train('tiny', stopped, **{**BASE, 'train_cfg.max_iters': 1, 'default_hooks.checkpoint.max_keep_ckpts': 1})
    assert (stopped / 'last_checkpoint').read_text().strip() == 'iter_1.pth'
    aside, = stopped.glob('before_*')
    assert sorted(path.name for path in aside.glob('iter_*.pth')) == ['iter_2.pth', 'iter_4.pth', 'iter_6.pth']


# two processes

RANKS = {
    'plain': {},
    'joint, accumulation': {'model.turns': 'joint', 'train_cfg.accumulation': 2},
    'joint, workers, discriminator after the stop': {
        'model.turns': 'joint', 'train_dataloader.num_workers': 2, 'default_hooks.discriminator.start_iter': 6},
    'accumulation, workers': {'train_cfg.accumulation': 2, 'train_dataloader.num_workers': 2},
    'discriminator after the stop': {'default_hooks.discriminator.start_iter': 6},
    'cosine, one row': {'default_hooks.learning_rate.decay': 'cosine', 'default_hooks.logger.interval': LENGTH},
}


# The others run through the launcher, among the slow tests.
QUICK_RANKS = ('plain', 'joint, workers, discriminator after the stop')


def three_runs(folder, photos, options):
    """Arguments of tools/train.py for a whole run, a stopped one and its continuation."""
    options = {**BASE, 'train_dataloader.dataset.data_root': photos / 'train',
               'val_dataloader.dataset.data_root': photos / 'val', **options}
    for number, (name, resume, more) in enumerate([('whole', [], {}), ('stopped', [], stop()),
                                                   ('stopped', [*RESUME], {})]):
        rows = {**options, **more, 'experiment_name': f'run_{folder.name}_{number}'}
        yield [str(TINY), '--work-dir', str(folder / name), *resume,
               '--cfg-options', *(f'{key}={value}' for key, value in rows.items())]


@pytest.fixture(scope='module')
def resumed_on_two_ranks(launch, photos, tmp_path_factory):
    """A folder with the three runs of each case of QUICK_RANKS, numbered."""
    folder = tmp_path_factory.mktemp('ranks')
    runs = [run for number, case in enumerate(QUICK_RANKS)
            for run in three_runs(folder / str(number), photos, RANKS[case])]
    (folder / 'runs.json').write_text(json.dumps(runs), encoding='utf-8')
    launch('tools/launch.sh', 2, 'tests/data/plugins/several_runs.py', folder / 'runs.json')
    return folder


@pytest.mark.slow
@pytest.mark.parametrize('case', QUICK_RANKS)
def test_two_ranks_stopped_and_resumed_equal_uninterrupted(resumed_on_two_ranks, case):
    folder = resumed_on_two_ranks / str(QUICK_RANKS.index(case))
    assert_same_run(folder / 'stopped', folder / 'whole', LENGTH)
    consumed = torch.load(folder / f'whole/iter_{LENGTH}.pth', weights_only=True)['meta']['consumed']
    assert consumed == LENGTH * 2 * 2 * RANKS[case].get('train_cfg.accumulation', 1)


@pytest.mark.slow
@pytest.mark.parametrize('case', RANKS)
def test_two_ranks_resume_through_the_launcher(launch, photos, tmp_path, case):
    for config, *arguments in three_runs(tmp_path, photos, RANKS[case]):
        launch('tools/dist_train.sh', config, 2, *arguments)
    assert_same_run(tmp_path / 'stopped', tmp_path / 'whole', LENGTH)


@pytest.mark.slow
def test_another_number_of_ranks_goes_on_at_the_same_place(train, launch, photos, tmp_path):
    options = {**BASE, 'train_dataloader.batch_size': 4}
    train('tiny', tmp_path / 'whole', **options)
    train('tiny', tmp_path / 'stopped', **options, **stop())
    rows = {**options, 'train_dataloader.batch_size': 2, 'train_dataloader.dataset.data_root': photos / 'train',
            'val_dataloader.dataset.data_root': photos / 'val'}
    launch('tools/dist_train.sh', TINY, 2, '--work-dir', tmp_path / 'stopped', *RESUME, '--cfg-options',
           *(f'{key}={value}' for key, value in rows.items()))
    whole, resumed = (torch.load(tmp_path / run / f'iter_{LENGTH}.pth', weights_only=True)
                      for run in ('whole', 'stopped'))
    for name in ('iteration', 'consumed', 'skipped'):
        assert resumed['meta'][name] == whole['meta'][name]
    # Other images would differ by 1e-2; only the order of float32 sums does.
    for part in ('state_dict', 'ema_state_dict'):
        first, second = (torch.cat([value.double().flatten() for key, value in sorted(state[part].items())
                                    if not key.endswith('key.bias')]) for state in (whole, resumed))
        assert (first - second).norm() <= 1e-5 * first.norm()


def test_a_folder_that_cannot_be_made_is_named(train, tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(SystemExit, match=f'error: work_dir {tmp_path}/file/run: cannot be made: Not a directory'):
        train('tiny', tmp_path / 'file' / 'run', **BASE)


def test_unfinished_files_of_a_killed_run_are_removed(train, stopped):
    (stopped / '.iter_8.pth.0123.part').write_bytes(b'half')
    train('tiny', stopped, '--resume', **{**BASE, 'train_cfg.max_iters': 6})
    assert not list(stopped.glob('.*.part'))
