import http.server
import json
import threading

import pytest
from huggingface_hub import constants

from wfvae_toolkit.checkpoints import CheckpointError, check_writable, find_model, read_model
from wfvae_toolkit.checkpoints.names import SHIPPED, SHIPPED_FOLDER
from wfvae_toolkit.utils.errors import SettingError

COMMIT = 'c' * 40


class Hub(http.server.BaseHTTPRequestHandler):
    """The calls of the Hugging Face Hub that a download needs, for the repositories of one folder: org/name/files."""

    root, asked = None, []

    def do_GET(self):
        self.asked.append(self.path)
        path, _, _ = self.path.partition('?')
        if path.startswith('/api/models/'):
            name = '/'.join(path.split('/')[3:5])
            folder, revision = self.root / name, (path.split('/')[6:] or ['main'])[0]
            if not folder.is_dir():
                return self.answer(404, {'X-Error-Code': 'RepoNotFound'})
            if revision not in ('main', 'v1', COMMIT):
                return self.answer(404, {'X-Error-Code': 'RevisionNotFound'})
            files = sorted(file.relative_to(folder).as_posix() for file in folder.rglob('*') if file.is_file())
            tree = [dict(type='file', path=file, oid=COMMIT, size=(folder / file).stat().st_size) for file in files]
            info = dict(id=name, sha=COMMIT, siblings=[dict(rfilename=file) for file in files], private=False, tags=[],
                        downloads=0, likes=0)
            return self.answer(200, {'Content-Type': 'application/json'},
                               json.dumps(tree if '/tree/' in path else info).encode())
        org, name, *file = path[1:].split('/')
        path = self.root / org / name / '/'.join(file[2:])  # after resolve/REVISION
        if not (self.root / org / name).is_dir():
            return self.answer(401, {'X-Error-Code': 'RepoNotFound'})
        if not path.is_file():
            return self.answer(404, {'X-Error-Code': 'EntryNotFound', 'X-Repo-Commit': COMMIT})
        return self.answer(200, {'X-Repo-Commit': COMMIT, 'ETag': f'"{name}-{path.name}"'}, path.read_bytes())

    do_HEAD = do_GET

    def answer(self, status, headers, content=b''):
        self.send_response(status)
        for key, value in {**headers, 'Content-Length': len(content)}.items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command == 'GET':
            self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub on this machine with an empty cache; its ``root`` holds the repositories."""
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Hub)
    Hub.root, Hub.asked = tmp_path / 'hub', []
    place = f'http://127.0.0.1:{server.server_port}'
    monkeypatch.setattr(constants, 'HUGGINGFACE_CO_URL_TEMPLATE',
                        constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, place))
    monkeypatch.setattr(constants, 'ENDPOINT', place)
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
    monkeypatch.chdir(tmp_path)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Hub
    server.shutdown()
    server.server_close()


@pytest.fixture
def repository(hub, earlier_model):
    """org/model: an exported folder, with a pickle and a script beside it."""
    def make(name='org/model', inside=''):
        folder = hub.root / name / inside
        folder.mkdir(parents=True)
        earlier_model.write_folder(folder)
        (folder / 'modelling.py').write_text('raise RuntimeError("imported")', encoding='utf-8')
        (folder / 'diffusion_pytorch_model.bin').write_bytes(b'pickle')
        return hub.root / name
    return make


@pytest.mark.parametrize('inside', ['', 'vae'])
@pytest.mark.parametrize('revision', ['', '@v1', f'@{COMMIT}'])
def test_a_repository_is_fetched_and_computes_what_it_did(repository, earlier_model, hub, inside, revision):
    repository(inside=inside)
    earlier_model.check(read_model(f'org/model{revision}').build())
    # Neither code nor pickles: they are not even asked for.
    assert not [path for path in hub.asked if path.endswith(('.py', '.bin'))]


def test_offline_the_cache_answers(repository, hub, monkeypatch):
    repository(inside='vae')
    first = find_model('org/model')
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    hub.asked.clear()
    assert find_model('org/model') == first
    assert not hub.asked


def test_an_existing_path_wins(repository, hub, tmp_path):
    repository()
    (tmp_path / 'org/model').mkdir(parents=True)
    with pytest.raises(CheckpointError, match='no config.json'):
        read_model('org/model')
    assert not hub.asked


@pytest.mark.parametrize('name', ['org/other', 'org/model@v2', 'work_dirs/typo'])
def test_what_the_hub_does_not_have_is_named_in_both_readings(repository, name):
    repository()
    with pytest.raises(CheckpointError, match='no such file or folder here, so it is read as a repository of the Hug'):
        read_model(name)


def test_a_repository_that_cannot_be_reached(hub, monkeypatch):
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    with pytest.raises(CheckpointError, match='not in the cache'):
        read_model('org/model')


@pytest.mark.parametrize('name', ['a', 'a/b/c', './a/b', '/a/b', '../a', 'a/iter_10.pth', 'a/b.safetensors', 'wfvae2'])
def test_other_missing_paths_ask_no_network(hub, name):
    with pytest.raises(CheckpointError, match=r'no such file or folder; models by name: wfvae2-tiny \(shipped\)'):
        read_model(name)
    assert not hub.asked


@pytest.mark.parametrize('name', SHIPPED)
def test_a_shipped_model_is_whole(name):
    model = read_model(name)
    network = model.build()
    assert model.path == SHIPPED_FOLDER / name
    assert (network.downsample_factor, network.latent_channels) == (8, 8)
    assert sum(value.numel() for value in network.parameters()) <= 3_000_000


def test_the_installation_is_not_written_into():
    with pytest.raises(SettingError, match='makes a copy of your own'):
        check_writable(read_model('wfvae2-tiny'))


def test_every_shipped_folder_has_a_name():
    assert {path.name for path in SHIPPED_FOLDER.iterdir()} == set(SHIPPED)
