import json
import math
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch

from tests.helpers import load_module
from wfvae_toolkit.latents import CachedLatents
from wfvae_toolkit.registry import AUTOENCODERS
from wfvae_toolkit.utils.config import load_config
from wfvae_toolkit.utils.errors import NotFinite, SettingError

PROJECT = Path(__file__).resolve().parents[2] / 'projects/latent_diffusion'
SMALL = dict(patch=1, width=16, depth=2, heads=2)
FLOW = ['--flow', 'batch_size=4', 'patch=1', 'width=16', 'depth=1', 'heads=2']


@pytest.fixture
def project(import_project):
    return import_project('latent_diffusion')


@pytest.fixture
def network(project):
    """A FlowTransformer (3, 4, 4) with weights that are not 0, so that all of its inputs count."""
    torch.manual_seed(0)
    network = project.FlowTransformer((3, 4, 4), classes=2, **SMALL)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network.eval()


@pytest.fixture
def latents(tool, trained, photos, tmp_path):
    """Cached latents of the nine photographs."""
    tool('cache_latents')(trained, photos / 'train', tmp_path / 'latents', '--crop', '16', '--workers', '0')
    return CachedLatents(tmp_path / 'latents')


# the transformer

def test_tokens_are_squares_of_the_latents_and_come_back(project):
    from latent_diffusion.transformer import to_latents, to_tokens

    latents = torch.rand(2, 3, 4, 6)
    tokens = to_tokens(latents, 2)
    assert tokens.shape == (2, 6, 12)
    assert torch.equal(tokens[0, 1].sort().values, latents[0, :, :2, 2:4].flatten().sort().values)
    assert torch.equal(to_latents(tokens, latents.shape, 2), latents)


def test_it_begins_with_a_velocity_of_0(project):
    network = project.FlowTransformer((3, 4, 4), **SMALL)
    assert not network(torch.randn(2, 3, 4, 4), torch.rand(2)).any()


def test_time_class_and_place_count_and_pictures_do_not_mix(network):
    z, t, label = torch.randn(2, 3, 4, 4), torch.tensor([0.2, 0.7]), torch.tensor([0, 1])
    made = network(z, t, label)
    torch.testing.assert_close(network(z[1:], t[1:], label[1:]), made[1:])
    assert not torch.allclose(network(z, t + 0.1, label), made)
    assert not torch.allclose(network(z, t, 1 - label), made)
    assert torch.equal(network(z, t), network(z, t, torch.tensor([2, 2])))  # no class
    moved = network(z.roll(1, dims=3), t, label).roll(-1, dims=3)
    assert not torch.allclose(moved, made)


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(patch=3), 'patch=3: the latents have 4x4 positions'), (dict(width=18), 'a width that 4 and the heads')])
def test_settings_that_do_not_fit_are_refused(project, settings, message):
    with pytest.raises(SettingError, match=message):
        project.FlowTransformer((3, 4, 4), **{**SMALL, **settings})


# the flow

class OfOneLatent:
    """The exact velocity where all data is one latent x: (z - x) / t."""

    def __init__(self, x):
        self.x = x

    def __call__(self, z, t, labels=None):
        return (z - self.x) / t.view(-1, 1, 1, 1)


def test_the_exact_velocity_has_no_loss_and_leads_to_the_data(project):
    from latent_diffusion.flow import velocity_error

    x, noise = torch.randn(1, 3, 4, 4), torch.randn(5, 3, 4, 4)
    exact = OfOneLatent(x)
    assert velocity_error(exact, x.expand(5, -1, -1, -1), noise, torch.rand(5) + 0.01).max() < 1e-8
    torch.testing.assert_close(project.sample(exact, noise, steps=3), x.expand(5, -1, -1, -1), atol=1e-5, rtol=0)


def test_the_sampler_is_of_second_order(project):
    def velocity(z, t, labels=None):
        return z * t.view(-1, 1, 1, 1)

    start = torch.ones(1, 1, 1, 1)
    errors = [abs(project.sample(velocity, start, steps=steps).item() - math.exp(-0.5)) for steps in (10, 40)]
    assert errors[0] / errors[1] > 10


