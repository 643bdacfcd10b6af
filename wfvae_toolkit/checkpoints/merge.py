"""One model from the encoder of one and the decoder of another."""

from .settings import complete, difference
from .trained import CheckpointError, TrainedModel

# Settings of WFVAE2Image that each half has for itself.
_OF_ENCODER = ('widths', 'encoder_layers', 'flow_width', 'downsample')
_OF_DECODER = ('decoder_widths', 'decoder_layers', 'decoder_flow_width', 'upsample', 'output_activation')
_HALVES = ('encoder.', 'decoder.')


def merge_models(encoder, decoder):
    """TrainedModels of which one gives its encoder, the other its decoder -> TrainedModel.

    Statistics come from the encoder's model, since the encoder makes the latents. Whether the decoder understands them
    is for the user to know: it does where it was trained on this encoder, frozen.

    Raises:
        CheckpointError: settings that both halves share and that differ, such as latent channels, factor, norm or
            wavelet; or weights that do not fit the merged settings.
    """
    first, second = complete(encoder.config), complete(decoder.config)
    if first['type'] == second['type'] == 'WFVAE2Image':
        if len(first['widths']) != len(second['widths']):
            raise CheckpointError(f'{encoder.path} has factor {2 ** len(first["widths"])}, {decoder.path} factor '
                                  f'{2 ** len(second["widths"])}; both must have the same factor')
        config = {**first, **{name: second[name] for name in _OF_DECODER}}
        own = {*_OF_ENCODER, *_OF_DECODER}
        shared = [name for name in difference(first, second) if name not in own]
    else:
        config, shared = dict(encoder.config), difference(first, second)
    if shared:
        different = ', '.join(f'{name} ({first.get(name)!r} and {second.get(name)!r})' for name in shared)
        raise CheckpointError(f'{encoder.path} and {decoder.path} differ in {different}; one model cannot have both')
    if not config.get('energy_flow', True):
        del config['flow_width'], config['decoder_flow_width']  # None where there is no flow
    state = {name: value for part, model in zip(_HALVES, (encoder, decoder), strict=True)
             for name, value in model.state.items() if name.startswith(part)}
    outside = sorted({name for model in (encoder, decoder) for name in model.state if not name.startswith(_HALVES)})
    if outside:
        raise CheckpointError(f'{outside[0]} belongs to neither encoder nor decoder; such models are not merged')
    merged = TrainedModel(config, state, encoder.statistics, encoder.path, 'merged', encoder.weights,
                          {'encoder': str(encoder.path), 'decoder': str(decoder.path)})
    merged.build()
    return merged
