"""The site that `make docs` builds, from disk and from a local server."""

import functools
import http.server
import threading
from pathlib import Path

import pytest
from playwright.sync_api import expect

SITE = Path(__file__).resolve().parents[2] / 'build/docs/site'
PAGES = ['index.html', 'benchmarks.html', 'quickstart.html', 'reference/wfvae_toolkit.losses.html']


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope='module')
def server():
    """Address of the site on a port of this machine."""
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=SITE)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()


@pytest.fixture(params=['disk', 'server'])
def open_site(request, chromium, server):
    """Opens a page of the site; at the end no error was logged and nothing was asked of another host."""
    root = SITE.as_uri() if request.param == 'disk' else server
    complaints, context = [], chromium.new_context(viewport={'width': 1280, 'height': 900}, reduced_motion='reduce')

    def call(path):
        page = context.new_page()
        page.on('console', lambda message: complaints.append(message.text) if message.type == 'error' else None)
        page.on('pageerror', lambda error: complaints.append(str(error)))
        page.on('request', lambda request: None if request.url.startswith((root, 'data:', 'blob:', 'about:'))
                else complaints.append(f'request: {request.url}'))
        # Aborted: the next page was opened before it came.
        page.on('requestfailed', lambda request: None if request.failure == 'net::ERR_ABORTED'
                else complaints.append(f'failed: {request.url}'))
        page.goto(f'{root}/{path}')
        return page

    yield call
    context.close()
    assert complaints == []


def test_the_search_finds_posterior(open_site):
    page = open_site('index.html')
    page.keyboard.press('/')
    page.get_by_role('combobox', name='Search').fill('posterior')
    page.get_by_role('option', name='Posteriors, and how to add one').click()
    page.wait_for_url('**/add_a_posterior.html*')


def test_a_page_leads_to_the_code_and_the_reference(open_site):
    page = open_site('one_iteration.html')
    page.get_by_role('link', name='train_step.py').first.click()
    page.wait_for_url('**/train_step.py.html')
    assert 'def train_step' in page.locator('.md-content').inner_text()


def test_the_example_of_a_report_opens(open_site):
    page = open_site('example.html')
    page.get_by_role('link', name='Open the report').click()
    page.wait_for_url('**/example_report/index.html')
    page.get_by_role('heading', name='Pictures').wait_for()


def test_the_notebook_s_slider_follows_keys(open_site):
    page = open_site('quickstart.html')
    page.locator('iframe').first.scroll_into_view_if_needed()
    slider = page.frame_locator('iframe').first.get_by_role('slider')
    slider.press('ArrowRight', delay=200)  # it moves while the key is held
    expect(slider).not_to_have_attribute('aria-valuenow', '50')


@pytest.mark.parametrize('path', PAGES)
def test_axe_finds_no_serious_violation(open_site, violations, path):
    page = open_site(path)
    page.wait_for_load_state('load')
    assert violations(page) == []


@pytest.mark.parametrize('path', PAGES)
def test_a_phone_need_not_scroll_a_page_sideways(open_site, path):
    page = open_site(path)
    page.set_viewport_size({'width': 400, 'height': 800})
    assert page.evaluate('document.documentElement.scrollWidth') <= 400
