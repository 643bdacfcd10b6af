import ast
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import save_small_run

ROOT = Path(__file__).resolve().parents[2]
# Runs tools/app.py and writes a line for every address that this process looks up or connects to.
WATCHED = """
import runpy, sys
log = open(sys.argv[1], 'w', buffering=1)
def watch(event, arguments):
    if event == 'socket.connect':
        log.write(repr(arguments[1]) + '\\n')
    elif event == 'socket.getaddrinfo':
        log.write(repr(arguments[:2]) + '\\n')
sys.addaudithook(watch)
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""
OWN = {'127.0.0.1', 'localhost', b'localhost', b'127.0.0.1'}


@pytest.fixture(scope='module')
def app(tmp_path_factory):
    """(address, log of connections) of the app with two models."""
    folder = tmp_path_factory.mktemp('app')
    models = [save_small_run(folder / name) for name in ('first <b>', 'second')]
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    log = folder / 'connections'
    process = subprocess.Popen(
        [sys.executable, '-c', WATCHED, log, ROOT / 'tools/app.py', *models, '--port', str(port)],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, 'TMPDIR': str(folder)})
    said = process.stdout.readline()
    yield re.search(r'http://127\.0\.0\.1:\d+/', said)[0], log
    assert list(folder.glob('wfvae_app_*'))
    process.terminate()
    assert process.wait(30) == 0
    assert not list(folder.glob('wfvae_app_*'))


@pytest.fixture
def upload(app, open_page, tmp_path):
    """Opens the app, gives it a file by the file chooser and waits for ``selector``."""
    def call(name, content, selector='.wfvae', **options):
        page = open_page(app[0], **options)
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content.save(path)
        with page.expect_file_chooser() as chooser:
            page.get_by_role('button', name='Click to upload').click()
        chooser.value.set_files(path)
        page.locator(selector).first.wait_for(timeout=60000)
        return page
    return call


def picture(width=96, height=64):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_two_models_stand_side_by_side(upload, violations, scheme):
    page = upload('photo.png', picture(), color_scheme=scheme)
    columns = page.locator('.wfvae .columns > section')
    assert columns.count() == 2
    assert 'first <b>' in columns.nth(0).locator('h3').text_content()
    left, right = (columns.nth(number).bounding_box() for number in (0, 1))
    assert left['y'] == right['y']
    assert left['x'] + left['width'] <= right['x']
    for image in columns.locator('img').all():
        image.evaluate('image => image.decode()')
    assert columns.nth(0).locator('tr').all_text_contents()[0].split()[0] == 'PSNR'
    assert '48 and more' in columns.nth(1).text_content()
    assert columns.nth(0).locator('.channels img').count() == 3
    assert violations(page) == []


def test_the_divider_follows_the_keys(upload):
    page = upload('photo.png', picture())
    divider = page.locator('img-comparison-slider.rendered').first
    divider.focus()
    page.keyboard.down('ArrowRight')
    page.wait_for_timeout(300)
    page.keyboard.up('ArrowRight')
    value = divider.evaluate('divider => divider.value')
    assert value > 50
    assert divider.get_attribute('aria-valuenow') == str(round(value))


def test_at_100_percent_a_pixel_is_a_pixel(upload):
    page = upload('photo.png', picture(900, 40))
    original = page.locator('img[alt=Original]').first
    original.evaluate('image => image.decode()')
    assert original.bounding_box()['width'] < 900
    page.get_by_label('Show at 100 %').check()
    assert original.bounding_box()['width'] == 900
    assert page.locator('.wfvae .view').first.evaluate('view => view.scrollWidth > view.clientWidth')


@pytest.mark.parametrize(('name', 'content'), [('text.png', b'no picture'), ('empty.png', b''),
                                               ('cut.png', b'\x89PNG\r\n\x1a\n')])
def test_a_wrong_file_is_one_sentence(upload, name, content):
    page = upload(name, content, '[role=alert]')
    assert page.locator('#result [role=alert]').text_content().startswith(f'{name} cannot be read as a picture: ')
    assert page.locator('.wfvae').count() == 0


def test_a_single_pixel_and_a_hostile_name(upload):
    name = '<img src=x onerror=alert(1)>${alert(2)}.png'
    page = upload(name, picture(1, 1))
    assert 'images of at least 11x11 px' in page.locator('.wfvae table').first.text_content()
    assert '<script' not in page.locator('.wfvae').inner_html()


def test_it_fits_a_phone(upload):
    page = upload('photo.png', picture(), viewport={'width': 390, 'height': 800})
    assert page.evaluate('document.documentElement.scrollWidth') <= 390


def test_the_server_connects_to_itself_alone(app, upload):
    upload('photo.png', picture())
    hosts = {ast.literal_eval(line)[0] for line in app[1].read_text().splitlines()}
    assert hosts  # Gradio looks whether its page answers
    assert hosts <= OWN
