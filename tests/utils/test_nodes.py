"""The nodes of a schema, on a schema of four keys; that of the toolkit: tests/test_schema.py."""

import pytest

from wfvae_toolkit.registry import WAVELETS
from wfvae_toolkit.utils.errors import SettingError, UserError
from wfvae_toolkit.utils.nodes import Fields, Items, Part, Rows, Schema, Value

SCHEMA = Schema(dict(
    count=Value((int,), default=3, example=5),
    loop=Fields(dict(length=Value((int, type(None)))), example='dict(length=9)'),
    wavelets=Rows(Part(WAVELETS)),
    chain=Items(Part(WAVELETS), default=[])), {})
GOOD = dict(count=4, loop=dict(length=9), wavelets=dict(one=dict(type='DiscreteWavelet', name='db2'), none=None),
            chain=[dict(type='Haar')])


def check(**changes):
    SCHEMA.check({**GOOD, **changes})


def test_a_config_that_fits_passes():
    check()


@pytest.mark.parametrize(('changes', 'message'), [
    (dict(count='4'), 'count: .*a whole number is needed, such as 5'),
    (dict(loop=3), r'loop: .*use dict\(length=9\)'),
    (dict(loop=dict(length='x')), 'loop.length: '),
    (dict(wavelets=[1]), 'wavelets: .*use a dict of named rows'),
    (dict(chain=dict(type='Haar')), 'chain: .*a list is needed'),
])
def test_a_value_of_another_kind_is_named_with_what_would_fit(changes, message):
    with pytest.raises(SettingError, match=message):
        check(**changes)


@pytest.mark.parametrize(('changes', 'message'), [
    (dict(cuont=3), 'did you mean count'),
    (dict(loop=dict(lenght=3)), 'did you mean loop.length'),
    (dict(wavelets=dict(one=dict(type='DiscreteWavelet', nmae='db2'))), 'did you mean wavelets.one.name'),
    (dict(chain=[dict(tpye='Haar')]), 'did you mean type by tpye'),
])
def test_a_misspelt_key_names_the_nearest_at_any_depth(changes, message):
    with pytest.raises(UserError, match=message):
        check(**changes)


def test_effective_settings_are_those_of_the_config_over_the_defaults():
    found = SCHEMA.effective(dict(wavelets=GOOD['wavelets']))
    assert found['count'] == 3
    assert found['wavelets.one.name'] == 'db2'
    assert found['wavelets.none'] is None
