"""Every kind of posterior through the tools: train, resume, export, measure, cache, evaluate."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from run_files import assert_same_run

from wfvae_toolkit import AutoencoderWFVAE2
from wfvae_toolkit.checkpoints import export_model, load_training_checkpoint, read_model
from wfvae_toolkit.inference import Reconstructor
from wfvae_toolkit.latents import CachedLatents
from wfvae_toolkit.visualization.records import read_records

TINY = Path(__file__).resolve().parents[1] / 'data/configs/tiny.py'
FIXED, NONE = dict(type='FixedVariancePosterior', std=0.2), dict(type='DeterministicPosterior')
KINDS = {'default': {}, 'Gaussian': {'model.autoencoder.posterior': dict(type='GaussianPosterior')},
         'fixed variance': {'model.autoencoder.posterior': FIXED},
         'none': {'model.autoencoder.posterior': NONE, 'model.losses.kl': None}}
MADE_UP = dict(type='SyntheticImages', size=32, length=8)
BASE = {
    'train_cfg.max_iters': 5, 'train_cfg.val_interval': 5, 'default_hooks.checkpoint.interval': 3,
    'default_hooks.header': None, 'default_hooks.curves': None, 'default_hooks.pictures': None,
    'train_dataloader.dataset': {**MADE_UP, 'pipeline': [dict(type='RandomCrop', size=16)]},
    'val_dataloader.dataset': {**MADE_UP, 'length': 2}}


@pytest.fixture(scope='module')
def run(tool, tmp_path_factory):
    """Kind -> its run's folder, with iter_3 and iter_5, trained once on made-up pictures."""
    folders = {}

    def train(folder, *arguments, **options):
        options = {**BASE, 'experiment_name': f'posterior_{folder.name}', **options}
        tool('train')(TINY, '--work-dir', folder, *arguments, '--cfg-options',
                      *(f'{key}={value}' for key, value in options.items()))
        return folder

    def find(kind):
        if kind not in folders:
            folders[kind] = train(tmp_path_factory.mktemp('run'), **KINDS[kind])
        return folders[kind]
    find.train = train
    return find


def images():
    return torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_without_a_setting_the_numbers_are_those_of_the_gaussian(run):
    states = [torch.load(run(kind) / 'iter_5.pth', weights_only=True)['state_dict'] for kind in ('default', 'Gaussian')]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize('kind', KINDS)
def test_the_log_has_a_kl_where_there_is_one(run, kind):
    row = next(row for row in read_records(run(kind)) if row['phase'] == 'train')
    assert ('kl_channel/00' in row) == ('active_channels' in row) == (kind != 'none')
    assert ('least_kl' in row) == (kind == 'fixed variance')
    if kind == 'fixed variance':
        assert row['kl_channel/00'] >= row['least_kl'] == pytest.approx(1.129, abs=1e-3)


@pytest.mark.parametrize('kind', ['fixed variance', 'none'])
def test_a_resumed_run_equals_one_that_was_never_stopped(run, tmp_path, kind):
    stopped = run.train(tmp_path / 'stopped', **KINDS[kind], **{
        'custom_hooks': [dict(type='run_probes.StopAt', iteration=3, how='stop')]})
    assert not (stopped / 'iter_5.pth').exists()
    run.train(stopped, '--resume', '--resume-drop', 'early_stop', **KINDS[kind])
    assert_same_run(stopped, run(kind), 5)


@pytest.mark.parametrize(('options', 'message'), [
    ({}, r"posterior.type was 'FixedVariancePosterior' and is 'GaussianPosterior' .*posterior.std was 0.2 and is None"),
    ({'model.autoencoder.posterior': {**FIXED, 'std': 0.3}}, r'posterior.std was 0.2 and is 0.3 .it changes what'),
    ({'model.autoencoder.posterior': NONE, 'model.losses.kl': None}, r"is 'DeterministicPosterior'")])
def test_a_run_does_not_go_on_with_another_posterior(run, tmp_path, options, message):
    with pytest.raises(SystemExit, match=message):
        run.train(tmp_path, '--resume', run('fixed variance') / 'iter_3.pth', **options)


def test_a_run_does_not_start_from_weights_of_another_posterior_unless_it_is_meant(run, tmp_path):
    start = {**KINDS['none'], 'load_from': dict(path=str(run('fixed variance')))}
    with pytest.raises(SystemExit, match=r"model.autoencoder.posterior was .*FixedVariance.*allow_missing=\['autoenc"):
        run.train(tmp_path / 'refused', **start)
    start['load_from']['allow_missing'] = ['autoencoder.posterior']
    assert (run.train(tmp_path / 'meant', **start) / 'iter_5.pth').exists()