def test_guidance_goes_beyond_the_prediction_with_the_class(project):
    def velocity(z, t, labels=None):
        return torch.full_like(z, 1.0 if labels is None else 2.0)

    noise, labels = torch.zeros(1, 1, 1, 1), torch.tensor([0])
    assert [project.sample(velocity, noise, labels, 4, guidance).item() for guidance in (0.0, 1.0, 3.0)] == [-1, -2, -4]
    with pytest.raises(SettingError, match='guidance=2.0: only with classes'):
        project.sample(velocity, noise, guidance=2.0)


def test_on_white_noise_the_best_prediction_is_all_that_can_be_learnt(project):
    class Best(torch.nn.Linear):
        def forward(self, z, t, labels=None):
            t = t.view(-1, 1, 1, 1)
            return z * (2 * t - 1) / ((1 - t)**2 + t**2)

    latents = torch.randn(400, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    losses = project.losses_by_time(Best(1, 1), latents)
    expected = [project.white_noise_error(torch.arange(100) / 1000 + part / 10).mean().item() for part in range(10)]
    assert losses == pytest.approx(expected, rel=0.06)
    assert project.share_of_white_noise(losses) == pytest.approx(1.0, abs=0.02)
    assert losses == project.losses_by_time(Best(1, 1), latents, batch_size=7)


# training

def test_it_learns_and_a_stopped_training_goes_on_as_if_it_had_not_been(project, latents, tmp_path, monkeypatch):
    from latent_diffusion import train

    settings = project.FlowSettings(steps=6, seed=3, batch_size=4, **SMALL)
    whole = project.train_flow(latents, settings, tmp_path / 'whole')
    assert project.train_flow(latents, settings, tmp_path / 'whole').meta == whole.meta  # nothing to do

    def stop(runner, iteration, save=train.FlowRunner.save):
        save(runner, iteration)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train.FlowRunner, 'save', stop)
        with pytest.raises(KeyboardInterrupt):
            project.train_flow(latents, settings, tmp_path / 'parts', interval=4)
    assert project.load_flow(tmp_path / 'parts').meta['iteration'] == 4
    project.train_flow(latents, settings, tmp_path / 'parts')
    ends = [train.read_checkpoint(tmp_path / name / 'last.pth') for name in ('whole', 'parts')]
    assert ends[0]['schedulers'] == ends[1]['schedulers']
    for part in ('state_dict', 'ema_state_dict', 'optimizer'):
        torch.testing.assert_close(ends[0][part], ends[1][part], rtol=0, atol=0)
    averaged, raw = ends[0]['state_dict'], ends[0]['ema_state_dict']
    assert not torch.equal(averaged['network.write.weight'], raw['module.network.write.weight'])
    assert raw['module.network.write.weight'].any()


def test_another_setting_or_a_loss_that_is_not_finite_is_an_error(project, latents, tmp_path):
    project.train_flow(latents, project.FlowSettings(steps=1, batch_size=2, **SMALL), tmp_path)
    with pytest.raises(SettingError, match='other settings: seed was 0 and is 1'):
        project.train_flow(latents, project.FlowSettings(steps=1, seed=1, batch_size=2, **SMALL), tmp_path)
    with pytest.raises(NotFinite, match=r'update \d: the loss is not finite; use a lower lr'):
        project.train_flow(latents, project.FlowSettings(steps=9, lr=1e30, batch_size=2, **SMALL), tmp_path / 'nan')
    with pytest.raises(SettingError, match=r"'\d\d.png' stands in no folder"):
        project.train_flow(latents, project.FlowSettings(steps=1, by_class=True, **SMALL), tmp_path / 'classes')


