import argparse

import pytest

from wfvae_toolkit.utils.errors import MissingFile
from wfvae_toolkit.utils.options import add_config_arguments, friendly_errors, parse_value


@pytest.fixture
def parse():
    parser = argparse.ArgumentParser()
    add_config_arguments(parser)
    return lambda *arguments: parser.parse_args(arguments)


@pytest.mark.parametrize(('text', 'value'), [
    ('3', 3), ('-1', -1), ('1e-5', 1e-5), ('True', True), ('false', False), ('None', None), ('none', 'none'),
    ('[1, 2]', [1, 2]), ('(128,256)', (128, 256)), ('dict', 'dict'), ("{'a': 1}", {'a': 1}),
    ("dict(type='Haar', b=[dict(c=None)])", {'type': 'Haar', 'b': [{'c': None}]}), ('dict(1)', 'dict(1)'),
    ('open(a=1)', 'open(a=1)'), ("'3'", '3'),
    ('bf16', 'bf16'), ('data/train', 'data/train'), ('/a b/c', '/a b/c'), ('', ''), ('1_000', 1000),
    ('[1, a]', '[1, a]'),
    ('__import__("os").getcwd()', '__import__("os").getcwd()'),
])
def test_values_are_literals_or_text(text, value):
    parsed = parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


def test_options_are_a_dict_of_dotted_keys(parse):
    options = parse('a.py', '--cfg-options', 'model.losses.kl.weight=1e-5', 'model.losses.wavelet=None', 'a=b=c', 'd=')
    assert options.config == 'a.py'
    assert options.cfg_options == {'model.losses.kl.weight': 1e-5, 'model.losses.wavelet': None, 'a': 'b=c', 'd': ''}


def test_repeated_options_add_up(parse):
    options = parse('a.py', '--cfg-options', 'a=1', 'b=2', '--cfg-options', 'b=3')
    assert options.cfg_options == {'a': 1, 'b': 3}
    assert parse('a.py').cfg_options is None
    # Nothing stays behind for the next call.
    assert parse('a.py', '--cfg-options', 'c=1').cfg_options == {'c': 1}


@pytest.mark.parametrize('item', ['model.losses.wavelet', '=3'])
def test_an_option_without_key_or_value(parse, capsys, item):
    with pytest.raises(SystemExit):
        parse('a.py', '--cfg-options', item)
    assert f'--cfg-options {item}: expected KEY=VALUE' in capsys.readouterr().err


def test_torchrun_gets_the_reason_of_a_failed_process(tmp_path, monkeypatch):
    """So that `utils/launch.py` can say it last."""
    from types import SimpleNamespace

    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

    from wfvae_toolkit.utils.launch import reason_of

    monkeypatch.setenv('TORCHELASTIC_ERROR_FILE', str(tmp_path / 'error.json'))
    with pytest.raises(SystemExit, match=r'error: no config file nope\.py'), friendly_errors():
        raise MissingFile('no config file nope.py')
    failure = ProcessFailure(local_rank=1, pid=0, exitcode=1, error_file=str(tmp_path / 'error.json'))
    assert reason_of(failure) == 'no config file nope.py'
    assert 'process 1 ended with status 3' in reason_of(SimpleNamespace(message='', local_rank=1, exitcode=3))
