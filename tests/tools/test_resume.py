import csv
import gc
import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / 'tests/data/configs/tiny.py'
# Seconds, memory: true of one run only.
MEASURED = {'seconds_per_iteration', 'images_per_second', 'data_wait_share', 'peak_memory_gib'}
LENGTH, STOP = 9, 5
BASE = {
    'train_cfg.max_iters': LENGTH, 'train_cfg.val_interval': 4, 'default_hooks.checkpoint.interval': STOP,
    # 3 does not divide 5: the stop lies in the middle of a row's window.
    'default_hooks.logger.interval': 3,
    'default_hooks.header': None, 'default_hooks.curves': None, 'default_hooks.pictures': None}


@pytest.fixture(autouse=True)
def _probes(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'tests/data/plugins')


def stop(how='stop', iteration=STOP):
    return {'custom_hooks': [dict(type='run_probes.StopAt', iteration=iteration, how=how)]}


def read_csv(path):
    with open(path, encoding='utf-8', newline='') as file:
        return list(csv.DictReader(file))


def assert_equal_state(a, b, place=''):
    """Bitwise, type by type; names the first place that differs."""
    assert type(a) is type(b), place
    if isinstance(a, dict):
        assert a.keys() == b.keys(), place
        for key in a:
            assert_equal_state(a[key], b[key], f'{place}/{key}')
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), place
        for number, pair in enumerate(zip(a, b, strict=True)):
            assert_equal_state(*pair, f'{place}/{number}')
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), f'{place}: {(a.double() - b.double()).abs().max()}'
    else:
        assert a == b, place


def assert_same_run(resumed, whole, length=LENGTH):
    """Files of a resumed run and of one that was never stopped."""
    states = [torch.load(folder / f'iter_{length}.pth', weights_only=True) for folder in (resumed, whole)]
    assert {'state_dict', 'optimizers', 'meta', 'best', 'log_window'} <= states[0].keys()
    assert_equal_state(*states)
    assert read_csv(resumed / 'val.csv') == read_csv(whole / 'val.csv')
    rows, expected = (
        [{name: value for name, value in row.items() if name not in MEASURED} for row in read_csv(folder / 'train.csv')]
        for folder in (resumed, whole))
    assert rows == expected
    records = [
        [{name: value for name, value in json.loads(line).items() if name not in MEASURED}
         for line in (folder / 'log.jsonl').read_text(encoding='utf-8').splitlines()] for folder in (resumed, whole)]
    assert records[0] == records[1]


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
}


SLOW = {'bf16', 'no discriminator', 'no average', 'row at the stop'}


@pytest.mark.parametrize('options', [
    pytest.param(case, id=name, marks=[pytest.mark.slow] if name in SLOW else []) for name, case in CASES.items()])
def test_stopped_and_resumed_equals_uninterrupted(train, tmp_path, options):
    options = {**BASE, **options}
    train('tiny', tmp_path / 'whole', **options)
    train('tiny', tmp_path / 'stopped', **options, **stop())
    assert not (tmp_path / f'stopped/iter_{LENGTH}.pth').exists()
    train('tiny', tmp_path / 'stopped', '--resume', **options)
    assert_same_run(tmp_path / 'stopped', tmp_path / 'whole')


def test_a_checkpoint_holds_all_that_changes(train, tmp_path):
    """So that equal checkpoints mean equal runs: the comparison above would not miss what no file holds."""
    train('tiny', tmp_path, **BASE)
    first, last = (torch.load(tmp_path / f'iter_{n}.pth', weights_only=True) for n in (STOP, LENGTH))
    assert {'state_dict', 'ema_state_dict', 'optimizers', 'meta', 'best', 'log_window'} == first.keys()
    for part in first:
        with pytest.raises(AssertionError):
            assert_equal_state(first[part], last[part])
    assert first['optimizers'].keys() == {'autoencoder', 'discriminator'}


@pytest.mark.parametrize('workers', [0, 2])
def test_crashed_and_resumed_equals_uninterrupted(train, tmp_path, workers):
    """What the crashed run wrote after its last checkpoint is redone, not doubled."""
    options = {**BASE, 'default_hooks.logger.interval': 1, 'train_dataloader.num_workers': workers}
    train('tiny', tmp_path / 'whole', **options)
    try:
        train('tiny', tmp_path / 'stopped', **options, **stop('raise', STOP + 3))
    except Exception as error:
        crash = type(error).__name__
    assert crash == 'Interrupted'
    gc.collect()  # of the loader's workers, which would wait for 5 s each if left to a later moment
    assert [int(row['iteration']) for row in read_csv(tmp_path / 'stopped/train.csv')][-1] == STOP + 3
    train('tiny', tmp_path / 'stopped', '--resume', **options)
    assert_same_run(tmp_path / 'stopped', tmp_path / 'whole')


def test_resumed_twice_on_the_way_equals_uninterrupted(train, tmp_path):
    options = {**BASE, 'default_hooks.checkpoint.interval': 2, 'train_cfg.val_interval': 2}
    train('tiny', tmp_path / 'whole', **options)
    for number in (2, 6):
        train('tiny', tmp_path / 'stopped', '--resume', **options, **stop(iteration=number))
    train('tiny', tmp_path / 'stopped', '--resume', **options)
    assert_same_run(tmp_path / 'stopped', tmp_path / 'whole')
    best = [torch.load(tmp_path / f'{run}/best_PSNR.pth', weights_only=True) for run in ('stopped', 'whole')]
    assert_equal_state(*best)


