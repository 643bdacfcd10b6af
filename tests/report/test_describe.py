import json

import pytest

from tests.report.made import make_evaluation, make_maps, make_run
from wfvae_toolkit.report.describe import describe, discriminator_start
from wfvae_toolkit.report.read import read_entries

NAMES = [f'{number}.png' for number in range(6)]


@pytest.fixture
def page(tmp_path):
    """What the templates get of a run with these options."""
    def call(**options):
        return describe(read_entries([make_run(tmp_path / 'run', **options)]), [], str)
    return call


def test_facts_of_a_run(page):
    [entry] = page(rows=30)['entries']
    facts = dict(entry['facts'])
    assert (facts['model'], facts['iterations'], facts['seed']) == ('WFVAE2Image', '30 of 40', '7')
    assert facts['trained on'] == 'data/photos, 12 images'
    assert facts['time in updates'] == '0:18:00'
    assert facts['parameters'] == 'encoder 1.2 M, decoder 1.6 M'
    assert facts['peak memory'] == '1.50 GiB'
    assert entry['command'].endswith('--work-dir work_dirs/again --cfg-options randomness.seed=7')


def test_a_model_without_its_training_is_described_by_its_scores(tmp_path):
    folder = make_evaluation(tmp_path / 'scores', NAMES)
    summary = json.loads((folder / 'summary.json').read_text(encoding='utf-8'))
    summary['protocol'].update(model='WFVAE2Image', parameters='encoder 1.18 M, decoder 1.66 M')
    (folder / 'summary.json').write_text(json.dumps(summary), encoding='utf-8')
    facts = dict(describe(read_entries([folder]), [], str)['entries'][0]['facts'])
    assert (facts['model'], facts['parameters']) == ('WFVAE2Image', 'encoder 1.18 M, decoder 1.66 M')


def test_what_is_missing_is_said_once_with_those_that_miss_it(tmp_path):
    runs = [make_run(tmp_path / name, rows=rows) for name, rows in (('a', 40), ('b', 40), ('c', 0))]
    for run in runs[:2]:
        (run / 'run.json').unlink()
    lacks = dict(describe(read_entries(runs), [], str)['lacks'])
    assert lacks['Machine and versions are not recorded: run.json is not there.'] == ['a', 'b']
    assert lacks['No iteration is logged yet.'] == ['c']


def test_scores_of_a_run_that_was_only_validated_have_no_interval(tmp_path):
    runs = [make_run(tmp_path / name) for name in ('scored', 'validated')]
    make_evaluation(runs[0] / 'evaluation', NAMES)
    [psnr, lpips] = describe(read_entries(runs), [], str)['scores']
    assert psnr['cells'][0]['ci95'] == 0.1
    assert psnr['cells'][1] == {'mean': 24.0, 'ci95': None, 'note': 'while training, iteration 40'}
    assert lpips['cells'][1] == {'mean': None, 'ci95': None, 'note': 'not scored'}


def test_few_images_have_a_mean_alone(tmp_path):
    make_evaluation(tmp_path / 'scores', NAMES[:4])
    [psnr, _] = describe(read_entries([tmp_path / 'scores']), [], str)['scores']
    assert psnr['cells'][0]['mean'] is not None
    assert psnr['cells'][0]['ci95'] is None


@pytest.mark.parametrize(('discriminator', 'start'), [("dict(type='PatchDiscriminator')", 20), ('None', None)])
def test_the_start_of_the_discriminator_is_that_of_the_config(tmp_path, discriminator, start):
    run = make_run(tmp_path / 'run')
    text = (run / 'tiny.py').read_text(encoding='utf-8')
    (run / 'tiny.py').write_text(text.replace("dict(type='PatchDiscriminator')", discriminator), encoding='utf-8')
    assert discriminator_start(read_entries([run])[0]) == start


def test_without_a_config_it_is_the_first_row_that_has_one(tmp_path):
    run = make_run(tmp_path / 'run')
    (run / 'tiny.py').unlink()
    assert discriminator_start(read_entries([run])[0]) == 20


def test_latents_are_those_that_were_measured_or_of_the_log(page, tmp_path):
    [logged] = page()['latents']
    assert logged == {'source': 'the log, iteration 40', 'lacks': ['mean', 'std'], 'rows': [
        {'mean': None, 'std': None, 'kl': 0.5}, {'mean': None, 'std': None, 'kl': 1.5}]}
    (tmp_path / 'run/exported').mkdir()
    (tmp_path / 'run/exported/latent_statistics.json').write_text(json.dumps(
        {'mean': [0.1, 0.2], 'std': [1.0, 2.0], 'kl_nats_per_position': [0.3, 0.4], 'images': 9}))
    [measured] = page()['latents']
    assert measured == {'source': 'latent_statistics.json, 9 images', 'lacks': [], 'rows': [
        {'mean': 0.1, 'std': 1.0, 'kl': 0.3}, {'mean': 0.2, 'std': 2.0, 'kl': 0.4}]}


def test_one_run_has_nothing_to_differ_from(page):
    described = page()
    assert (described['differences'], described['comparisons']) == ([], [])
    assert ('model.losses.kl.weight', '1e-06') in described['whole'][0]


def test_a_spectrum_is_shown_if_it_was_measured(tmp_path):
    make_evaluation(tmp_path / 'scores', NAMES)
    [entry] = read_entries([tmp_path / 'scores'])
    assert describe([entry], [], str)['spectra'] == [None]
    values = {'slope': -1.8, 'high_share': 0.2, 'image_slope': -2.6, 'image_high_share': 0.03}
    entry.evaluation.summary['metrics'] |= {
        f'spectrum.{name}': {'mean': value, 'ci95': None, 'higher_is_better': None} for name, value in values.items()}
    assert describe([entry], [], str)['spectra'] == [{'latents': [-1.8, 0.2], 'images': [-2.6, 0.03]}]


def test_whose_channel_maps_are_not_there_is_said(tmp_path):
    for name in ('with', 'without'):
        make_evaluation(tmp_path / name, NAMES)
    make_maps(tmp_path / 'with', NAMES[:2])
    entries = read_entries([tmp_path / 'with', tmp_path / 'without', make_run(tmp_path / 'run')])
    assert describe(entries, [], str)['without_maps'] == [
        '', 'No channel maps: score it again with tools/test.py, which writes them.',
        'No channel maps: it is not scored.']
