import pytest

from tests.helpers import trained_small
from wfvae_toolkit.checkpoints import read_model, write_statistics
from wfvae_toolkit.checkpoints.card import MARK
from wfvae_toolkit.checkpoints.to_diffusers import write_diffusers
from wfvae_toolkit.models.latent_statistics import LatentStatistics

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
    write_diffusers(trained_small(), tmp_path / 'out')
    card = tmp_path / 'out/README.md'
    before = card.read_text(encoding='utf-8')
    if edited:
        before = before.replace(MARK, 'My model.')
        card.write_text(before, encoding='utf-8')
    write_statistics(read_model(tmp_path / 'out'), STATISTICS, {'largest_activations': activations(9.5)})
    assert (card.read_text(encoding='utf-8') == before) == edited
    assert edited or '| float16 | yes | largest activations in float32: encoder 1 (encoder.conv_in), decoder 9.5' in (
        card.read_text(encoding='utf-8'))
