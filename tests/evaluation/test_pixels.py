"""The arithmetic by which images become 8 bits; tests/evaluation/test_protocols.py compares it with the scripts."""

import pytest
import torch

from wfvae_toolkit.evaluation import ReconstructionEvaluator
from wfvae_toolkit.evaluation.pixels import PIXELS, TITLES, find_pixels
from wfvae_toolkit.utils.errors import SettingError

IMAGE = torch.tensor([-1.2, -1.0, 0.0, 0.3, 1.0, 1.2])
LEVELS = {'rounded': [0, 0, 128, 166, 255, 255], 'va-vae': [0, 0, 128, 166, 255, 255],
          'dc-ae': [0, 0, 128, 166, 255, 255], 'rae': [0, 0, 127, 165, 255, 255], 'ldm': [0, 0, 127, 165, 255, 255]}


@pytest.mark.parametrize('mode', LEVELS)
def test_reconstructions_become_these_levels(mode):
    _, reconstruction = PIXELS[mode](IMAGE, IMAGE)
    assert (reconstruction * 255).round().int().tolist() == LEVELS[mode]


def test_targets_of_8_bits_keep_their_levels_but_for_those_that_ldm_cuts():
    levels = torch.arange(256)
    image = (levels / 255 - 0.5) / 0.5
    for mode in ('rounded', 'va-vae', 'dc-ae', 'rae'):
        assert torch.equal((PIXELS[mode](image, image)[0] * 255).round().int(), levels.int()), mode
    cut = levels - (PIXELS['ldm'](image, image)[0] * 255).round().int()
    assert set(cut.tolist()) == {0, 1}


def test_the_others_are_continuous():
    clamped, raw = (PIXELS[mode](IMAGE, IMAGE)[1] for mode in ('clamped', 'raw'))
    assert torch.equal(clamped, raw.clamp(0, 1))
    assert raw.min() < 0 < 1 < raw.max()


def test_each_row_of_an_evaluator_has_its_own():
    rows = {mode: dict(type='PSNR', pixels=mode) for mode in PIXELS}
    evaluator = ReconstructionEvaluator({**rows, 'default': dict(type='PSNR'), 'all': dict(type='PooledPSNR',
                                                                                         pixels='raw')})
    target = torch.linspace(-1, 1, 3 * 8 * 8).reshape(1, 3, 8, 8)
    evaluator.process('', [0], ['a'], target, target * 1.1 + 0.05)
    summary = evaluator.summarize()
    values = {name: entry['mean'] for name, entry in summary.metrics.items()}
    assert values['default'] == values['rounded']
    assert values['all'] == pytest.approx(values['raw'], abs=1e-9)
    assert len({values[name] for name in ('rounded', 'clamped', 'raw', 'rae', 'ldm')}) == 5
    for mode in PIXELS:
        assert (TITLES[mode] in summary.protocol[mode]) == (mode != 'rounded')


def test_another_name_is_refused():
    with pytest.raises(SettingError, match="pixels='8 bits': use one of rounded, clamped"):
        find_pixels('8 bits')
    with pytest.raises(SettingError, match=r"metrics\.PSNR: pixels='8 bits'"):
        ReconstructionEvaluator(dict(PSNR=dict(type='PSNR', pixels='8 bits')))
