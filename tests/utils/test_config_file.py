"""A config file as people write it is read, or refused in one line with its own name and line."""

import pytest

from wfvae_toolkit.utils.config import load_config
from wfvae_toolkit.utils.errors import UserError

DEMO = "_base_ = 'wfvae_toolkit::wfvae2_demo.py'\n"


@pytest.fixture
def write(tmp_path):
    def write(text, name='config.py', **options):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text) if isinstance(text, bytes) else path.write_text(text, encoding='utf-8')
        return path
    return write


@pytest.mark.parametrize('text', [
    DEMO.encode('utf-8-sig') + b'train_cfg = dict(max_iters=16)\n',
    (DEMO + 'train_cfg = dict(max_iters=16)\n').replace('\n', '\r\n').encode(),
    DEMO + 'from math import sqrt\ntrain_cfg = dict(max_iters=int(sqrt(256)))\n',
    DEMO + 'import os\nsize = int(os.environ.get("NOT_SET", 16))\ntrain_cfg = dict(max_iters=size)\n',
    DEMO + 'import numpy as np\ntrain_cfg = dict(max_iters=np.int64(16))\n',
    DEMO + 'def half(x): return x // 2\ntrain_cfg = dict(max_iters=half(32))\n',
    DEMO + '_size = 16\ntrain_cfg = dict(max_iters=_size)\n',
    DEMO + 'train_cfg = dict(max_iters=_base_.train_cfg.max_iters - 1184)\n',
    DEMO + 'train_cfg = dict(max_iters={{ _base_.train_cfg.max_iters }} - 1184)\n',
    DEMO + "train_cfg = dict(max_iters={{'$NOT_SET:16'}})\n",
    DEMO + 'for n in range(17):\n    pass\ntrain_cfg = dict(max_iters=n)\n',
], ids=['bom', 'crlf', 'math', 'environ', 'numpy', 'function', 'underscore', 'base', 'base_text', 'variable', 'loop'])
def test_a_file_may_compute(write, text):
    cfg = load_config(write(text))
    assert cfg.train_cfg.max_iters == 16
    assert type(cfg.train_cfg.max_iters) is int
    assert cfg.keys() == load_config('wfvae_toolkit::wfvae2_demo.py').keys()  # no helper is left


def test_names_of_files_may_have_spaces_and_letters_of_any_kind(write):
    assert load_config(write(DEMO, 'my configs v1.2/día/exp-1.2 final.py')).train_cfg.max_iters == 1200


@pytest.mark.parametrize(('value', 'plain'), [
    ("Path('data') / 'train'", 'data/train'), ("np.str_('data')", 'data')])
def test_values_become_plain_data(write, value, plain):
    cfg = load_config(write(f'{DEMO}import numpy as np\nfrom pathlib import Path\n'
                            f'train_dataloader = dict(dataset=dict(data_root={value}))\n'))
    assert cfg.train_dataloader.dataset.data_root == plain
    assert type(cfg.train_dataloader.dataset.data_root) is str


def test_a_class_is_named_by_its_path(write):
    cfg = load_config(write(f'{DEMO}from torch.optim import SGD\noptim_wrapper = dict(autoencoder=dict('
                            'optimizer=dict(_delete_=True, type=SGD, lr=1e-3)))\n'))
    assert cfg.optim_wrapper.autoencoder.optimizer.type == 'torch.optim.sgd.SGD'


@pytest.mark.parametrize(('text', 'message'), [
    ('model = dict(normalize=True\n', "config.py:1: '(' was never closed: model = dict(normalize=True"),
    ('x = 1\nmodel = dict(\n  normalize=tru e)\n', 'config.py:3: '),
    ("_base_ = 'nothing.py'\n", 'config.py:1: _base_: no config file '),
    ("\n_base_ = 'wfvae_toolkit::nothing.py'\n", 'config.py:2: _base_: wfvae_toolkit ships no config nothing.py'),
    ("_base_ = 'config.py'\n", 'config.py: _base_ leads back to '),
    ("import os\n_base_ = os.path.join('a', 'b')\n", "config.py:2: _base_ = os.path.join('a', 'b'): a file or a list"),
    ("_base_ = ['wfvae_toolkit::_base_/photos_256.py', 'wfvae_toolkit::_base_/photos_512.py']\n",
     'config.py:1: two of its bases set train_dataloader, val_dataloader'),
    ('from mmengine.config import read_base\nwith read_base():\n    from .base import *\n', "MMEngine's lazy style"),
    ('from .base import model\n', "config.py:1: MMEngine's lazy style"),
    ('model = dict(normalize=tru)\n', "config.py:1: NameError: name 'tru' is not defined"),
    ('x = 1\ntrain_cfg = dict(type="UpdateLoop", max_iters=x / 0)\n', 'config.py:2: ZeroDivisionError: '),
    ('import no_such_package\n', "config.py:1: ModuleNotFoundError: No module named 'no_such_package'"),
    (f'{DEMO}model = dict(freeze={{"a"}})\n', "config.py:2: model.freeze: {'a'} is not a plain value"),
    (f'{DEMO}import torch\nmodel = dict(precision=torch.bfloat16)\n',
     'config.py:3: model.precision: torch.bfloat16 is'),
    (f'{DEMO}class Own: pass\nmodel = dict(losses=dict(pixel=dict(type=Own)))\n',
     'config.py:3: model.losses.pixel.type'),
    (f'{DEMO}model = dict(losses={{3: None}})\n', 'config.py:2: model.losses: its key 3 is not a string'),
    (f"{DEMO}work_dir = '{{{{$NOT_SET:}}}}'\n", 'config.py:2: the environment has no NOT_SET'),
    (b'work_dir = "\xff"\n', 'config.py: is not UTF-8'),
    ('work_dir = "a\0b"\n', 'config.py'),
])
def test_a_file_that_cannot_be_read_is_named_in_one_line(write, text, message):
    with pytest.raises(UserError) as caught:
        load_config(write(text))
    assert message in str(caught.value)
    assert '\n' not in str(caught.value)


