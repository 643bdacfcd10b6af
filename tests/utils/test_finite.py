import pytest
import torch

from wfvae_toolkit.utils.errors import NotFinite
from wfvae_toolkit.utils.finite import all_finite, check_finite

BAD = [float('nan'), float('inf'), -float('inf')]


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize('bad', BAD)
def test_one_bad_value_anywhere_is_seen(dtype, bad):
    for place in (0, 11, 23):
        values = torch.linspace(-6e4, 6e4, 24).reshape(2, 3, 4).to(dtype)
        assert all_finite(values, values)
        values.view(-1)[place] = bad
        assert not all_finite(torch.zeros(1), values)
    assert all_finite(torch.zeros(0, 3))


@pytest.mark.parametrize(('dtype', 'advice'), [
    (torch.float16, 'in float16; float16 ends at 65504: use bfloat16 or float32'),
    (torch.bfloat16, 'in bfloat16; try float32'),
    (torch.float32, 'in float32; no wider dtype would help: the weights are damaged')])
def test_the_error_names_picture_stage_dtype_and_what_works(dtype, advice):
    latents, images = torch.zeros(3, 2, 2), torch.zeros(3, 4, 4)
    check_finite({'encoder': latents, 'decoder': images}, dtype)
    images[1:, 0, 0] = float('inf')
    with pytest.raises(NotFinite) as error:
        check_finite({'encoder': (latents, latents), 'decoder': images}, dtype, ['a.png', 'b.png', 'c.png'])
    assert str(error.value).startswith('b.png (and 1 more of its batch): the decoder gave NaN or infinity in ')
    assert advice in str(error.value)
    latents[2] = float('nan')
    with pytest.raises(NotFinite, match='^picture 3 of 3: the encoder gave NaN'):
        check_finite({'encoder': latents, 'decoder': images}, dtype)
