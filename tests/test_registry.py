import pytest

from wfvae_toolkit.models.wavelets import Haar
from wfvae_toolkit.registry import (
    LOSSES,
    NORM_LAYERS,
    WAVELETS,
    PartRegistry,
    find_part,
    registered_names,
    unregistered_types,
    with_registered_names,
)
from wfvae_toolkit.utils.errors import NameClash, SettingError, UnknownName, UnknownSetting

HAAR = 'wfvae_toolkit.models.wavelets.Haar'


# building

def test_a_name_a_dotted_path_and_a_class_build_the_same_part():
    assert {type(WAVELETS.build(dict(type=kind))) for kind in ('Haar', HAAR, Haar)} == {Haar}


def test_a_config_replaces_what_its_owner_passes():
    assert NORM_LAYERS.build(dict(type='LayerNorm2d'), channels=4).weight.shape == (4,)
    assert NORM_LAYERS.build(dict(type='LayerNorm2d', channels=8), channels=4).weight.shape == (8,)


@pytest.mark.parametrize(('config', 'message'), [
    ('Haar', r"expected dict\(type='Name', ...\), got 'Haar'"),
    (dict(name='db2'), r"expected dict\(type='Name', ...\)"),
    (dict(type=3), 'type=3: expected a name, one of .*Haar'),
    (dict(type='DiscreteWavelet'), "'name' is missing; its settings are"),
    (dict(type='DiscreteWavelet', name='db2', level=1), "no setting is called 'level'; its settings are"),
])
def test_settings_that_do_not_fit_name_those_that_do(config, message):
    with pytest.raises(UnknownSetting, match=message):
        WAVELETS.build(config)


def test_a_value_of_another_kind_is_refused():
    with pytest.raises(SettingError, match="^weight: 'much': a number is needed"):
        LOSSES.build(dict(type='L1Loss', weight='much'))


# finding

@pytest.mark.parametrize(('name', 'message'), [
    ('Harr', "no wavelet is called 'Harr'; did you mean 'Haar'.*Registered: .*PixelUnshuffle"),
    ('wfvae_toolkit.models.wavelets.Harr', 'wavelet .*Harr'),
    ('no_such_package.Haar', 'no_such_package'),
])
def test_a_name_that_leads_nowhere_says_why(name, message):
    with pytest.raises(UnknownName, match=message):
        find_part(name, WAVELETS)


def test_two_parts_of_one_name_clash_unless_one_is_meant_to_replace_the_other():
    registry = PartRegistry('thing')
    first = registry.register_module(name='Same')(type('First', (), {}))
    second = type('Second', (), {})
    with pytest.raises(NameClash, match="two parts of the registry 'thing' are called 'Same'"):
        registry.register_module(name='Same')(second)
    assert registry.get('Same') is first
    registry.register_module(name='Same', force=True)(second)
    assert registry.get('Same') is second


# configs that files hold

def test_parts_are_kept_by_their_registered_names():
    config = dict(type='WFVAE2Image', wavelet=dict(type=Haar), blocks=[dict(type=HAAR), dict(type='collections.deque')])
    assert with_registered_names(config) == dict(
        type='WFVAE2Image', wavelet=dict(type='Haar'), blocks=[dict(type='Haar'), dict(type='collections.deque')])


def test_types_that_no_registry_holds_are_found_at_any_depth():
    config = dict(type='Haar', deep=[dict(type='subprocess.Popen', args=(dict(type='os.system'),))])
    assert unregistered_types(config) == ['subprocess.Popen', 'os.system']
    assert unregistered_types(dict(type='L1Loss'), [WAVELETS]) == ['L1Loss']
    assert 'L1Loss' in registered_names(LOSSES)
