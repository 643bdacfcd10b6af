"""What a config changes against another one, by dotted key."""

from dataclasses import dataclass

_ABSENT = object()


@dataclass
class Change:
    """``before`` and ``after`` are values as text; None where there is no such key (the value None is ``'None'``)."""

    key: str
    before: str | None
    after: str | None


def compare_configs(base, other):
    """Two nested dicts -> changes from ``base`` to ``other``, in the order of ``base`` and then of ``other``.

    Dicts are entered, and lists of the same length; a row that is whole on one side alone is one change. Tuples and
    lists of equal values are equal.
    """
    return list(_changes(base, other, ''))


def format_changes(changes):
    """Changes -> text: ``+`` a new key, ``-`` one that went, ``~`` another value."""
    if not changes:
        return 'no difference'
    width = max(len(change.key) for change in changes)
    return '\n'.join(f'{_sign(change)} {change.key:<{width}}  {_values(change)}' for change in changes)


def _changes(before, after, key):
    if isinstance(before, dict) and isinstance(after, dict):
        names = [*before, *(name for name in after if name not in before)]
        pairs = [(name, before.get(name, _ABSENT), after.get(name, _ABSENT)) for name in names]
    elif _is_list(before) and _is_list(after) and len(before) == len(after) and any(map(_is_node, [*before, *after])):
        pairs = list(zip(range(len(before)), before, after, strict=True))
    else:
        if _plain(before) != _plain(after):
            yield Change(key, _text(before), _text(after))
        return
    for name, old, new in pairs:
        yield from _changes(old, new, f'{key}.{name}' if key else str(name))


def _is_list(value):
    return isinstance(value, (list, tuple))


def _is_node(value):
    return isinstance(value, (dict, list, tuple))


def _plain(value):
    """Tuples as lists, at every depth."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if _is_list(value) else value


def _text(value):
    if value is _ABSENT:
        return None
    if isinstance(value, dict):
        return f'dict({", ".join(f"{name}={_text(item)}" for name, item in value.items())})'
    if isinstance(value, list):
        return f'[{", ".join(map(_text, value))}]'
    return repr(value)


def _sign(change):
    return '+' if change.before is None else '-' if change.after is None else '~'


def _values(change):
    return ' -> '.join(text for text in (change.before, change.after) if text is not None)
