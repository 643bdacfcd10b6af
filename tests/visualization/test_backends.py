"""W&B and MLflow from one line of config, with stand-ins that write down what they are told."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STUB = '''
import atexit, json, os

class Recorder:
    """Writes down every call, as [name, arguments, keywords], in a file of this process."""

    def __init__(self, name=()):
        self._name = name

    def __getattr__(self, name):
        if name.startswith('__'):
            raise AttributeError(name)
        return Recorder((*self._name, name))

    def __call__(self, *args, **kwargs):
        calls.append(['.'.join(self._name), [plain(arg) for arg in args], {k: plain(v) for k, v in kwargs.items()}])
        return ['picture', list(args[0].shape)] if self._name == ('Image',) else None

def plain(value):
    if hasattr(value, 'shape'):
        return list(value.shape)
    return value if isinstance(value, (dict, list, int)) else str(value)

calls = []
def save():
    if os.path.isfile(__file__):  # the test's folder may be gone
        with open(__file__.removesuffix('py') + os.environ.get('RANK', '0') + '.json', 'w') as file:
            json.dump(calls, file, default=str)
atexit.register(save)
__getattr__ = Recorder().__getattr__
'''
SHORT = {'train_cfg.max_iters': 3, 'train_cfg.val_interval': 3, 'default_hooks.curves': None}


@pytest.fixture
def stubs(tmp_path, monkeypatch):
    """Importable packages wandb and mlflow; the folder that they are in and write to."""
    for name in ('wandb', 'mlflow'):
        (tmp_path / f'{name}.py').write_text(STUB)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv('MLFLOW_TRACKING_URI', raising=False)
    yield tmp_path
    for name in ('wandb', 'mlflow'):
        sys.modules.pop(name, None)


def backends(*types):
    return {'visualizer.vis_backends': [dict(type=name) for name in types]}


def calls_of(package, name):
    return [(args, kwargs) for called, args, kwargs in sys.modules[package].calls if called == name]


def last_rows(folder):
    """phase -> its last row in log.jsonl, named as in the visualizer."""
    rows = [json.loads(line) for line in (folder / 'log.jsonl').read_text().splitlines()]
    return {row['phase']: {f'{row["phase"]}/{name}': value for name, value in row.items()
                           if name not in ('phase', 'iteration')} for row in rows}


def test_wandb_gets_scalars_picture_and_config_at_their_iteration(stubs, train, tmp_path):
    train('tiny', tmp_path / 'run', **SHORT, **backends('WandbVisBackend'))
    (_, opened), = calls_of('wandb', 'init')
    assert opened == {'dir': str(tmp_path / 'run/vis_data')}
    (config,), _ = calls_of('wandb', 'config.update')[0]
    assert config['train_cfg']['max_iters'] == 3
    logged = [(values, kwargs['step']) for (values,), kwargs in calls_of('wandb', 'log')]
    for phase, row in last_rows(tmp_path / 'run').items():
        assert (row, 3) in logged, phase
    height, width = 2 * 32 + 4, 5 * 32 + 4 * 4
    assert ({'val/input_reconstruction_error': ['picture', [height, width, 3]]}, 3) in logged
    steps = [step for _, step in logged]
    assert steps == sorted(steps)  # W&B drops what goes back
    assert len(calls_of('wandb', 'finish')) == 1


def test_mlflow_gets_scalars_picture_and_config_at_their_iteration(stubs, train, tmp_path):
    train('tiny', tmp_path / 'run', **SHORT, **backends('MLflowVisBackend'))
    assert calls_of('mlflow', 'set_tracking_uri') == [([f'sqlite:///{tmp_path}/run/vis_data/mlflow.db'], {})]
    logged = [tuple(args) for args, _ in calls_of('mlflow', 'log_metrics')]
    for phase, row in last_rows(tmp_path / 'run').items():
        assert (row, 3) in logged, phase
    ((shape, name), _), = calls_of('mlflow', 'log_image')
    assert name == 'val/input_reconstruction_error/iter_3.png'
    assert shape == [2 * 32 + 4, 5 * 32 + 4 * 4, 3]
    ((parameters,), _), = calls_of('mlflow', 'log_params')
    assert parameters['train_cfg.max_iters'] == 3
    assert len(calls_of('mlflow', 'end_run')) == 1


def test_a_tracking_server_of_the_environment_is_used(stubs, train, tmp_path, monkeypatch):
    monkeypatch.setenv('MLFLOW_TRACKING_URI', 'http://tracker:5000')
    train('tiny', tmp_path / 'run', **SHORT, **backends('MLflowVisBackend'))
    assert calls_of('mlflow', 'set_tracking_uri') == [(['http://tracker:5000'], {})]


@pytest.mark.parametrize(('name', 'package'), [('WandbVisBackend', 'wandb'), ('MLflowVisBackend', 'mlflow')])
def test_without_the_package_the_error_names_the_extra(train, tmp_path, monkeypatch, name, package):
    class Absent:
        def find_spec(self, wanted, path=None, target=None):
            if wanted == package:
                raise ModuleNotFoundError(f'No module named {wanted!r}', name=wanted)

    monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.setattr(sys, 'meta_path', [Absent(), *sys.meta_path])
    message = rf"^error: {package} is not installed: pip install 'wfvae_toolkit\[{package}\]'"
    with pytest.raises(SystemExit, match=message):
        train('tiny', tmp_path, **SHORT, **backends(name))


@pytest.mark.slow
def test_of_two_ranks_only_the_first_reports(stubs, launch, photos, tmp_path):
    settings = {**SHORT, 'train_dataloader.dataset.data_root': photos / 'train',
                'val_dataloader.dataset.data_root': photos / 'val',
                'visualizer.vis_backends': '[{"type":"WandbVisBackend"},{"type":"MLflowVisBackend"}]'}
    launch('tools/dist_train.sh', ROOT / 'tests/data/configs/tiny.py', 2, '--work-dir', tmp_path / 'run',
           '--cfg-options', *(f'{key}={value}' for key, value in settings.items()),
           env={'PYTHONPATH': f'{ROOT}:{stubs}'})
    for package in ('wandb', 'mlflow'):
        assert json.loads((stubs / f'{package}.0.json').read_text())
        assert not (stubs / f'{package}.1.json').exists()  # not even imported