def test_best_checkpoint_is_not_replaced_by_a_worse_one(train, tmp_path):
    """A checkpoint is older than the validation at its own iteration; resuming must know that score all the same."""
    options = {**BASE, 'default_hooks.checkpoint.interval': 4, 'optim_wrapper.autoencoder.optimizer.lr': 0.0}
    train('tiny', tmp_path, **options, **stop(iteration=4))
    train('tiny', tmp_path, '--resume', **options)  # equal weights, equal scores: never better
    assert torch.load(tmp_path / 'best_PSNR.pth', weights_only=True)['meta']['iteration'] == 4


def test_killed_process_resumes(train, launch, photos, tmp_path):
    """As the machine would end it, without a word."""
    options = {**BASE, 'train_dataloader.dataset.data_root': photos / 'train',
               'val_dataloader.dataset.data_root': photos / 'val'}
    done = launch(sys.executable, 'tools/train.py', TINY, '--work-dir', tmp_path / 'stopped', '--cfg-options',
                  *(f'{key}={value}' for key, value in {**options, **stop('kill', STOP + 1)}.items()), check=False)
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
    lambda content: content[:len(content) // 2], lambda content: b'', lambda content: b'no checkpoint'],
    ids=['half', 'empty', 'another file'])
def test_damaged_newest_checkpoint_falls_back_to_the_one_before(train, stopped, tmp_path, capsys, damage):
    newest = stopped / 'iter_6.pth'
    newest.write_bytes(damage(newest.read_bytes()))
    capsys.readouterr()
    train('tiny', stopped, '--resume', **{**BASE, 'train_cfg.max_iters': 7, 'default_hooks.checkpoint.interval': 2})
    said = ''.join(capsys.readouterr())
    assert f'{newest}: damaged or no checkpoint' in said or f'{newest}: refused' in said
    assert 'trying the checkpoint before' in said
    assert f'resumed from {stopped}/iter_4.pth at iteration 4 of 7' in said
    assert torch.load(newest, weights_only=True)['meta']['iteration'] == 6


def test_all_checkpoints_damaged_is_an_error_and_no_new_start(train, stopped):
    for path in stopped.glob('iter_*.pth'):
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SystemExit, match='none of its 3 checkpoints can be read'):
        train('tiny', stopped, '--resume', **BASE)


@pytest.mark.parametrize(('option', 'message'), [
    ({'randomness.seed': 1}, 'iter_6.pth: was trained with randomness.seed=0, the config says 1'),
    ({'model.autoencoder.latent_channels': 3}, 'iter_6.pth does not fit the model of the config'),
    ({'model.losses.adversarial': None}, 'iter_6.pth does not fit the model of the config'),
], ids=['seed', 'width', 'discriminator'])
def test_what_does_not_fit_is_an_error(train, stopped, option, message):
    with pytest.raises(SystemExit) as exit_:
        train('tiny', stopped, '--resume', **BASE, **option)
    assert message in exit_.value.code


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
    'accumulation, workers': {'train_cfg.accumulation': 2, 'train_dataloader.num_workers': 2},
    'discriminator after the stop': {'default_hooks.discriminator.start_iter': 6},
    'cosine, one row': {'default_hooks.learning_rate.decay': 'cosine', 'default_hooks.logger.interval': LENGTH},
}


def three_runs(folder, photos, options):
    """Arguments of tools/train.py for a whole run, a stopped one and its continuation."""
    options = {**BASE, 'train_dataloader.dataset.data_root': photos / 'train',
               'val_dataloader.dataset.data_root': photos / 'val', **options}
    for number, (name, resume, more) in enumerate([('whole', [], {}), ('stopped', [], stop()),
                                                   ('stopped', ['--resume'], {})]):
        rows = {**options, **more, 'experiment_name': f'{folder.name}_{number}'}
        yield [str(TINY), '--work-dir', str(folder / name), *resume,
               '--cfg-options', *(f'{key}={value}' for key, value in rows.items())]


@pytest.fixture(scope='module')
def resumed_on_two_ranks(launch, photos, tmp_path_factory):
    """A folder with the three runs of each case, numbered."""
    folder = tmp_path_factory.mktemp('ranks')
    runs = [run for number, options in enumerate(RANKS.values())
            for run in three_runs(folder / str(number), photos, options)]
    (folder / 'runs.json').write_text(json.dumps(runs), encoding='utf-8')
    launch('tools/launch.sh', 2, 'tests/data/plugins/several_runs.py', folder / 'runs.json')
    return folder


@pytest.mark.parametrize('case', RANKS)
def test_two_ranks_stopped_and_resumed_equal_uninterrupted(resumed_on_two_ranks, case):
    folder = resumed_on_two_ranks / str(list(RANKS).index(case))
    assert_same_run(folder / 'stopped', folder / 'whole')
    consumed = torch.load(folder / f'whole/iter_{LENGTH}.pth', weights_only=True)['meta']['consumed']
    assert consumed == LENGTH * 2 * 2 * RANKS[case].get('train_cfg.accumulation', 1)


@pytest.mark.slow
@pytest.mark.parametrize('case', RANKS)
def test_two_ranks_resume_through_the_launcher(launch, photos, tmp_path, case):
    for config, *arguments in three_runs(tmp_path, photos, RANKS[case]):
        launch('tools/dist_train.sh', config, 2, *arguments)
    assert_same_run(tmp_path / 'stopped', tmp_path / 'whole')
