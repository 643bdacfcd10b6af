"""Debian's browsers: chromium, driven by Playwright, and firefox-esr; `make test-browser` installs them."""

import shutil

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from tests.browser.firefox import Firefox
from tests.report.made import NAMES, make_evaluation, make_maps, make_run
from wfvae_toolkit.report import write_report


@pytest.fixture(scope='session')
def two(tmp_path_factory):
    """A report of two runs; the second is better by 1 dB, and has channel maps."""
    folder = tmp_path_factory.mktemp('two')
    for place, name in enumerate(('first', 'second')):
        run = make_run(folder / name, kl_weight=10.0**-place)
        make_evaluation(run / 'evaluation', NAMES, shift=float(place), side=64)
    make_maps(folder / 'second/evaluation', NAMES[:3])
    return write_report([folder / 'first', folder / 'second'], folder / 'report')


@pytest.fixture(scope='session')
def firefox(tmp_path_factory):
    browser = Firefox(tmp_path_factory.mktemp('firefox') / 'profile')
    yield browser
    browser.close()


@pytest.fixture(scope='session')
def chromium():
    """The system's own browser. Root needs --no-sandbox; no flag loosens what a page from disk may do."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which('chromium'), args=['--no-sandbox'])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """Opens a file or an address; when the test ends, no error was logged and nothing of another place was asked for.

    The place of a file is its folder, that of an address its server.
    """
    contexts, complaints = [], []

    def call(place, **options):
        address = place if isinstance(place, str) else place.resolve().as_uri()
        options = {'viewport': {'width': 1280, 'height': 900}, 'reduced_motion': 'reduce', **options}
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        own = address if isinstance(place, str) else place.parent.resolve().as_uri()
        page.on('console', lambda message: complaints.append(message.text) if message.type == 'error' else None)
        page.on('pageerror', lambda error: complaints.append(str(error)))
        page.on('dialog', lambda dialog: (complaints.append(f'dialog: {dialog.message}'), dialog.dismiss()))
        page.on('request', lambda request: None if request.url.startswith((own, 'data:'))
                else complaints.append(f'request: {request.url}'))
        # Gradio's page ends its stream of events when all have come.
        page.on('requestfailed', lambda request: None if '/gradio_api/queue/data?' in request.url
                else complaints.append(f'failed: {request.url}'))
        page.goto(address)
        return page

    yield call
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def violations():
    """Serious violations that axe-core finds in a page: 'id: elements'."""
    def call(page):
        # Preloading would fetch style sheets, which a page from disk may not.
        found = Axe().run(page, options={'preload': False}).response['violations']
        return [f'{one["id"]}: {[node["target"] for node in one["nodes"]]}' for one in found
                if one['impact'] in ('serious', 'critical')]
    return call
