import pytest

from tests.helpers import SMALL
from wfvae_toolkit.checkpoints.settings import complete, difference


def test_what_is_left_out_and_its_default_are_the_same():
    written_out = dict(SMALL, wavelet=dict(type='Haar'), norm=dict(type='LayerNorm2d'), decoder_widths=[8, 12],
                       posterior=dict(type='GaussianPosterior'))
    assert complete(SMALL) == complete(written_out)


@pytest.mark.parametrize(('name', 'one', 'each'), [('encoder_layers', 3, [3, 3]), ('decoder_layers', 2, [2, 2])])
def test_one_number_is_a_number_for_each_stage(name, one, each):
    config = dict(SMALL, widths=[8, 12, 12])
    assert complete({**config, name: one}) == complete({**config, name: each})


def test_settings_of_training_alone_do_not_count():
    assert complete(dict(SMALL, checkpoint_activations=True)) == complete(SMALL)


def test_completing_twice_changes_nothing():
    assert complete(complete(SMALL)) == {**complete(SMALL)} != SMALL


def test_a_difference_names_the_settings():
    changed = complete(dict(SMALL, norm=dict(type='RMSNorm2d'), latent_channels=4))
    assert difference(complete(SMALL), changed) == ['latent_channels', 'norm']
    # Without a flow there is no flow of another width.
    assert difference(complete(SMALL), complete(dict(SMALL, energy_flow=False))) == ['energy_flow']
