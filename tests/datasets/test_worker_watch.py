"""Workers that die or hang: the message names the sample, and nothing waits for ever."""

import itertools
import multiprocessing
import os
import signal
import sys
import time

import pytest
import torch
from PIL import Image

from wfvae_toolkit.datasets import ImageDataset, WorkerLost, build_dataloader, worker_watch
from wfvae_toolkit.registry import DATASETS
from wfvae_toolkit.utils.errors import UserError

pytestmark = pytest.mark.filterwarnings('ignore:This DataLoader will create')  # PyTorch's, with few cores
BAD = 5


@DATASETS.register_module()
class Trapped(ImageDataset):
    """Eight grey pictures; one of them does ``trap``."""

    def __init__(self, trap, **settings):
        super().__init__(**settings)
        self.trap = trap

    def __len__(self):
        return 8

    def path(self, index):
        return f'folder/{index}.png'

    def load(self, index):
        if index == BAD:
            {'killed': lambda: os.kill(os.getpid(), signal.SIGKILL), 'exits': lambda: os._exit(3),
             'hangs': lambda: time.sleep(600), 'none': lambda: None}[self.trap]()
        return Image.new('L', (4, 4), index)


def loader(trap, workers=2, training=False, **settings):
    return build_dataloader({'batch_size': 2, 'num_workers': workers, 'dataset': {'type': 'Trapped', 'trap': trap},
                             **({'shuffle': False} if training else {}), **settings}, training=training)


@pytest.mark.parametrize('workers', [1, 2])
@pytest.mark.parametrize('trap', ['killed', 'exits'])
def test_a_worker_that_dies_names_its_sample(trap, workers):
    with pytest.raises(WorkerLost) as caught:
        list(loader(trap, workers))
    assert str(caught.value).startswith('a data worker died (')
    assert "reading sample 5 ('folder/5.png')" in str(caught.value)
    assert not multiprocessing.active_children()  # though the traceback still holds their iterator


def test_a_worker_that_dies_while_others_compute():
    """PyTorch would raise wherever the process is; the next batch is where it is said."""
    batches = iter(loader('killed', workers=1, training=True))
    next(batches)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        time.sleep(0.01)
    with pytest.raises(WorkerLost, match=r"reading sample 5 \('folder/5.png'\)"):
        list(batches)


@pytest.mark.parametrize('timeout_s', [0, 600])
def test_a_death_is_noticed_though_its_signal_is_lost(monkeypatch, timeout_s):
    monkeypatch.setattr(worker_watch, '_LOOK_S', 0.1)
    batches = iter(loader('killed', workers=1, training=True, timeout_s=timeout_s))
    next(batches)
    monkeypatch.setattr(worker_watch._deaths, '_handler', None)
    start = time.monotonic()
    with pytest.raises(WorkerLost, match=r"died \(.+\); it was reading sample 5 \('folder/5.png'\)"):
        list(batches)
    assert time.monotonic() - start < 300


def test_persistent_workers_start_again_after_an_error():
    batches = loader('killed', training=True, persistent_workers=True)
    for _ in range(2):
        with pytest.raises(WorkerLost, match=r"reading sample 5 "):
            list(batches)


def test_a_worker_of_another_loader_is_named():
    training = iter(loader('killed', workers=1, training=True))
    next(training)
    validation = itertools.chain.from_iterable(loader('none', workers=1) for _ in range(1000))
    with pytest.raises(WorkerLost, match=r"reading sample 5 \('folder/5.png'\)"):
        list(validation)


def test_a_worker_that_hangs_names_its_sample():
    start = time.monotonic()
    with pytest.raises(WorkerLost) as caught:
        list(loader('hangs', timeout_s=1))
    assert time.monotonic() - start < 60
    said = str(caught.value)
    assert said.startswith('no batch came for 1 s; the workers were reading sample 5')
    assert "'folder/5.png'" in said
    assert 'timeout_s' in said


@pytest.mark.parametrize('workers', [0, 2])
def test_watching_changes_no_batch(workers):
    grey = torch.cat([torch.stack(batch.images)[:, 0, 0, 0] for batch in loader('none', workers)])
    assert grey.tolist() == list(range(8))
    assert loader('none', workers).timeout == (600 if workers else 0)


@pytest.mark.parametrize('persistent', [True, False])
def test_a_process_ends_with_its_workers(photos, launch, persistent):
    code = f"""
from wfvae_toolkit.datasets import build_dataloader
loader = build_dataloader(dict(batch_size=2, num_workers=1, persistent_workers={persistent}, dataset=dict(
    type='ImageFolder', data_root={str(photos / 'train')!r})), training=False)
batches = iter(loader)
print(len(next(batches)))
"""
    # A worker that outlasts multiprocessing's signal at the end would keep the process for ever.
    assert launch('timeout', '60', sys.executable, '-c', code).stdout == '2\n'


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize(('pipeline', 'sizes', 'message'), [
    ([], None, r'none of the 2 files can be used; the first: .*[01]\.png: zero bytes'),
    ([], (8, 4), r'pictures of two sizes in a training batch: [01]\.png has'),
    ([dict(type='CenterCrop', size=8, too_small='error')], (8, 4), r'1\.png: 4x4 px, CenterCrop needs 8'),
])
def test_a_user_error_in_a_worker_is_the_same_one_line(tmp_path, workers, pipeline, sizes, message):
    for number in range(2):
        path = tmp_path / f'{number}.png'
        path.touch()
        if sizes:
            Image.new('RGB', (sizes[number],) * 2).save(path)
    dataset = {'type': 'ImageFolder', 'data_root': str(tmp_path), 'pipeline': pipeline}
    batches = iter(build_dataloader({'batch_size': 2, 'num_workers': workers, 'dataset': dataset}, training=True))
    with pytest.raises(UserError, match=message) as caught:
        next(batches)
    assert len(str(caught.value).splitlines()) == 1
    assert not multiprocessing.active_children()
