"""The report in Debian's firefox-esr: what differs between browsers."""

import pytest


@pytest.fixture
def page(firefox, two):
    firefox.command('WebDriver:Navigate', url=two.resolve().as_uri())
    firefox.wait("document.querySelectorAll('.tile').length === 12")
    yield firefox
    assert firefox.errors() == []


def test_pictures_are_shown_and_divided(page):
    page.click('.tile')
    page.wait("document.querySelector('#layer-right').naturalWidth === 64")
    page.press('#slider', '\ue011')  # Home
    assert page.run("return document.querySelector('#slider').value") == 0
    page.press('#slider', '+')
    assert page.run("return document.querySelector('#layer-left').style.transform") != ''
    page.press('#slider', '\ue00c')  # Escape
    assert not page.run("return document.querySelector('#viewer').open")


def test_curves_are_drawn_and_channels_shown(page):
    page.run("document.querySelector('#charts').scrollIntoView()")
    page.wait("document.querySelector('#charts .u-over')")
    assert page.run("return document.querySelectorAll('.map').length") == 4


def test_the_theme_changes(page):
    page.run("""const theme = document.querySelector('#theme');
        theme.value = 'dark';
        theme.dispatchEvent(new Event('change'));""")
    assert page.run('return getComputedStyle(document.body).backgroundColor') == 'rgb(20, 23, 26)'
