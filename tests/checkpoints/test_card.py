import json

import pytest
import yaml

from tests.checkpoints.files import write_native
from tests.helpers import trained_small
from wfvae_toolkit.checkpoints import read_model, write_statistics
from wfvae_toolkit.checkpoints.card import MARK
from wfvae_toolkit.checkpoints.to_diffusers import write_diffusers
from wfvae_toolkit.models.latent_statistics import LatentStatistics
from wfvae_toolkit.utils.errors import SettingError

STATISTICS = LatentStatistics((0.5, -1.0, 2.0), (1.0, 2.0, 0.25))


def activations(value, images=3):
    return {'encoder': {'value': 1.0, 'module': 'encoder.conv_in'},
            'decoder': {'value': value, 'module': 'decoder.stages.0.branch'}, 'images': images}


@pytest.mark.parametrize(('value', 'verdict'), [(16_000.0, 'yes'), (17_000.0, 'unsure'), (70_000.0, 'no')])
def test_the_card_says_which_dtypes_hold_what_was_measured(tmp_path, value, verdict):
    model = trained_small(statistics=STATISTICS)
    model.meta['largest_activations'] = activations(value)
    write_diffusers(model, tmp_path / 'out')
    card = (tmp_path / 'out/README.md').read_text(encoding='utf-8')
    assert '| float32 | yes |' in card
    assert '| bfloat16 | yes |' in card
    assert f'| float16 | {verdict} | ' in card
    assert f'decoder {value:.4g} (decoder.stages.0.branch), over 3 pictures' in card
    assert read_model(tmp_path / 'out').meta['largest_activations'] == activations(value)


def test_the_card_of_a_model_that_was_never_measured_says_so(overflow_float16, tmp_path):
    write_diffusers(trained_small(), tmp_path / 'out')
    card = (tmp_path / 'out/README.md').read_text(encoding='utf-8')
    assert 'Latents were never measured' in card
    assert '| float16 | not measured | ' in card
    assert 'over made-up pictures' in card
    model = trained_small()
    model.state = overflow_float16(model.build(), ['decoder']).state_dict()
    write_diffusers(model, tmp_path / 'loud')
    assert '| float16 | no | ' in (tmp_path / 'loud/README.md').read_text(encoding='utf-8')


@pytest.mark.parametrize('edited', [False, True])
def test_a_measurement_writes_the_card_anew_unless_it_was_edited(tmp_path, edited):
    write_diffusers(trained_small(), tmp_path / 'out', license='cc0-1.0')
    card = tmp_path / 'out/README.md'
    before = card.read_text(encoding='utf-8')
    if edited:
        before = before.replace(MARK, 'My model.')
        card.write_text(before, encoding='utf-8')
    write_statistics(read_model(tmp_path / 'out'), STATISTICS, {'largest_activations': activations(9.5)})
    assert (card.read_text(encoding='utf-8') == before) == edited
    assert card.read_text(encoding='utf-8').startswith('---\nlicense: cc0-1.0\n')
    assert edited or '| float16 | yes | largest activations in float32: encoder 1 (encoder.conv_in), decoder 9.5' in (
        card.read_text(encoding='utf-8'))


def settings_of(path):
    """The YAML before the text."""
    return yaml.safe_load(path.read_text(encoding='utf-8').split('---\n')[1])


@pytest.mark.parametrize('license', [None, 'apache-2.0'])
def test_the_front_matter_is_what_the_hub_reads(tmp_path, license):
    write_diffusers(trained_small(), tmp_path / 'out', license=license)
    assert settings_of(tmp_path / 'out/README.md') == dict(
        license=license or 'unknown', library_name='diffusers', pipeline_tag='image-to-image',
        tags=['vae', 'autoencoder', 'wavelets'])


@pytest.mark.parametrize('license', ['Apache 2.0', '', 'x\ntags: [a]'])
def test_a_license_is_an_identifier(tmp_path, license):
    with pytest.raises(SettingError, match='use the identifier of the Hub, such as apache-2.0'):
        write_diffusers(trained_small(), tmp_path / 'out', license=license)


def test_a_model_that_tells_nothing_of_its_training(tmp_path):
    write_diffusers(trained_small(), tmp_path / 'out')
    card = (tmp_path / 'out/README.md').read_text(encoding='utf-8')
    assert 'does not say what the model was trained on' in card
    assert 'No scores are known; `tools/test.py` of the toolkit measures them.\n\n## Latents\n' in card


@pytest.mark.parametrize(('weights', 'score'), [('ema', '20.5000 | 0.7500'), ('raw', '19.0000 | 0.5000')])
def test_the_card_of_a_run_tells_its_data_and_the_scores_of_its_iteration(tmp_path, weights, score):
    data = {'dataset.type': 'MixedDataset', 'dataset.datasets.0.type': 'ImageFolder',
            'dataset.datasets.0.data_root': '/home/me/photos/', 'dataset.datasets.0.pipeline.0.type': 'RandomCrop',
            'dataset.datasets.1.type': 'SyntheticImages'}
    settings = {**{f'train_dataloader.{key}': value for key, value in data.items()},
                'val_dataloader.dataset.type': 'ImageFolder', 'val_dataloader.dataset.data_root': 'data/val',
                'model.losses.pixel.type': 'L1Loss', 'val_evaluator.metrics.PSNR.type': 'PSNR',
                'val_evaluator.metrics.SSIM.type': 'SSIM', 'val_evaluator.metrics.LPIPS.type': 'LPIPS'}
    run = dict(settings=settings, images_per_iteration=8,
               data=dict(train_dataloader=dict(files=1234), val_dataloader=dict(files=5)))
    model = read_model(write_native(tmp_path / 'iter_2000.pth', 2000, run=run), weights)
    rows = [dict(phase='val', iteration=1000, PSNR=1.0), dict(phase='train', iteration=2000, PSNR=2.0),
            {'phase': 'val', 'iteration': 2000, 'PSNR': 20.5, 'SSIM': 0.75, 'LPIPS': None, 'raw/PSNR': 19.0,
             'raw/SSIM': 0.5}]
    (tmp_path / 'log.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows), encoding='utf-8')
    write_diffusers(model, tmp_path / 'out')
    card = (tmp_path / 'out/README.md').read_text(encoding='utf-8')
    assert ('2,000 iterations of 8 images on 1,234 pictures (MixedDataset, ImageFolder `photos`, SyntheticImages). '
            f'Losses: pixel (L1Loss). Weights: {weights}.') in card
    assert f'on 5 pictures (ImageFolder `val`):\n\n| PSNR | SSIM |\n| --- | --- |\n| {score} |\n' in card
