"""Mistakes in a config, made from the config itself: each key misspelt, moved one level, and given a wrong type."""

import copy
from functools import partial

from wfvae_toolkit.schema import node_at
from wfvae_toolkit.utils.nodes import Rows

WRONG = {bool: 'yes', int: '1k', float: '1k', str: 3.5, tuple: '1k', list: '1k', dict: 7}


def mistakes(cfg):
    """Yields (kind, dotted path, the right value, function that makes the config with that one mistake) for every key.

    Left out is what is no mistake: another name for a row, and a key that its new place takes as well.
    """
    for path, owners in _places(cfg, (), ()):
        name, owner = path[-1], owners[-1]
        value, dotted = owner[name], '.'.join(map(str, path))
        if isinstance(owner, dict):
            if not _is_row(cfg, path):
                yield 'misspelt', dotted, value, partial(_changed, cfg, path, None, path[:-1], _misspelt(name))
            up = next((depth for depth in range(len(path) - 2, -1, -1) if isinstance(owners[depth], dict)), None)
            if up is not None and not _is_known(cfg, path[:up], name, value):
                yield 'moved up', dotted, value, partial(_changed, cfg, path, None, path[:up], name)
            down = next((key for key, other in owner.items() if isinstance(other, dict) and key != name), None)
            if down is not None and not _is_known(cfg, (*path[:-1], down), name, value):
                yield 'moved down', dotted, value, partial(_changed, cfg, path, None, (*path[:-1], down), name)
        if type(value) in WRONG:
            yield 'wrong type', dotted, value, partial(_changed, cfg, path, WRONG[type(value)], path[:-1], name)


def _places(node, path, owners):
    """(path, the containers on the way) of every key and of every item that is a dict."""
    for name, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(node, dict) or isinstance(value, dict):
            yield (*path, name), (*owners, node)
        if isinstance(value, dict) or isinstance(value, (list, tuple)) and any(isinstance(v, dict) for v in value):
            yield from _places(value, (*path, name), (*owners, node))


def _is_row(cfg, path):
    return len(path) > 1 and isinstance(node_at(cfg, '.'.join(map(str, path[:-1]))), Rows)


def _is_known(cfg, parent, name, value):
    """Whether ``name`` may stand under ``parent`` too; as a row only None may, which takes it out."""
    node = node_at(cfg, '.'.join(map(str, (*parent, name))))
    return node is not None and (value is None or not _is_row(cfg, (*parent, name)))


def _misspelt(name):
    """'weight' -> 'wegiht'; 'lr' -> 'lrr'."""
    middle = len(name) // 2
    swapped = name[:middle - 1] + name[middle] + name[middle - 1] + name[middle + 1:] if len(name) > 3 else name
    return swapped if swapped != name else f'{name}{name[-1]}'


def _changed(cfg, path, value, parent, name):
    """A copy without the key at ``path``, and with ``parent.name`` instead, of its value or another."""
    changed = copy.deepcopy(cfg)
    owner = _at(changed, path[:-1])
    old = owner[path[-1]]
    target = _at(changed, parent)
    if isinstance(owner, dict):
        del owner[path[-1]]
    target[name] = old if value is None else value
    return changed


def _at(node, path):
    for name in path:
        node = node[name]
    return node