def test_the_first_folder_of_a_name_is_its_class(project):
    from latent_diffusion.train import LabelledLatents

    class Named:
        names = ['b/1.png', 'a/x/2.png', 'b/3.png']

        def __getitem__(self, number):
            return {'latent': torch.full((1, 2, 2), float(number))}

        def __len__(self):
            return 3

    data = LabelledLatents(Named(), by_class=True)
    latents, labels = data.whole()
    assert data.classes == ['a', 'b']
    assert latents[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert labels.tolist() == [data[number]['label'] for number in range(3)] == [1, 0, 1]
    assert LabelledLatents(Named()).whole()[1] is None


# the comparison

def test_models_are_files_or_seeds_of_a_config(project, tmp_path):
    from latent_diffusion.study import plan_rows

    for name in ('a/seed_0', 'a/seed_1', 'b/seed_0'):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / 'iter_2.pth').touch()
    rows = plan_rows([str(tmp_path), 'wfvae2-tiny', f'again={tmp_path}/a'], [0, 1])
    assert [(row.name, row.repeated, row.number(1)) for row in rows] == [
        ('a', True, 1), ('b', True, 1), ('wfvae2-tiny', False, 0), ('again', True, 1)]
    assert rows[0].models == {seed: tmp_path / f'a/seed_{seed}' for seed in (0, 1)}
    assert rows[2].models == {0: 'wfvae2-tiny', 1: 'wfvae2-tiny'}
    for models, message in ((['wfvae2-tiny'] * 2, 'two rows have one name'), ([f'x={tmp_path}'], 'holds 2 configs'),
                            (['crops=wfvae2-tiny'], "'crops' cannot name a row")):
        with pytest.raises(SettingError, match=message):
            plan_rows(models, [0])


def test_a_difference_counts_beyond_its_interval_over_seeds(project):
    from latent_diffusion.table import Line, Score, _compare, _difference

    first, other = (Line(name, True, [0, 1, 2], {'FD': Score(dict(enumerate(values)), 0, None)}) for name, values in (
        ('a', [5.0, 6.0, 7.0]), ('b', [4.0, 5.1, 5.9])))
    _compare(other, first)
    score = other.scores['FD']
    assert score.difference == pytest.approx(-1.0)
    assert score.difference_ci95 == pytest.approx(4.3027 * 0.1 / math.sqrt(3), rel=1e-3)
    assert _difference(score) == '**-1.000 ± 0.248**'
    score.difference_ci95 = 1.5
    assert not score.is_beyond


def test_the_command_fills_a_folder_a_table_and_a_page_and_goes_on(project, trained, photos, tmp_path, capsys):
    main = load_module(PROJECT / 'compare.py').main
    study = tmp_path / 'ablation/tiny'
    study.mkdir(parents=True)
    for name in ('seed_0', 'seed_1'):
        (study / name).symlink_to(trained)
    page = tmp_path / 'page.md'
    page.write_text('<!-- diffusion table -->\n<!-- end of diffusion table -->\n')
    command = [str(study), f'alone={trained}', '--data', str(photos), '--steps', '2', '--work-dir',
               str(tmp_path / 'out'), '--size', '32', '--crops', '10', '--val-crops', '6', '--samples', '4', '--real',
               '6', '--features', 'stlpips-alex', '--fill', str(page), *FLOW]
    (study / 'seed_2').mkdir()
    for name in ('iter_1.pth', 'ablation.json'):
        (study / 'seed_2' / name).touch()
    with pytest.raises(SystemExit, match='2 of 6 seeds failed'):
        main([*command, '--seeds', '0', '2', '3'])
    printed = capsys.readouterr().out
    assert 'seed_2: its training is not finished; tools/ablate.py goes on with it' in printed
    assert 'seed_3: no trained autoencoder for this seed; tools/ablate.py --seeds trains it' in printed
    newest = (tmp_path / 'out/tiny/seed_0/diffusion.json').stat().st_mtime_ns
    main([*command, '--seeds', '0', '1'])
    assert (tmp_path / 'out/tiny/seed_0/diffusion.json').stat().st_mtime_ns == newest
    table = (tmp_path / 'out/compare.md').read_text(encoding='utf-8')
    assert page.read_text(encoding='utf-8').splitlines()[2:-2] == table.splitlines()
    rows = {row['name']: row for row in json.loads((tmp_path / 'out/compare.json').read_text())['rows']}
    assert rows['tiny']['seeds'] == rows['alone']['seeds'] == [0, 1]
    assert len(rows['tiny']['scores']['PSNR']['values']) == 2
    assert len(rows['alone']['scores']['PSNR']['values']) == 1  # one autoencoder is one value
    for key in ('FD', 'flow_loss', 'iFD', 'PSNR', 'LatentSpectrum.slope'):
        assert math.isfinite(rows['tiny']['scores'][key]['mean'])
    assert (tmp_path / 'out/tiny/seed_1/samples.png').is_file()
    with pytest.raises(SystemExit, match='holds a study with other settings: samples was 4 and is 5'):
        main([*command, '--samples', '5'])


