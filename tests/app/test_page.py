import socket
import sys

import pytest
from PIL import Image

from tests.helpers import build_small, save_small_run
from wfvae_toolkit.app import page
from wfvae_toolkit.app.page import Looker, check_address, import_gradio
from wfvae_toolkit.inference import Reconstructor
from wfvae_toolkit.utils.errors import MissingLibrary, SettingError


@pytest.fixture
def busy():
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_busy_port_is_one_sentence(busy, tool, tmp_path):
    with pytest.raises(SystemExit) as caught:
        tool('app')(save_small_run(tmp_path / 'run'), '--port', busy)
    assert str(caught.value).startswith(f'error: cannot listen on 127.0.0.1, port {busy} (')
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(('host', 'port'), [('192.0.2.1', 7860), ('127.0.0.1', 70000)])
def test_an_address_of_another_machine_or_no_port_is_one_sentence(host, port):
    with pytest.raises(SettingError, match=f'cannot listen on {host}, port {port}'):
        check_address(host, port)


def test_without_gradio_the_error_names_the_extra(monkeypatch, tmp_path):
    for name in ('GRADIO_ANALYTICS_ENABLED', 'HF_HUB_OFFLINE', 'GRADIO_TEMP_DIR', 'NO_PROXY', 'no_proxy'):
        monkeypatch.setenv(name, '')
    monkeypatch.setitem(sys.modules, 'gradio', None)
    with pytest.raises(MissingLibrary, match=r"pip install 'wfvae_toolkit\[app\]'"):
        import_gradio(tmp_path)


def test_results_are_html_errors_sentences_and_old_pictures_go(monkeypatch, tmp_path):
    monkeypatch.setattr(page, 'KEPT', 2)
    look = Looker({'run': Reconstructor(build_small(), device='cpu')}, {}, tmp_path)
    Image.new('RGB', (8, 8)).save(tmp_path / 'photo.png')
    (tmp_path / '<b>.png').write_text('no picture')
    assert look(None) == ''
    assert [look(tmp_path / 'photo.png').startswith('<section class="wfvae"') for _ in range(3)] == [True] * 3
    assert look(tmp_path / '<b>.png').startswith('<p role="alert">&lt;b&gt;.png cannot be read')
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ['2', '3']
