import pytest

from tests.helpers import SMALL, build_small, count_parameters
from wfvae_toolkit.analysis.summary import format_summary, summarize_model
from wfvae_toolkit.registry import DISCRIMINATORS

DISCRIMINATOR = dict(type='PatchDiscriminator', num_layers=1, width=8)


def test_parts_add_up_to_their_network():
    summary = summarize_model(dict(autoencoder=SMALL, discriminator=DISCRIMINATOR), size=16)
    networks = {'encoder': build_small().encoder, 'decoder': build_small().decoder,
                'discriminator': DISCRIMINATORS.build(DISCRIMINATOR)}
    for name, network in networks.items():
        parts = [count for part, count in summary.parts.items() if part.startswith(f'{name}.')]
        assert summary.parts[name] == sum(parts) == count_parameters(network)
    assert (summary.downsample_factor, summary.latent_shape) == (4, (3, 4, 4))


def test_arithmetic_of_convolutions_grows_with_the_area():
    config = dict(autoencoder=dict(SMALL, mid_blocks=[]))  # attention grows faster
    small, middle, large = (summarize_model(config, size) for size in (16, 32, 64))
    for flops in ('encoder_flops', 'decoder_flops'):
        first, second, third = (getattr(summary, flops) for summary in (small, middle, large))
        # Differences, because what is computed of the weights alone does not depend on the size.
        assert third - second == 4 * (second - first) > 0


def test_a_size_that_the_factor_does_not_divide_is_refused():
    with pytest.raises(ValueError, match='18x18 px: use multiples of 4'):
        summarize_model(dict(autoencoder=SMALL), size=18)


def test_the_table_names_every_part_and_the_compression():
    summary = summarize_model(dict(autoencoder=SMALL), size=16)
    text = format_summary(summary)
    assert all(name in text for name in summary.parts)
    assert 'latent 3x4x4 (f4), 16 image values a latent value' in text
