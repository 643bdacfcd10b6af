import pytest

from wfvae_toolkit.analysis.tiling import TilingCost, format_costs, measure_tiling

SETTINGS = ("model = dict(type='AutoencoderTraining', autoencoder=dict(type='WFVAE2Image', latent_channels=2, "
            'widths=(64, 8), flow_width=4, mid_blocks=[]), losses={}, discriminator=None)')


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'small.py'
    path.write_text(SETTINGS, encoding='utf-8')
    return path


@pytest.mark.slow
def test_tiled_agrees_with_untiled(config):
    untiled, tiled = measure_tiling(config, [(1024, 512)], tile=64)
    assert (untiled.width, untiled.height, untiled.tile, tiled.tile) == (1024, 512, None, 64)
    assert untiled.latent_error is untiled.image_error is None
    assert max(tiled.latent_error, tiled.image_error) < 1e-4
    feature_map_bytes = 4 * 64 * 512 * 256
    # Its own process each: what the first one took does not show in the second.
    assert 100e6 < tiled.peak_memory_bytes < untiled.peak_memory_bytes - feature_map_bytes


@pytest.mark.slow
def test_tool_imports_the_parts_of_a_config_in_each_process(tool, config, tmp_path, monkeypatch, capsys):
    (tmp_path / 'tiling_part.py').write_text(
        'from wfvae_toolkit.models.wavelets import Haar\nfrom wfvae_toolkit.registry import WAVELETS\n\n'
        "@WAVELETS.register_module(name='TilingHaar')\nclass TilingHaar(Haar):\n    pass\n", encoding='utf-8')
    config.write_text(SETTINGS.replace('mid_blocks', "wavelet=dict(type='TilingHaar'), mid_blocks"), encoding='utf-8')
    monkeypatch.syspath_prepend(tmp_path)
    tool('analysis_tools/tiling_table')(config, '--sizes', '24x16', '--tile', 16, '--tiled-only',
                                        '--import', 'tiling_part')
    assert '24x16' in capsys.readouterr().out


@pytest.mark.slow
def test_tool_prints_a_row_a_run(tool, config, capsys):
    tool('analysis_tools/tiling_table')(config, '--sizes', '24x16', '8x12', '--tile', 16, '--tiled-only')
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [['24x16', '16'], ['8x12', '16']]
    with pytest.raises(SystemExit, match='^error: 30x16 px: use multiples of 4'):
        tool('analysis_tools/tiling_table')(config, '--sizes', '30x16', '--tiled-only')


def test_table():
    text = format_costs([TilingCost(512, 768, None, 10.0, 20.0, 2**30),
                         TilingCost(512, 768, 256, 11.0, 21.0, 2**29, 1e-6, 2.5e-6)])
    assert [line.split() for line in text.splitlines()[1:]] == [
        ['512x768', 'none', '10.0', '20.0', '1.00', '-', '-'],
        ['512x768', '256', '11.0', '21.0', '0.50', '1.0e-06', '2.5e-06']]
