"""Any MODEL as the start of a training and as what is scored."""

import json

import pytest
import torch

from wfvae_toolkit.checkpoints import load_training_checkpoint, read_model

QUIET = {'default_hooks.curves': None, 'default_hooks.pictures': None, 'val_dataloader.max_images': 1,
         'train_cfg.max_iters': 1, 'default_hooks.checkpoint.interval': 1}


@pytest.fixture(scope='module')
def run(train, tmp_path_factory):
    """A run's folder with iter_1."""
    return train('tiny', tmp_path_factory.mktemp('run'), **QUIET)


@pytest.fixture(params=['native', 'earlier'])
def exported(request, tool, run, tmp_path):
    output = tmp_path / {'native': 'model.pth', 'earlier': 'model'}[request.param]
    tool('convert')(run, output, '--to', request.param)
    return output


def test_a_training_starts_from_any_form(train, exported, run, tmp_path):
    load_from = dict(path=str(exported), allow_missing=['discriminator*'])
    work_dir = train('tiny', tmp_path / 'next', **QUIET, load_from=load_from,
                     **{'model.freeze': "['autoencoder.encoder.*']"})
    started = read_model(work_dir, 'raw').state
    assert all(torch.equal(started[name], value) for name, value in read_model(run).state.items()
               if name.startswith('encoder.'))


def test_any_form_is_scored(tool, exported, run, photos, tmp_path):
    scores = []
    for number, model in enumerate((run, exported)):
        folder = tmp_path / f'scores_{number}'
        tool('test')('tests/data/configs/tiny.py', model, '--work-dir', folder, '--max-images', 1, '--cfg-options',
                     f'val_dataloader.dataset.data_root={photos / "val"}')
        scores.append(json.loads((folder / 'summary.json').read_text(encoding='utf-8')))
    assert scores[0]['metrics'].keys() == {'PSNR', 'SSIM', 'raw/PSNR', 'raw/SSIM'}
    assert scores[1]['metrics'] == {name: scores[0]['metrics'][name] for name in ('PSNR', 'SSIM')}
    assert scores[1]['protocol']['weights'] == 'ema'


@pytest.mark.parametrize('name', ['', 'iter_1.pth'])
def test_a_run_does_not_move_what_it_starts_from(train, run, name):
    before = sorted(path.name for path in run.iterdir())
    for load_from in (str(run / name), dict(path=str(run / name))):
        with pytest.raises(SystemExit, match='^error: load_from=.* lies in the folder .* another --work-dir'):
            train('tiny', run, **QUIET, load_from=load_from)
    assert sorted(path.name for path in run.iterdir()) == before
    load_training_checkpoint(run / 'iter_1.pth')