def test_two_files_that_inherit_from_each_other(write):
    write("_base_ = 'config.py'\n", 'other.py')
    with pytest.raises(UserError, match=r'other\.py: _base_ leads back to .*config\.py'):
        load_config(write("_base_ = 'other.py'\n"))


@pytest.mark.parametrize(('name', 'message'), [
    ('config.yaml', r'config\.yaml: a config is a Python file'), ('config.json', 'a config is a Python file')])
def test_other_formats_are_refused(write, name, message):
    with pytest.raises(UserError, match=message):
        load_config(write('model: 1\n', name))


def test_a_folder_is_refused_with_what_is_in_it(write):
    with pytest.raises(UserError, match=r'is a folder; name a config file in it: config\.py'):
        load_config(write(DEMO).parent)


# which names are settings

@pytest.mark.parametrize(('text', 'key'), [
    ('size = 16\n', 'size'),  # nothing reads it
    ('modle = dict(normalize=True)\n', 'modle'),
    ('def f(seed):\n    return seed\nsede = 3\n', 'sede'),  # a parameter of that name is another thing
    ('size: int = 16\n', 'size'),
])
def test_a_name_that_nothing_reads_is_no_helper(write, text, key):
    with pytest.raises(UserError, match=f'the config has no {key}'):
        load_config(write(DEMO + text))


def test_a_helper_of_the_base_is_no_setting_of_the_child(write):
    """Setting it would change nothing: the base has computed with its own."""
    write(f'{DEMO}size = 16\ntrain_cfg = dict(max_iters=size)\n', 'base.py')
    assert load_config(write("_base_ = 'base.py'\ntrain_cfg = dict(val_interval=_base_.size)\n")).train_cfg == dict(
        load_config('wfvae_toolkit::wfvae2_demo.py').train_cfg, max_iters=16, val_interval=16)
    with pytest.raises(UserError, match='the config has no size'):
        load_config(write("_base_ = 'base.py'\nsize = 32\n"))


# inheritance

@pytest.mark.parametrize(('text', 'key', 'value'), [
    ("load_from = dict(path='a.pth', weights='raw')", 'load_from', dict(path='a.pth', weights='raw')),
    ("model = dict(compile=dict(mode='max-autotune'))", 'model.compile', dict(mode='max-autotune')),
    ('model_wrapper_cfg = dict(bucket_cap_mb=50)', 'model_wrapper_cfg', dict(bucket_cap_mb=50)),
    ("default_hooks = dict(flat_fields=dict(type='FlatFieldHook'))", 'default_hooks.flat_fields',
     dict(type='FlatFieldHook')),
    ("model = dict(losses=dict(new=dict(_delete_=True, type='L2Loss')))", 'model.losses.new', dict(type='L2Loss')),
])
def test_a_child_gives_what_its_base_has_as_none(write, text, key, value):
    node = load_config(write(f'{DEMO}{text}\n'))
    for name in key.split('.'):
        node = node[name]
    assert node == value


@pytest.mark.parametrize('options', [None, {'model.losses.wavlet': None}])
def test_only_a_row_that_is_there_can_be_taken_out(write, options):
    text = DEMO if options else f'{DEMO}model = dict(losses=dict(wavlet=None))\n'
    with pytest.raises(UserError, match=r'model\.losses has no wavlet; did you mean model\.losses\.wavelet\?'):
        load_config(write(text), options)
    assert load_config(write(f'{DEMO}model = dict(losses=dict(wavelet=None))\n')).model.losses.wavelet is None


def test_a_saved_copy_is_the_same_config(write, tmp_path):
    cfg = load_config(write(f'{DEMO}from math import inf\noptim_wrapper = dict(autoencoder=dict(\n'
                            "    clip_grad=dict(max_norm=inf), paramwise_cfg=dict(custom_keys={'encoder.conv': "
                            'dict(lr_mult=0.1)})))\n'))
    cfg.dump(tmp_path / 'copy.py')
    assert load_config(tmp_path / 'copy.py').to_dict() == cfg.to_dict()


# the command line

@pytest.mark.parametrize(('key', 'value', 'expected'), [
    ('model.discriminator.norm', 'none', 'none'),  # it has that name
    ('model.losses.wavelet', 'none', None),
    ('default_hooks.checkpoint.save_best', 'none', None),
    ('load_from', 'none', None),
])
def test_none_is_a_text_where_a_setting_takes_one(key, value, expected):
    node = load_config('wfvae_toolkit::wfvae2_demo.py', {key: value})
    for name in key.split('.'):
        node = node[name]
    assert node == expected