def test_a_kl_row_is_refused_before_the_first_iteration(run, tmp_path):
    with pytest.raises(SystemExit, match=r'model.losses.kl: DeterministicPosterior has no KL .*set this row to None'):
        run.train(tmp_path, **{'model.autoencoder.posterior': NONE})
    assert not list(tmp_path.glob('iter_*'))


@pytest.mark.parametrize('form', ['native', 'diffusers'])
@pytest.mark.parametrize('kind', KINDS)
def test_an_exported_model_computes_the_same_and_reads_back(run, tmp_path, kind, form):
    model = read_model(run(kind))
    path = tmp_path / ('out.pth' if form == 'native' else 'out')
    export_model(model, path, form)
    networks = [model.build(), read_model(path).build()]
    if form == 'diffusers':
        networks.append(AutoencoderWFVAE2.from_pretrained(path))
        configured = json.loads((path / 'config.json').read_text())['posterior']
        assert configured == KINDS[kind].get('model.autoencoder.posterior')
    with torch.no_grad():
        posteriors = [network.encode(images()).latent_dist for network in networks]
        samples = [one.sample(torch.Generator().manual_seed(1)) for one in posteriors]
        pictures = [network.decode(posteriors[0].mode()).sample for network in networks]
    for results in ([one.mode() for one in posteriors], samples, pictures):
        assert all(torch.equal(results[0], other) for other in results)
    assert torch.equal(samples[0], posteriors[0].mode()) == (kind == 'none')


def test_the_earlier_form_has_no_words_for_another_posterior(run, tmp_path):
    with pytest.raises(RuntimeError, match="cannot express posterior={'type': 'DeterministicPosterior'}"):
        export_model(read_model(run('none')), tmp_path / 'out', 'earlier')


@pytest.mark.parametrize('kind', ['Gaussian', 'fixed variance', 'none'])
def test_latents_are_measured(run, tool, photos, tmp_path, capsys, kind):
    shutil.copytree(run(kind), tmp_path / 'run')
    tool('measure_latents')(tmp_path / 'run', photos / 'train', '--workers', 0)
    record = json.loads(load_training_checkpoint(tmp_path / 'run/iter_5.pth')['meta']['latent_statistics'])
    if kind != 'Gaussian':
        added = record['std'][0]**2 - record['std_of_means'][0]**2
        assert added == pytest.approx(0 if kind == 'none' else 0.2**2, abs=1e-6)
    assert (record['kl_nats_per_position'] is None) == (kind == 'none')
    printed = capsys.readouterr().out
    assert ('channels, no KL' in printed) == (kind == 'none')
    samples = Reconstructor.from_pretrained(tmp_path / 'run', device='cpu').encode(
        [photos / f'train/{number:02}.png' for number in (0, 2, 3, 4, 6, 7, 8, 10, 11)], sample=True)
    torch.testing.assert_close(samples.std((0, 2, 3), correction=0), torch.ones(4), rtol=0.05, atol=0)


@pytest.mark.parametrize('kind', ['fixed variance', 'none'])
def test_latents_are_cached(run, tool, photos, tmp_path, kind):
    arguments = run(kind), photos / 'train', tmp_path / 'out', '--crop', 32, '--workers', 0
    tool('cache_latents')(*arguments)
    cache = CachedLatents(tmp_path / 'out')
    assert cache.settings['what'] == ('mean' if kind == 'none' else 'moments')
    means = CachedLatents(tmp_path / 'out', sample_posterior=False)
    noise = torch.stack([cache[number]['latent'] - means[number]['latent'] for number in range(len(cache))])
    assert noise.std().item() == pytest.approx(0 if kind == 'none' else 0.2, rel=0.1)
    if kind == 'none':
        with pytest.raises(SystemExit, match='no mean and variance of a Gaussian to cache; use mean or sample'):
            tool('cache_latents')(*arguments, '--what', 'moments')
        tool('cache_latents')(*arguments[:2], tmp_path / 'sample', *arguments[3:], '--what', 'sample')


@pytest.mark.parametrize('kind', ['fixed variance', 'none'])
def test_evaluation_follows_the_posterior(run, tool, tmp_path, kind):
    def score(metrics):
        options = {**BASE, **KINDS[kind], 'val_evaluator.metrics.latents': metrics}
        tool('test')(TINY, run(kind), '--work-dir', tmp_path, '--cfg-options',
                     *(f'{key}={value}' for key, value in options.items()))
        return json.loads((tmp_path / 'summary.json').read_text())['metrics']

    assert ('latents.kl.00' in score(dict(type='LatentChannels'))) == (kind != 'none')
    if kind == 'none':
        with pytest.raises(SystemExit, match='PointMass has no KL divergence; leave out the loss or metric'):
            score(dict(type='ActiveChannels'))
        return
    assert score(dict(type='LatentKL'))['latents']['mean'] >= 4 * 1.129
    assert score(dict(type='ActiveChannels', threshold=1e6))['latents']['mean'] == 0
