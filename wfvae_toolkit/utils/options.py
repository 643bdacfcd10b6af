"""Command-line arguments that several tools share."""

import argparse
import ast
import contextlib
import json
import os
import sys
import time
from pathlib import Path

from .errors import UserError


def add_config_arguments(parser):
    """``CONFIG`` and ``--cfg-options key=value ...``, the latter a dict of dotted keys or None."""
    parser.add_argument('config', metavar='CONFIG', help='a file, or package::file.py, such as '
                                                         'wfvae_toolkit::wfvae2_demo.py')
    parser.add_argument('--cfg-options', nargs='+', action=ParseOptions, metavar='KEY=VALUE',
                        help='override settings: model.losses.kl.weight=1e-5 model.losses.wavelet=None')


def add_launcher_argument(parser):
    """``--launcher``: who started the processes."""
    parser.add_argument('--launcher', choices=('none', 'pytorch', 'slurm'),
                        help='pytorch: started by torchrun; slurm: by srun (default: what the config says, else none)')


def add_device_argument(parser):
    """``--device``: where to compute."""
    parser.add_argument('--device', help='such as cpu, mps or cuda:1 (default: the accelerator that torch finds: CUDA, '
                                         'ROCm, XPU, MPS; else the CPU)')


def add_import_argument(parser):
    """``--import``: modules that register parts of a model; the tool passes ``imports`` to `plugins.import_modules`."""
    parser.add_argument('--import', dest='imports', nargs='+', action='extend', default=[], metavar='MODULE',
                        help='modules to import first, as custom_imports of a config does; give it after the other '
                             'names')


def add_image_arguments(parser):
    """``--resolution``, ``--crop``, ``--convert-to-srgb``, ``--max-images``: which part of which pictures."""
    parser.add_argument('--resolution', type=int, metavar='PX', help='resize the short side to PX and crop the centre')
    parser.add_argument('--crop', type=int, metavar='PX',
                        help='crop the centre; without --resolution nothing is resized')
    parser.add_argument('--convert-to-srgb', action='store_true',
                        help='convert pictures with another colour profile (default: their numbers as they are)')
    parser.add_argument('--max-images', type=int, metavar='N', help='only the first N images')
    parser.add_argument('--workers', type=whole(0), default=2, metavar='N',
                        help='processes per rank that read pictures; 0: the main process reads (default: 2)')


PROTOCOLS = ('ours', 'va-vae', 'dc-ae', 'rae', 'ldm')  # names of evaluation/protocols.py, which need torch


def add_protocol_argument(parser):
    """``--protocol``: names of `evaluation.protocols.PROTOCOLS`."""
    parser.add_argument('--protocol', nargs='+', default=[], choices=PROTOCOLS, metavar='NAME',
                        help='score as the tables of another project do: ' + ', '.join(PROTOCOLS) + '; several: one '
                             'folder each, and one pass over the data (default: what the config says, else ours)')


def add_model_arguments(parser, dtype_option='--dtype', nargs=None):
    """``MODEL``, ``--weights``, ``--device``, ``--import`` and ``--dtype``, which may have another name.

    ``nargs``: ``'+'`` where a tool takes several models.
    """
    parser.add_argument('model', metavar='MODEL', nargs=nargs,
                        help="a run's folder, a checkpoint, an exported folder, a shipped model such as "
                             'wfvae2-tiny, or org/name[@revision] of the Hugging Face Hub')
    parser.add_argument('--weights', choices=('ema', 'raw'), default='ema', help='averaged or raw (default: ema)')
    add_device_argument(parser)
    parser.add_argument(dtype_option, choices=('float32', 'bfloat16', 'float16'), default='float32',
                        help='type of weights and activations (default: float32)')
    add_import_argument(parser)


def whole(low):
    """argparse type: an integer from ``low``."""
    def integer(text):
        if int(text) < low:
            raise argparse.ArgumentTypeError(f'{text}: use {low} or more')
        return int(text)
    return integer


def as_arguments(options):
    """{'a.b': 1} -> ['--cfg-options', 'a.b=1'], which ``ParseOptions`` reads back, strings included; [] for none."""
    return ['--cfg-options', *(f'{key}={value!r}' for key, value in options.items())] if options else []


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
    """A Python literal (None, True, 1e-5, [1, 2]), ``dict(a=1)``, or the text itself; true and false in any case.

    ``none`` stays text; `load_config` turns it into None unless the setting takes a text.
    """
    spoken = {'true': True, 'false': False}
    if text.lower() in spoken:
        return spoken[text.lower()]
    try:
        return ast.literal_eval(_DictCalls().visit(ast.parse(text.strip(), mode='eval')))
    except (ValueError, SyntaxError):
        return text


class _DictCalls(ast.NodeTransformer):
    """``dict(a=1)``, as configs write it, -> ``{'a': 1}``."""

    def visit_Call(self, node):
        self.generic_visit(node)
        names = [keyword.arg for keyword in node.keywords]
        if not isinstance(node.func, ast.Name) or node.func.id != 'dict' or node.args or None in names:
            return node
        return ast.Dict([ast.Constant(name) for name in names], [keyword.value for keyword in node.keywords])


@contextlib.contextmanager
def friendly_errors():
    """End the program with ``error: MESSAGE`` and status 1 on a UserError; bugs keep their traceback."""
    try:
        yield
    except UserError as error:
        _tell_torchrun(str(error))
        sys.exit(f'error: {error}')


def _tell_torchrun(message):
    """Write the reason into torchrun's error file, so that `utils/launch.py` can print it last."""
    path = os.environ.get('TORCHELASTIC_ERROR_FILE')
    if path:
        said = {'message': {'message': message, 'extraInfo': {'timestamp': int(time.time())}}}
        Path(path).write_text(json.dumps(said), encoding='utf-8')
