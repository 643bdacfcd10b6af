import pytest

from tests.checkpoints.files import write_native
from tests.helpers import SMALL, build_small
from wfvae_toolkit.checkpoints import CheckpointError, build_autoencoder, read_model, read_model_file
from wfvae_toolkit.models.latent_statistics import LatentStatistics

# which weights

def test_an_earlier_checkpoint_without_an_average_gives_its_raw_weights(tmp_path, make_earlier_model):
    path = make_earlier_model('layernorm_small').write_checkpoint(tmp_path, ema_state_dict=...)
    models = read_model_file(path)
    assert list(models.models) == ['raw']
    assert models.select('ema').weights == models.select('raw').weights == 'raw'


@pytest.mark.parametrize('part', ['encoder.conv_in.weight', 'decoder.conv_in.weight'])
def test_an_average_that_lacks_more_than_its_encoder_is_refused(tmp_path, make_earlier_model, part):
    earlier = make_earlier_model('layernorm_small')
    averaged = {key: value for key, value in earlier.weights.items() if key != part}
    with pytest.raises(CheckpointError, match=f'(?s)ema weights do not fit.*{part}'):
        read_model(earlier.write_checkpoint(tmp_path, ema_state_dict=averaged)).build()


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_no_numbers_are_named(value):
    state = build_small().state_dict()
    state['decoder.conv_in.bias'][1] = value
    with pytest.raises(CheckpointError, match=r'model\.pth: 1 of its \d+ .* first is decoder\.conv_in\.bias'):
        build_autoencoder(SMALL, state, 'model.pth', 'ema')


# statistics of the latents

def test_statistics_of_a_native_checkpoint(tmp_path):
    path = tmp_path / 'a.pth'
    assert read_model(write_native(path)).statistics is None
    write_native(path, latent_statistics='{"mean": [1, 2, 3], "std": [1, 2, 4]}')
    assert read_model(path).statistics == LatentStatistics((1.0, 2.0, 3.0), (1.0, 2.0, 4.0))
    for text in ('{"mean": [1, 2, 3], "std": [1, 2, 0]}', '{"mean": [1]}', '[]', 'x', '3'):
        with pytest.raises(CheckpointError, match='no readable latent_statistics'):
            read_model(write_native(path, latent_statistics=text))
    with pytest.raises(CheckpointError, match='statistics of 2 latent channels for a model of 3'):
        read_model(write_native(path, latent_statistics='{"mean": [1, 2], "std": [1, 2]}')).build()
