"""The page itself: Gradio receives a file, `shown` makes the result, nothing is asked of another server."""

import itertools
import os
import shutil
import signal
import socket
import tempfile
from importlib import resources
from pathlib import Path

from markupsafe import escape

from wfvae_toolkit.inference.slider import VENDOR
from wfvae_toolkit.utils.errors import MissingLibrary, SettingError, UserError

from .shown import look_at, metrics_of, read_picture, result_html

KEPT = 8  # results whose pictures stay on disk
# The divider is the report's component. This tells screen readers where it stands.
_SCRIPT = """document.addEventListener('slide', event =>
  event.target.setAttribute('aria-valuenow', Math.round(event.target.value)), true);"""
_ABOUT = ('Choose a picture, or drop it on the field. EXIF orientation is applied; transparent parts are composed over '
          'white; of several frames the first is read; 16-bit pictures become 8-bit. The page asks no '
          'other server for anything.')


def check_address(host, port):
    """SettingError in one sentence if nothing can listen on ``port`` of ``host``."""
    try:
        family, kind, *_, (address, _, *more) = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port, *more))  # getaddrinfo counts ports modulo 65536
    except (OSError, OverflowError) as error:
        raise SettingError(f'cannot listen on {host}, port {port} ({error}): stop the program that uses it, or choose '
                           'another --port or --host') from None


def import_gradio(temporary):
    """The module, told before its import to report nothing and to keep uploads in ``temporary``.

    Raises:
        MissingLibrary: it is not installed.
    """
    os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
    os.environ['HF_HUB_OFFLINE'] = '1'
    os.environ['GRADIO_TEMP_DIR'] = str(temporary)
    os.environ['no_proxy'] = os.environ['NO_PROXY'] = '*'  # Gradio looks whether its own page answers
    try:
        import gradio
    except ImportError as error:
        raise MissingLibrary(f"the app needs Gradio ({error}): pip install 'wfvae_toolkit[app]'") from None
    return gradio


class Looker:
    """Path of an uploaded file -> HTML of its result, or of the one sentence that says why there is none.

    Args:
        models (dict[str, Reconstructor]): by the name that the page shows.
        metrics (dict[str, Metric]): as of `metrics_of`.
        folder (Path): for the pictures of the last KEPT results.
    """

    def __init__(self, models, metrics, folder):
        self.models, self.metrics, self.folder = models, metrics, folder
        self._numbers = itertools.count()

    def __call__(self, path):
        if path is None:
            return ''
        number = next(self._numbers)
        shutil.rmtree(self.folder / f'{number - KEPT}', ignore_errors=True)
        folder = self.folder / f'{number}'
        folder.mkdir()
        try:
            pixels, notes = read_picture(path)
            results = [look_at(model, name, pixels, self.metrics) for name, model in self.models.items()]
            return result_html(Path(path).name, pixels, results, notes, folder,
                               lambda file: f'/gradio_api/file={file}')
        except UserError as error:
            return f'<p role="alert">{escape(error)}</p>'


def build_page(gradio, look):
    """Gradio Blocks: a field for a file, and what ``look`` returns for it."""
    with gradio.Blocks(title='wfvae_toolkit', analytics_enabled=False) as blocks:
        gradio.HTML(f'<h1>Try a model</h1><p>{_ABOUT}</p>')
        field = gradio.File(label='Picture', file_count='single', type='filepath', height=120)
        result = gradio.HTML(elem_id='result')
        field.change(look, field, result, api_visibility='private')
    return blocks


def serve(models, host, port, lpips_weights=None):
    """Show the page on ``http://host:port`` until Ctrl-C or SIGTERM; both leave no file behind.

    Args:
        models (dict[str, Reconstructor]): by the name that the page shows.
        host (str): such as ``'127.0.0.1'``, which only this machine reaches.
        port (int): a free one.
        lpips_weights (str | Path): see `metrics_of`.

    Raises:
        SettingError: the port is busy, or the host is none of this machine.
        MissingLibrary: Gradio is not installed.
    """
    check_address(host, port)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    own = resources.files('wfvae_toolkit.app')
    script = (VENDOR / 'img-comparison-slider.js').read_text(encoding='utf-8')
    css = (VENDOR / 'img-comparison-slider.css').read_text(encoding='utf-8') + (own / 'app.css').read_text('utf-8')
    # Resolved: Gradio serves no file behind a link.
    with tempfile.TemporaryDirectory(prefix='wfvae_app_') as temporary:
        folder = Path(temporary).resolve() / 'pictures'
        folder.mkdir()
        gradio = import_gradio(folder.parent / 'uploads')
        blocks = build_page(gradio, Looker(models, metrics_of(lpips_weights), folder))
        blocks.queue(api_open=False)
        blocks.launch(
            server_name=host, server_port=port, share=False, inbrowser=False, quiet=True, prevent_thread_lock=True,
            allowed_paths=[str(folder)], footer_links=[], enable_monitoring=False, mcp_server=False, ssr_mode=False,
            pwa=False, run_history=False, css=css, head=f'<script>{script}</script><script>{_SCRIPT}</script>',
            # Names of fonts of the system: Gradio's themes ask Google for theirs.
            theme=gradio.themes.Base(font=['system-ui', 'sans-serif'], font_mono=['ui-monospace', 'monospace']))
        print(f'Open {blocks.local_url} in a browser. Ctrl-C ends the app.', flush=True)
        blocks.block_thread()
