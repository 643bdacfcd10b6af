from pathlib import Path
from typing import Literal

import pytest

from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.kinds import check_kinds, describe, fits, kinds_of, misfit_of, parameters_of, takes_any_name


class Parent:
    def __init__(self, size, rate=0.1, mode: Literal['fast', 'exact'] = 'fast'):
        pass


class Child(Parent):
    """Passes what it does not know to its parent, whose ``size`` it gives itself."""

    def __init__(self, widths=(8, 16), folder: Path | None = None, flag=False, **kwargs):
        super().__init__(3, **kwargs)


class Open:
    def __init__(self, **settings):
        pass


def kinds(part, name):
    return kinds_of(parameters_of(part)[name])


# which settings there are

def test_settings_that_go_to_the_parent_are_settings_of_the_child():
    assert sorted(parameters_of(Child)) == ['flag', 'folder', 'mode', 'rate', 'widths']
    assert not takes_any_name(Child)


def test_a_part_that_keeps_its_keywords_takes_any_name():
    assert takes_any_name(Open)


# of which kind they are

@pytest.mark.parametrize(('part', 'name', 'good', 'bad'), [
    (Parent, 'rate', (1, 0.5), ('0.5', True, None, [1.0])),
    (Parent, 'mode', ('fast', 'exact'), ('slow', 1)),
    (Child, 'widths', ([1, 2], (1,)), (8, '8', {'a': 1})),
    (Child, 'folder', ('a/b', Path('a'), None), (3, True)),
    (Child, 'flag', (True, False), (1, 'yes', None)),
])
def test_annotation_or_default_shows_the_kind(part, name, good, bad):
    assert all(fits(value, kinds(part, name)) for value in good)
    assert not any(fits(value, kinds(part, name)) for value in bad)


def test_without_annotation_and_default_anything_fits():
    assert kinds(Parent, 'size') is None
    assert fits(object(), None)


def test_defaults_of_other_peoples_parts_show_nothing():
    rate = parameters_of(Parent)['rate']
    assert misfit_of('auto', rate) == 'a number is needed, such as 0.1'
    assert misfit_of('auto', rate, by_default=False) is None


def test_a_default_fits_whatever_its_annotation_says():
    def part(count: int = None):
        pass
    assert misfit_of(None, parameters_of(part)['count']) is None
    assert misfit_of('3', parameters_of(part)['count']) == 'a whole number is needed'


def test_the_error_names_the_setting():
    check_kinds(Child, dict(widths=[1], rate=1))
    with pytest.raises(SettingError, match=r"^rate: '1': a number is needed, such as 0.1"):
        check_kinds(Child, dict(rate='1'))


def test_a_description_shows_an_example():
    assert describe((list,), (8, 16)) == 'a list is needed, such as [8, 16]'
    assert describe((str, Path)) == 'a path is needed'
