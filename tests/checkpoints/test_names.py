import base64
import hashlib
import http.server
import json
import threading

import pytest
import torch
import yaml
from huggingface_hub import constants, file_download, hf_api, utils

from tests.helpers import trained_small
from wfvae_toolkit import AutoencoderWFVAE2
from wfvae_toolkit.checkpoints import CheckpointError, check_writable, find_model, read_model
from wfvae_toolkit.checkpoints.names import SHIPPED, SHIPPED_FOLDER
from wfvae_toolkit.checkpoints.to_diffusers import write_diffusers
from wfvae_toolkit.utils.errors import SettingError

COMMIT = 'c' * 40


class Hub(http.server.BaseHTTPRequestHandler):
    """The calls of the Hugging Face Hub that down- and upload need, for the repositories of one folder: org/name/files.

    ``large``: what was uploaded as a large file, by the SHA-256 of its content.
    """

    root, asked, large = None, [], {}

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

    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length']))
        if self.path == '/api/repos/create':
            wanted = json.loads(body)
            name = f'{wanted["organization"]}/{wanted["name"]}'
            (self.root / name).mkdir(parents=True, exist_ok=True)
            return self.say(id=name, url=self.place(name))
        if self.path == '/api/validate-yaml':
            settings = yaml.safe_load(json.loads(body)['content'].split('---\n')[1])
            return self.say(warnings=[], errors=[] if 'library_name' in settings else [dict(message='no library')])
        if '/preupload/' in self.path:
            return self.say(files=[dict(path=file['path'], shouldIgnore=False,
                                        uploadMode='lfs' if file['path'].endswith('.safetensors') else 'regular')
                                   for file in json.loads(body)['files']])
        if self.path.endswith('/info/lfs/objects/batch'):
            return self.say(transfer='basic', objects=[
                {**file, 'actions': {'upload': {'href': self.place(f'large/{file["oid"]}')}}}
                for file in json.loads(body)['objects']])
        assert '/commit/main' in self.path, self.path
        folder = self.root / '/'.join(self.path.split('/')[3:5])
        for line in map(json.loads, body.splitlines()):
            if line['key'] != 'header':
                value = line['value']
                content = self.large[value['oid']] if line['key'] == 'lfsFile' else base64.b64decode(value['content'])
                (folder / value['path']).write_bytes(content)
        return self.say(commitUrl=self.place(f'{folder.parent.name}/{folder.name}/commit/{COMMIT}'), commitOid=COMMIT)

    def do_PUT(self):
        content = self.rfile.read(int(self.headers['Content-Length']))
        self.large[hashlib.sha256(content).hexdigest()] = content
        assert self.path == f'/large/{hashlib.sha256(content).hexdigest()}'
        self.answer(200, {})

    def place(self, path):
        return f'http://127.0.0.1:{self.server.server_port}/{path}'

    def say(self, **content):
        self.answer(200, {'Content-Type': 'application/json'}, json.dumps(content).encode())

    def answer(self, status, headers, content=b''):
        self.send_response(status)
        for key, value in {**headers, 'Content-Length': len(content)}.items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(content)

    def log_message(self, *arguments):
        pass


def set_offline(monkeypatch, offline):
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', offline)
    getattr(utils, 'reset_sessions', lambda: None)()  # before version 1 a session kept what it was made with


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub on this machine with an empty cache; its ``root`` holds the repositories."""
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Hub)
    Hub.root, Hub.asked, Hub.large = tmp_path / 'hub', [], {}
    place = f'http://127.0.0.1:{server.server_port}'
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, place)
    for module in (constants, file_download):  # before version 1 each has its own
        monkeypatch.setattr(module, 'HUGGINGFACE_CO_URL_TEMPLATE', template, raising=False)
    monkeypatch.setattr(constants, 'ENDPOINT', place)
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
    set_offline(monkeypatch, False)
    monkeypatch.setattr(constants, 'HF_HUB_DISABLE_XET', True)
    monkeypatch.setattr(hf_api.api, 'endpoint', place)
    monkeypatch.chdir(tmp_path)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Hub
    set_offline(monkeypatch, False)
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
    set_offline(monkeypatch, True)
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
    set_offline(monkeypatch, True)
    with pytest.raises(CheckpointError, match='not in the cache'):
        read_model('org/model')


@pytest.mark.parametrize('name', ['a', 'a/b/c', './a/b', '/a/b', '../a', 'a/iter_10.pth', 'a/b.safetensors', 'wfvae2'])
def test_other_missing_paths_ask_no_network(hub, name):
    with pytest.raises(CheckpointError, match='no such file or folder'):
        read_model(name)
    assert not hub.asked


def test_an_unknown_name_lists_those_that_exist():
    with pytest.raises(CheckpointError, match=r'no such file or folder; models by name: wfvae2-tiny \(shipped\)'):
        read_model('wfvae2')


@pytest.mark.slow
@pytest.mark.parametrize('page', [None, '---\nlibrary_name: diffusers\n---\nTheir own page.\n'])
def test_a_pushed_model_is_a_model_by_its_name(hub, tmp_path, page):
    trained = trained_small()
    write_diffusers(trained, tmp_path / 'out', license='mit')
    if page:
        (hub.root / 'org/mine').mkdir(parents=True)
        (hub.root / 'org/mine/README.md').write_text(page, encoding='utf-8')
    AutoencoderWFVAE2.from_pretrained(tmp_path / 'out').push_to_hub('org/mine', token='hf_of_the_test')
    files = {path.name for path in (hub.root / 'org/mine').iterdir()}
    assert files == {'README.md', 'config.json', 'diffusion_pytorch_model.safetensors', 'modelling_wfvae2.py'}
    images = torch.rand(1, 3, 8, 12) * 2 - 1
    assert torch.equal(read_model('org/mine').build()(images), trained.build()(images))
    card = (hub.root / 'org/mine/README.md').read_text(encoding='utf-8')
    if page:
        assert 'Their own page.' in card
    else:
        assert card == (tmp_path / 'out/README.md').read_text(encoding='utf-8').replace('THIS_FOLDER', 'org/mine')
        assert "AutoModel.from_pretrained('org/mine', trust_remote_code=True)" in card


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
