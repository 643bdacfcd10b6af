"""Key names of the earlier implementation (WFVAE2ImageModel, WFIVAE2Model and their PatchGAN) -> ours."""

import re

# Wavelet filters stood in the state dict as buffers; ours are code.
_WAVELET_BUFFER = re.compile(r'(^|\.)(inverse_)?wavelet_transform(_in|_out)?\.(aa|ad|da|dd)$')

_AUTOENCODER_RULES = [(re.compile(pattern), replacement) for pattern, replacement in (
    # LayerNorm stood one module deeper than GroupNorm.
    (r'\.(norm|norm1|norm2|norm_out)\.norm\.(weight|bias)$', r'.\1.\2'),
    (r'\.nin_shortcut\.', '.shortcut.'),
    (r'\.(down_blocks|up_blocks)\.(\d+)\.', r'.stages.\2.'),
    (r'\.res_block\.(\d+)\.', r'.blocks.\1.'),
    (r'\.out_res_block\.', '.out_block.'),
    (r'\.down\.conv\.', '.downsample.conv.'),
    (r'\.up\.conv\.', '.upsample.conv.'),
    (r'\.conv_down\.', '.downsample.conv.'),
    (r'\.conv_up\.', '.upsample.conv.'),
    (r'\.eca\.conv\.', '.attention.conv.'),
    (r'\.in_flow_conv\.', '.flow_in.'),
    (r'\.branch_conv\.', '.branch.'),
    (r'\.out_flow_conv\.0\.', '.flow_block.'),
    (r'\.out_flow_conv\.1\.', '.flow_out.'),
    (r'\.(mid\.\d+)\.q\.', r'.\1.query.'),
    (r'\.(mid\.\d+)\.k\.', r'.\1.key.'),
    (r'\.(mid\.\d+)\.v\.', r'.\1.value.'),
    (r'\.(mid\.\d+)\.proj_out\.', r'.\1.out.'),
)]

_SPECTRAL_NORM = ('weight_orig', 'weight_u', 'weight_v', 'bias')


def convert_earlier_state(state_dict, kind):
    """Earlier state dict -> ours: same tensors under our key names, wavelet buffers dropped.

    Args:
        state_dict (dict): keys as the earlier implementation wrote them, without wrapper prefixes
            such as ``module.``.
        kind (str): ``'autoencoder'`` or ``'discriminator'``.

    Raises:
        ValueError: another ``kind``, or a key that no rule covers.
    """
    if kind == 'autoencoder':
        return {_autoencoder_key(key): value for key, value in state_dict.items() if not _WAVELET_BUFFER.search(key)}
    if kind == 'discriminator':
        return _discriminator_state(state_dict)
    raise ValueError(f"kind={kind!r}: 'autoencoder' or 'discriminator'")


def _autoencoder_key(key):
    if not key.startswith(('encoder.', 'decoder.')):
        raise ValueError(f'{key!r} is no key of an earlier autoencoder: they start with encoder. or decoder.')
    for pattern, replacement in _AUTOENCODER_RULES:
        key = pattern.sub(replacement, key)
    return key


def _discriminator_state(state_dict):
    """``main.N.weight_orig`` -> ``convs.i.weight_orig``; the last conv is ``score``."""
    matches = {key: re.fullmatch(r'(?:discriminator\.)?main\.(\d+)\.(\w+)', key) for key in state_dict}
    strange = [key for key, match in matches.items() if not match or match[2] not in _SPECTRAL_NORM]
    if strange:
        raise ValueError(f'no keys of an earlier spectral-norm PatchGAN: {", ".join(sorted(strange)[:5])}')
    places = sorted({int(match[1]) for match in matches.values()})
    names = {place: f'convs.{i}' for i, place in enumerate(places[:-1])} | {places[-1]: 'score'}
    return {f'{names[int(match[1])]}.{match[2]}': state_dict[key] for key, match in matches.items()}
