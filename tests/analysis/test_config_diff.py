from wfvae_toolkit.analysis.config_diff import Change, compare_configs, format_changes


def test_added_removed_and_changed_keys():
    base = dict(a=1, b=dict(c=2, d=dict(type='X', e=3)), g=None)
    other = dict(b=dict(c=4, f=[5]), a=1, g=None)
    assert compare_configs(base, other) == [
        Change('b.c', '2', '4'), Change('b.d', "dict(type='X', e=3)", None), Change('b.f', None, '[5]')]


def test_none_is_a_value():
    assert compare_configs(dict(a=None), {}) == [Change('a', 'None', None)]
    assert compare_configs(dict(a=dict(b=1)), dict(a=None)) == [Change('a', 'dict(b=1)', 'None')]


def test_lists_of_parts_are_entered_when_they_are_of_one_length():
    base = dict(steps=[dict(type='A', size=1), dict(type='B')])
    assert compare_configs(base, dict(steps=[dict(type='A', size=2), dict(type='B')])) == [
        Change('steps.0.size', '1', '2')]
    change, = compare_configs(base, dict(steps=[dict(type='B')]))
    assert (change.key, change.after) == ('steps', "[dict(type='B')]")


def test_lists_of_numbers_are_one_value_and_tuples_are_lists():
    assert compare_configs(dict(a=(1, 2), b=[(1,)]), dict(a=[1, 2], b=([1],))) == []
    assert compare_configs(dict(a=(1, 2)), dict(a=[1, 3])) == [Change('a', '(1, 2)', '[1, 3]')]
    assert compare_configs(dict(a=[]), dict(a=[])) == []


def test_applied_backwards_the_signs_turn():
    one, two = dict(a=1, b=2), dict(a=3, c=4)
    there, back = compare_configs(one, two), compare_configs(two, one)
    assert {(c.key, c.before, c.after) for c in there} == {(c.key, c.after, c.before) for c in back}
    assert format_changes(there).splitlines() == ['~ a  1 -> 3', '- b  2', '+ c  4']
    assert format_changes([]) == 'no difference'
