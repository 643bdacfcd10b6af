"""Command-line arguments that several tools share."""

import argparse
import ast
import contextlib
import sys

from .errors import UserError


def add_config_arguments(parser):
    """``CONFIG`` and ``--cfg-options key=value ...``, the latter a dict of dotted keys or None."""
    parser.add_argument('config', metavar='CONFIG', help='a file, or package::file.py, such as '
                                                         'wfvae_toolkit::wfvae2_demo.py')
    parser.add_argument('--cfg-options', nargs='+', action=ParseOptions, metavar='KEY=VALUE',
                        help='override settings: model.losses.kl.weight=1e-5 model.losses.wavelet=None')


def add_launcher_argument(parser):
    """``--launcher``: who started the processes."""
    parser.add_argument('--launcher', choices=('none', 'pytorch', 'slurm'), default='none',
                        help='pytorch: started by torchrun; slurm: by srun')


class ParseOptions(argparse.Action):
    """``a.b=1 c=[1,2] d=name`` -> {'a.b': 1, 'c': [1, 2], 'd': 'name'}: Python literals, else text."""

    def __call__(self, parser, namespace, values, option_string=None):
        options = dict(getattr(namespace, self.dest) or {})
        for item in values:
            key, separator, text = item.partition('=')
            if not separator or not key:
                parser.error(f'{option_string} {item}: expected KEY=VALUE')
            options[key] = parse_value(text)
        setattr(namespace, self.dest, options)


def parse_value(text):
    """A Python literal (None, True, 1e-5, [1, 2], dict) or the text itself; true/false/none in any case."""
    spoken = {'true': True, 'false': False, 'none': None}
    if text.lower() in spoken:
        return spoken[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


@contextlib.contextmanager
def friendly_errors():
    """End the program with ``error: MESSAGE`` and status 1 on a UserError; bugs keep their traceback."""
    try:
        yield
    except UserError as error:
        sys.exit(f'error: {error}')
