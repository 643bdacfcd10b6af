"""Runs on large data that are killed and resumed equal runs that were left alone: 0 differing bits."""

import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from run_files import assert_same_run

from tests.datasets.table_samples import rows_of, write_parquet
from tests.short_runs import BASE, LENGTH, RESUME, STOP, stop
from wfvae_toolkit.datasets import write_shards

TINY = Path(__file__).resolve().parents[2] / 'tests/data/configs/tiny.py'
CASES = ['shards', 'shards, window', 'table', 'table, compressed', 'buckets', 'sizes that grow', 'buckets that grow']
# Runs are stopped in the second stage; they go on in it and through the third.
GROWING = [dict(start_iter=0, size=8, batch_size=4, accumulation=1), dict(start_iter=3, size=16, batch_size=2),
           dict(start_iter=7, size=20, batch_size=2, accumulation=2)]


@pytest.fixture(scope='module')
def shards(photos, tmp_path_factory):
    """The nine training photographs in three shards."""
    folder = tmp_path_factory.mktemp('shards')
    write_shards(photos / 'train', folder, '8KB')
    assert len(list(folder.glob('*.tar'))) >= 3
    return folder


@pytest.fixture(scope='module')
def tables(photos, tmp_path_factory):
    """The same in a parquet file, and in one that is compressed, in row groups of two."""
    folder = tmp_path_factory.mktemp('tables')
    contents = dict(enumerate(path.read_bytes() for path in sorted((photos / 'train').iterdir())))
    for name, options in (('plain', {}), ('snappy', dict(compression='snappy', row_group_size=2))):
        (folder / name).mkdir()
        write_parquet(folder / name / 'a.parquet', rows_of(range(len(contents)), contents), **options)
    return folder


@pytest.fixture(scope='module')
def cut(photos, tmp_path_factory):
    """The training photographs cut to several aspect ratios."""
    folder = tmp_path_factory.mktemp('cut')
    for number, path in enumerate(sorted((photos / 'train').iterdir())):
        Image.open(path).crop((0, 0, *[(32, 32), (32, 20), (20, 32)][number % 3])).save(folder / path.name)
    return folder


def options_of(case, request):
    """Options of a run on the data of a case."""
    data = {
        'table': lambda: {'type': 'ImageTable', 'data_root': request.getfixturevalue('tables') / 'plain'},
        'table, compressed': lambda: {'type': 'ImageTable', 'shuffle_window': 2,
                                      'data_root': request.getfixturevalue('tables') / 'snappy'},
        'shards': lambda: {'type': 'ImageShards', 'data_root': request.getfixturevalue('shards')},
        'shards, window': lambda: {'type': 'ImageShards', 'data_root': request.getfixturevalue('shards'),
                                   'shuffle_window': 2},
        'buckets': lambda: {'type': 'AspectBuckets', 'size': 16, 'multiple_of': 4, 'pipeline': [{'type': 'RandomFlip'}],
                            'dataset': {'type': 'ImageFolder', 'data_root': str(request.getfixturevalue('cut'))}},
        'sizes that grow': lambda: {'type': 'ImageFolder'},
        'buckets that grow': lambda: data['buckets'](),
    }
    grows = {'model.normalize': True, 'train_cfg.stages': GROWING} if 'grow' in case else {}
    data = data[case]()
    if data['type'] == 'AspectBuckets':
        return {**BASE, **grows, 'train_cfg.accumulation': 2, 'train_dataloader.dataset': data}
    data = {f'train_dataloader.dataset.{key}': value for key, value in data.items()}
    return {**BASE, **grows, 'train_cfg.accumulation': 2, **data}


def command(folder, photos, options, *arguments):
    root = {} if 'train_dataloader.dataset' in options else {'train_dataloader.dataset.data_root': photos / 'train'}
    options = {**root, 'val_dataloader.dataset.data_root': photos / 'val', **options}
    return [TINY, '--work-dir', folder, *arguments, '--cfg-options',
            *(f'{key}={value}' for key, value in options.items())]


