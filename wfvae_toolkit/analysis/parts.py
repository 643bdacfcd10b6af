"""What a config can name: every registered part, where it comes from and what it takes."""

import inspect
import textwrap
from dataclasses import asdict, dataclass
from importlib import metadata

import wfvae_toolkit
from wfvae_toolkit import registry as registries
from wfvae_toolkit.registry import BY_NAME, registered_names
from wfvae_toolkit.utils.errors import UnknownName
from wfvae_toolkit.utils.kinds import parameters_of
from wfvae_toolkit.utils.plugins import GROUP, import_modules, load_plugins, place_of

NOT_INSTALLED = 'not installed'


@dataclass
class Part:
    """``settings``: name -> default as text, None where one must be given; ``inherited``: found through MMEngine's.

    ``package`` and ``version``: of the distribution, or the top-level module and 'not installed'. ``place``: file:line.
    """

    registry: str
    name: str
    package: str
    version: str
    module: str
    place: str
    settings: dict[str, str | None]
    description: str
    inherited: bool = False


def list_parts(registry=None, imports=()):
    """Parts of ``registry``, its name or its constant's ('mid block', 'MID_BLOCKS'), or of all, by registry and name.

    Plug-ins are loaded first, then the modules in ``imports``.

    Raises:
        KeyError: no such registry.
        ImportError: one of ``imports`` cannot be imported.
    """
    load_plugins()
    import_modules(imports)
    owners = _Owners()
    parts = []
    for name, own in BY_NAME.items() if registry is None else [_find(registry)]:
        for found, inherited in ((own, False), (own.parent, True)):
            if found is not None:
                parts += [_describe(name, part, found.module_dict[part], owners, inherited)
                          for part in sorted(registered_names(found)) if not (inherited and part in own.module_dict)]
    return parts


def format_parts(parts):
    """Parts -> text: origin, purpose and settings of each; of those that MMEngine brings, names alone."""
    own = [part for part in parts if not part.inherited]
    widths = [max((len(text) for text in column), default=0)
              for column in zip(*((part.name, _origin(part)) for part in own), strict=True)]
    lines = []
    for name in dict.fromkeys(part.registry for part in parts):
        lines += ['', name]
        for part in own:
            if part.registry == name:
                cells = [cell.ljust(width) for cell, width in zip((part.name, _origin(part)), widths, strict=True)]
                lines += ['  ' + '  '.join([*cells, part.module]), *_indented(part.description),
                          *_indented(', '.join(_setting(*item) for item in part.settings.items()) or 'no settings')]
        through = [part.name for part in parts if part.registry == name and part.inherited]
        if through:
            lines.append(f'  and {len(through)} through MMEngine: {", ".join(through)}')
    return '\n'.join(lines[1:])


def as_records(parts):
    """Parts -> list of dicts for a JSON file."""
    return [asdict(part) for part in parts]


def _find(wanted):
    constants = {constant: name for constant, value in vars(registries).items()
                 for name, registry in BY_NAME.items() if value is registry}
    name = constants.get(wanted, wanted)
    if name not in BY_NAME:
        raise UnknownName(f'no registry is called {wanted!r}; there are: {", ".join(BY_NAME)}')
    return name, BY_NAME[name]


def _describe(registry, name, part, owners, inherited):
    package, version = owners.of(part.__module__)
    return Part(registry, name, package, version, part.__module__, place_of(part),
                _settings(part, BY_NAME[registry]),
                (inspect.cleandoc(part.__doc__ or '').splitlines() or [''])[0], inherited)


def _settings(part, registry):
    return {name: None if parameter.default is parameter.empty else repr(parameter.default)
            for name, parameter in parameters_of(part).items()
            if name not in (*registry.context, *registry.offers) and parameter.kind is not parameter.VAR_KEYWORD}


class _Owners:
    """Module -> distribution and version."""

    def __init__(self):
        self._distributions = metadata.packages_distributions()
        # A plug-in may be a single file, or installed for editing: its entry point knows whose it is.
        self._distributions.update({entry.module.partition('.')[0]: [entry.dist.name]
                                    for entry in metadata.entry_points(group=GROUP)})

    def of(self, module):
        top = module.partition('.')[0]
        if top == wfvae_toolkit.__name__:
            return top, wfvae_toolkit.__version__
        if top not in self._distributions:
            return top, NOT_INSTALLED
        name = self._distributions[top][0]
        return name, metadata.version(name)


def _origin(part):
    return part.place if part.version == NOT_INSTALLED else f'{part.package} {part.version}'


def _setting(name, default):
    return name if default is None else f'{name}={default}'


def _indented(text):
    return textwrap.wrap(text, 116, initial_indent='      ', subsequent_indent='        ')
