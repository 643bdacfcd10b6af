"""Three questions that the page answers alone, with the clicks that they take (docs/report.md tells the walks)."""

import pytest


class Reader:
    """Looks at a page and counts what the hand does."""

    def __init__(self, page):
        self.page, self.clicks = page, 0

    def click(self, selector):
        self.clicks += 1
        self.page.locator(selector).first.click()

    def choose(self, selector, label):
        self.clicks += 2  # open the list, choose
        self.page.select_option(selector, label=label)

    def read(self, selector):
        place = self.page.locator(selector).first
        place.scroll_into_view_if_needed()
        # What was out of sight is laid out a frame later.
        self.page.wait_for_function('place => place.innerText.trim()', arg=place.element_handle())
        return ' '.join(place.inner_text().split())


@pytest.fixture
def reader(two, open_page):
    return Reader(open_page(two))


def test_which_picture_is_worst_and_why(reader):
    assert 'photo 00.png' in reader.read('#wall .tile')
    reader.click('#wall .tile')
    assert 'rank 1 of 12' in reader.read('#viewer-scores tbody tr')
    reader.choose('#viewer-right', 'error of first')
    assert '48 and more levels of 255' in reader.read('#viewer-scales')
    reader.page.wait_for_function("document.querySelector('#layer-right').naturalWidth === 64")
    assert reader.clicks == 3


def test_is_the_second_better_than_the_first(reader):
    row = reader.read('[data-base]:not([hidden]) tbody tr')
    assert row.startswith('second +1.')
    assert 'better 12 images' in row
    assert reader.clicks == 0


def test_what_differs_between_them(reader):
    reader.click('nav a[href="#settings"]')
    table = reader.page.get_by_role('table', name='Settings that differ')
    assert table.is_visible()
    assert [cell.split() for cell in table.inner_text().splitlines()][2:] == [['model.losses.kl.weight', '1.0', '0.1']]
    assert reader.clicks == 1
