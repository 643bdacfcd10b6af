"""The source of AutoencoderWFVAE2 and all that it needs of this package, as one file.

diffusers loads such a file from a model's own folder (``trust_remote_code=True``), where this package is not
installed. It is put together from the modules themselves, so there is one copy of the network.
"""

import ast
import functools
import importlib.util

MODELLING_FILE = 'modelling_wfvae2'
PACKAGE = 'wfvae_toolkit'
# The registries find parts by name, so no import leads to all of these.
_ROOTS = (f'{PACKAGE}.models.wavelets', f'{PACKAGE}.models.layers', f'{PACKAGE}.models.diffusers_model')
# What stands in HEAD instead of these.
_REPLACED = (f'{PACKAGE}.registry', f'{PACKAGE}.utils.torchvision_shim', f'{PACKAGE}.models.modelling_file')
_ERRORS = ('UserError', 'SettingError', 'is_number')

HEAD = '''# Copyright the wfvae_toolkit authors.
# Licensed under the Apache License, Version 2.0: http://www.apache.org/licenses/LICENSE-2.0
#
# Made by wfvae_toolkit {version} from its modules: AutoencoderWFVAE2 for diffusers, without the toolkit. Do not edit.

{imports}

MODELLING_FILE = {name!r}
# Read now: the next model that diffusers loads may replace the file.
_SOURCE = Path(__file__).read_text(encoding='utf-8')


def modelling_source():
    return _SOURCE


class Registry(dict):
    """Parts by class name."""

    def register_module(self):
        def register(cls):
            self[cls.__name__] = cls
            return cls
        return register

    def build(self, cfg, **context):
        settings = {{**context, **cfg}}
        return self[settings.pop('type')](**settings)


def unregistered_types(node, registries):
    values = node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ()
    own = [node['type']] if isinstance(node, dict) and 'type' in node else []
    return ([name for name in own if not any(name in registry for registry in registries)]
            + [name for value in values for name in unregistered_types(value, registries)])


{registries}
'''

# A pipeline writes the module of a part into model_index.json, and looks for a file of that name beside the weights.
TAIL = '''
AutoencoderWFVAE2.__module__ = MODELLING_FILE
sys.modules[MODELLING_FILE] = sys.modules[__name__]
'''


@functools.cache
def modelling_source():
    """Python source that needs torch and diffusers alone.

    Raises:
        ValueError: the modules cannot stand in one file; the message names the line.
    """
    modules = _modules()
    imports, registries, bodies, owners = {'import sys', 'from pathlib import Path'}, set(), [], {}
    for name, (source, tree) in modules.items():
        for statement in tree.body:
            if isinstance(statement, (ast.Import, ast.ImportFrom)):
                target = _module_of(statement, name)
                if target is None:
                    imports.add(ast.unparse(statement))
                elif target == _REPLACED[0]:
                    registries |= {alias.name for alias in statement.names if alias.name.isupper()}
            for bound in _bound_names(statement):
                if bound != '__all__' and owners.setdefault(bound, name) != name:
                    raise ValueError(f'{bound} is defined in {name} and in {owners[bound]}; one file can hold only '
                                     'one of them')
        body = _body(name, source, tree)
        if body:
            bodies.append(f'# {name}\n\n{body}')
    version = importlib.import_module(PACKAGE).__version__
    head = HEAD.format(version=version, name=MODELLING_FILE, imports='\n'.join(sorted(imports, key=_import_order)),
                       registries='\n'.join(f'{registry} = Registry()' for registry in sorted(registries)))
    source = '\n\n'.join([head, *(f'{body}\n' for body in bodies)]) + TAIL
    ast.parse(source)
    return source


def _modules():
    """Name -> (source, tree) of the roots and what they import of this package, each after all that it needs."""
    found = {}

    def visit(name):
        if name in found or name in _REPLACED:
            return
        spec = importlib.util.find_spec(name)
        source = spec.loader.get_source(name)
        tree = ast.parse(source)
        if name == f'{PACKAGE}.utils.errors':
            tree.body = [node for node in tree.body
                         if isinstance(node, ast.Import) or getattr(node, 'name', None) in _ERRORS]
        elif name.startswith(f'{PACKAGE}.utils'):
            raise ValueError(f'{name}: the models of an exported folder cannot use it')
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)) and _module_of(node, name) is not None:
                if node not in tree.body or any(alias.asname for alias in node.names):
                    raise ValueError(f'{name}, line {node.lineno}: import names of {PACKAGE} at the top, unchanged')
                visit(_module_of(node, name))
        found[name] = (source, tree)

    for root in _ROOTS:
        visit(root)
    return found


def _module_of(statement, importer):
    """The module of this package that an import statement names; None: of another package."""
    if isinstance(statement, ast.Import):
        name = statement.names[0].name
    elif not statement.level:
        name = statement.module
    else:
        is_package = importlib.util.find_spec(importer).submodule_search_locations is not None
        parents = importer.split('.')[:None if is_package and statement.level == 1 else is_package - statement.level]
        name = '.'.join([*parents, *filter(None, [statement.module])])
    return name if name.partition('.')[0] == PACKAGE else None


def _bound_names(statement):
    """Names that a top-level statement other than an import makes."""
    if isinstance(statement, (ast.ClassDef, ast.FunctionDef)):
        return [statement.name]
    if isinstance(statement, ast.Assign):
        return [target.id for target in statement.targets]
    return []


def _body(name, source, tree):
    """The text of a module without docstring, imports, calls and ``__all__``; comments stay."""
    lines = source.splitlines()
    parts = []
    for statement in tree.body:
        if isinstance(statement, (ast.Import, ast.ImportFrom, ast.Expr)) or '__all__' in _bound_names(statement):
            continue
        start = min([statement.lineno, *(node.lineno for node in getattr(statement, 'decorator_list', ()))]) - 1
        while start and lines[start - 1].startswith('#'):
            start -= 1
        gap = '\n\n\n' if isinstance(statement, (ast.ClassDef, ast.FunctionDef)) else '\n'
        parts += [gap, '\n'.join(lines[start:statement.end_lineno])]
    return ''.join(parts).strip('\n')


def _import_order(line):
    """Standard library, then torch and diffusers; ``import`` before ``from``."""
    return line.split()[1].partition('.')[0] in ('torch', 'diffusers'), line.startswith('from'), line