@pytest.mark.slow
@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize('workers', [0, 2])
def test_killed_and_resumed_equals_uninterrupted(train, launch, photos, tmp_path, request, case, workers):
    options = options_of(case, request)
    train('tiny', tmp_path / 'whole', **options)
    killed = {**options, 'default_hooks.checkpoint.interval': 2, 'train_dataloader.num_workers': 2 - workers}
    done = launch(sys.executable, 'tools/train.py', *command(
        tmp_path / 'killed', photos, {**killed, **stop('group SIGKILL', STOP)}), check=False)
    assert done.returncode == -9
    train('tiny', tmp_path / 'killed', '--resume', **{**options, 'train_dataloader.num_workers': workers})
    assert_same_run(tmp_path / 'killed', tmp_path / 'whole', LENGTH)


# GROWING changes at 3 and 7: killed in the first stage, at both ends of the second, and in the third.
@pytest.mark.slow
@pytest.mark.parametrize('case', ['sizes that grow', 'buckets that grow'])
@pytest.mark.parametrize('ranks', [1, 2])
def test_killed_around_each_change_of_size_equals_uninterrupted(launch, photos, tmp_path, request, case, ranks):
    options = {**options_of(case, request), 'default_hooks.checkpoint.interval': 1}

    def run(folder, check, *arguments, **more):
        done = (launch('tools/dist_train.sh', TINY, 2, *command(folder, photos, {**options, **more}, *arguments)[1:],
                       check=check) if ranks == 2 else
                launch(sys.executable, 'tools/train.py', *command(folder, photos, {**options, **more}, *arguments),
                       check=check))
        assert (done.returncode == 0) == check
    run(tmp_path / 'whole', True)
    for stops in ((2, 3, 8), (7,)):
        folder = tmp_path / f'killed at {stops[0]}'
        for number, iteration in enumerate(stops):
            run(folder, False, *(('--resume',) if number else ()),
                **stop('SIGKILL', iteration), **{'train_dataloader.num_workers': number})
        run(folder, True, '--resume', **{'train_dataloader.num_workers': 2})
        assert_same_run(folder, tmp_path / 'whole', LENGTH)


@pytest.mark.slow
@pytest.mark.parametrize('case', CASES)
def test_two_ranks_killed_and_resumed_equal_uninterrupted(launch, photos, tmp_path, request, case):
    options = options_of(case, request)
    for folder, more, arguments in (('whole', {}, ()), ('killed', stop('SIGKILL', STOP + 1), ()),
                                    ('killed', {'train_dataloader.num_workers': 2}, ('--resume',))):
        config, *rest = command(tmp_path / folder, photos, {**options, **more}, *arguments)
        done = launch('tools/dist_train.sh', config, 2, *rest, check=folder == 'whole' or bool(arguments))
        assert (done.returncode != 0) == ('custom_hooks' in more)
    assert_same_run(tmp_path / 'killed', tmp_path / 'whole', LENGTH)


@pytest.mark.slow
@pytest.mark.parametrize('case', CASES)
def test_another_number_of_ranks_goes_on_with_the_same_samples(train, launch, photos, tmp_path, request, case):
    options = options_of(case, request)
    one, two = ({**options, 'train_dataloader.batch_size': 4 // ranks, **({} if 'grow' not in case else {
        'train_cfg.stages': [{**stage, 'batch_size': stage['batch_size'] // ranks} for stage in GROWING]})}
        for ranks in (1, 2))
    train('tiny', tmp_path / 'whole', **one)
    train('tiny', tmp_path / 'stopped', **one, **stop())
    config, *rest = command(tmp_path / 'stopped', photos, two, *RESUME)
    launch('tools/dist_train.sh', config, 2, *rest)
    whole, resumed = (torch.load(tmp_path / run / f'iter_{LENGTH}.pth', weights_only=True)
                      for run in ('whole', 'stopped'))
    assert resumed['meta']['consumed'] == whole['meta']['consumed']
    # Other images would differ by 1e-2; only the order of float32 sums does.
    for part in ('state_dict', 'ema_state_dict'):
        first, second = (torch.cat([value.double().flatten() for key, value in sorted(state[part].items())
                                    if not key.endswith('key.bias')]) for state in (whole, resumed))
        assert (first - second).norm() <= 1e-5 * first.norm()