@pytest.mark.parametrize('name', sorted(path.stem for path in (PROJECT / 'latent_diffusion/configs').glob('*.py')))
def test_its_configs_change_the_default_alone(project, monkeypatch, name):
    for other in ('eq_vae', 'vf_alignment'):
        monkeypatch.syspath_prepend(PROJECT.parent / other)
    ours, default = (load_config(f'latent_diffusion::{of}.py') for of in (name, 'default'))
    assert ours.train_dataloader == default.train_dataloader
    assert ours.train_cfg.max_iters == default.train_cfg.max_iters
    assert (ours.model == default.model) == (name == 'default')
    with torch.device('meta'):
        assert AUTOENCODERS.build(ours.model.autoencoder).latent_channels == 8


# its pages

def commands(page, program):
    """Words after ``program`` in the shell blocks of a page, with names of the shell in place of their values."""
    blocks = re.findall(r'^```bash\n(.*?)^```', page.read_text(encoding='utf-8'), re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith(f'python {program} ')]
    return [shlex.split(line)[len(program.split()) + 1:] for line in lines]


@pytest.mark.parametrize(('page', 'count'), [('projects/latent_diffusion/README.md', 2),
                                             ('docs/which_autoencoder_diffuses_better.md', 1)])
def test_the_commands_of_its_pages_can_be_read(project, page, count):
    read = load_module(PROJECT / 'compare.py').parse_arguments
    options = [read(words) for words in commands(PROJECT.parents[1] / page, 'projects/latent_diffusion/compare.py')]
    assert len(options) >= count
    assert {each.data for each in options} == {'data/zoo'}


@pytest.mark.slow
def test_the_readme_s_own_flow_is_trained_and_sampled(project, tool, trained, photos, tmp_path, monkeypatch):
    from latent_diffusion.train import main

    shutil.copytree(trained, tmp_path / 'work_dirs/demo')
    shutil.copytree(photos, tmp_path / 'data/demo')
    monkeypatch.chdir(tmp_path)
    page = PROJECT / 'README.md'
    for name in ('measure_latents', 'cache_latents'):
        tool(name)(*commands(page, f'tools/{name}.py')[0])
    main([*commands(page, '-m latent_diffusion.train')[0], '--steps', '1', '--batch-size', '2'])
    program, = re.findall(r'^```python\n(.*?)^```', page.read_text(encoding='utf-8'), re.DOTALL | re.MULTILINE)
    names = {}
    exec(program, names)
    assert names['pictures'].shape == (4, 3, 64, 64)


@pytest.mark.slow
def test_flows_with_classes_are_compared_with_guidance(project, trained, photos, tmp_path):
    for part in ('train', 'val'):
        for number, path in enumerate(sorted((photos / part).iterdir())):
            (tmp_path / f'data/{part}/{number % 2}').mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tmp_path / f'data/{part}/{number % 2}')
    load_module(PROJECT / 'compare.py').main([
        f'one={trained}', '--data', str(tmp_path / 'data'), '--steps', '2', '--work-dir', str(tmp_path / 'out'),
        '--size', '32', '--crops', '10', '--val-crops', '6', '--samples', '4', '--real', '6', '--features',
        'stlpips-alex', '--classes', '--guidance', '2', *FLOW])
    meta = project.load_flow(tmp_path / 'out/one/seed_0').meta
    assert meta['classes'] == ['0', '1']
    assert math.isfinite(json.loads((tmp_path / 'out/one/seed_0/diffusion.json').read_text())['FD'])
