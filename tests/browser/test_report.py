import json
import time

import pytest

from tests.report.made import NAMES, make_evaluation, make_run
from wfvae_toolkit.report import write_report


def tiles(page):
    return page.locator('#wall .tile .name').all_text_contents()


def transforms(page):
    return [page.locator(f'#layer-{side}').evaluate('image => image.style.transform') for side in ('left', 'right')]


def open_first(page):
    page.locator('.tile').first.click()
    page.wait_for_function("document.querySelector('#layer-right').complete")


def divider(page):
    return page.locator('#slider').evaluate('slider => slider.value')


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_no_serious_violation(two, open_page, violations, scheme):
    page = open_page(two, color_scheme=scheme)
    for details in page.locator('details').all():
        details.evaluate('one => { one.open = true; }')
    page.evaluate("document.querySelector('#charts').scrollIntoView()")
    page.locator('#charts .u-over').first.wait_for()
    assert violations(page) == []
    open_first(page)
    page.select_option('#viewer-right', 'e1')
    assert violations(page) == []


def test_worst_first_and_other_orders(two, open_page):
    page = open_page(two)
    # Scores repeat each seven pictures, and grow in between.
    assert {name[:8] for name in tiles(page)[:2]} == {'photo 00', 'photo 07'}
    page.select_option('#wall-order', 'best')
    assert tiles(page)[0] == 'photo 06.png'
    page.select_option('#wall-order', 'name')
    assert tiles(page) == NAMES
    page.select_option('#wall-metric', label='LPIPS (lower is better)')
    page.select_option('#wall-order', 'worst')
    assert tiles(page)[0] in ('photo 00.png', 'photo 07.png')
    page.fill('#wall-filter', '11')
    assert tiles(page) == ['photo 11.png']


def test_change_between_runs_can_be_sorted(two, open_page):
    page = open_page(two)
    page.select_option('#wall-run', label='change from first to second')
    assert all(' +1.0' in text or ' +0.9' in text for text in page.locator('#wall .value').all_text_contents())


def test_divider_follows_mouse_and_keys(two, open_page):
    page = open_page(two)
    open_first(page)
    box = page.locator('#slider').bounding_box()
    page.mouse.move(box['x'] + box['width'] / 2, box['y'] + 20)
    page.mouse.down()
    page.mouse.move(box['x'] + box['width'] / 4, box['y'] + 20, steps=4)
    page.mouse.up()
    assert divider(page) == pytest.approx(25, abs=1)
    page.keyboard.press('End')
    assert divider(page) == 100
    page.keyboard.down('ArrowLeft')
    page.wait_for_timeout(300)
    page.keyboard.up('ArrowLeft')
    assert divider(page) < 100
    assert page.locator('#slider').get_attribute('aria-valuenow') == str(round(divider(page)))


def test_divider_follows_touch(two, open_page):
    page = open_page(two, viewport={'width': 390, 'height': 844}, has_touch=True)
    page.locator('.tile').first.tap()
    box = page.locator('#slider').bounding_box()
    session = page.context.new_cdp_session(page)
    for kind, share in [('touchStart', 0.5), ('touchMove', 0.6), ('touchMove', 0.75)]:
        session.send('Input.dispatchTouchEvent', {'type': kind, 'touchPoints': [
            {'x': box['x'] + share * box['width'], 'y': box['y'] + 20}]})
    session.send('Input.dispatchTouchEvent', {'type': 'touchEnd', 'touchPoints': []})
    assert divider(page) == pytest.approx(75, abs=2)


def test_zoom_in_step_up_to_single_pixels(two, open_page):
    page = open_page(two)
    open_first(page)
    before = transforms(page)
    page.locator('#slider').hover()
    page.mouse.wheel(0, -100)
    page.wait_for_timeout(100)
    left, right = transforms(page)
    assert left == right != before[0]
    for _ in range(12):
        page.keyboard.press('+')
    left, right = transforms(page)
    assert left == right
    # An image's pixel is 40 CSS px wide.
    assert page.locator('#zoom-value').text_content() == '4000 %'
    assert page.locator('#layer-left').evaluate('one => getComputedStyle(one).imageRendering') == 'pixelated'
    page.keyboard.press('Shift+ArrowRight')
    assert transforms(page)[0] == transforms(page)[1] != left
    page.keyboard.press('0')
    assert 'scale(1)' in transforms(page)[0]


def test_a_zoomed_picture_is_dragged_and_the_grip_still_divides(two, open_page):
    page = open_page(two)
    open_first(page)
    for _ in range(4):
        page.keyboard.press('+')
    box = page.locator('#slider').bounding_box()
    before = transforms(page)[0]
    page.mouse.move(box['x'] + 40, box['y'] + 40)
    page.mouse.down()
    page.mouse.move(box['x'] + 90, box['y'] + 90, steps=5)
    page.mouse.up()
    assert transforms(page)[0] == transforms(page)[1] != before
    assert divider(page) == 50
    moved = transforms(page)[0]
    page.mouse.move(box['x'] + box['width'] / 2, box['y'] + box['height'] / 2)
    page.mouse.down()
    page.mouse.move(box['x'] + box['width'] * 0.75, box['y'] + box['height'] / 2, steps=5)
    page.mouse.up()
    assert divider(page) == pytest.approx(75, abs=1)
    assert transforms(page)[0] == moved


def test_maps_have_a_scale_and_scores_stand_below(two, open_page):
    page = open_page(two)
    open_first(page)
    page.select_option('#viewer-left', 'e0')
    page.select_option('#viewer-right', 'd0-1')
    text = page.locator('#viewer-scales').text_content()
    assert '48 and more levels of 255' in text
    assert 'second is nearer to the original' in text
    assert page.locator('#viewer-scores tbody tr').count() == 2
    for side in ('left', 'right'):
        assert page.locator(f'#layer-{side}').evaluate('one => one.naturalWidth') == 64
        assert 'photo' in page.locator(f'#layer-{side}').get_attribute('alt')


def test_keyboard_from_end_to_end(two, open_page):
    page = open_page(two)
    page.keyboard.press('Tab')
    assert page.evaluate('document.activeElement.textContent') == 'Skip to the content'
    page.keyboard.press('Enter')
    for _ in range(40):
        page.keyboard.press('Tab')
        if page.evaluate("document.activeElement.classList.contains('tile')"):
            break
    title = page.evaluate("document.activeElement.querySelector('.name').textContent")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == 'solid'
    page.keyboard.press('Enter')
    assert page.locator('#viewer-title').text_content() == title
    page.keyboard.press('PageDown')
    assert page.locator('#viewer-title').text_content() != title
    page.keyboard.press('Escape')
    assert not page.locator('#viewer').is_visible()
    assert page.evaluate("document.activeElement.classList.contains('tile')")


def test_curves_zoom_together_and_mark_the_discriminator(two, open_page):
    page = open_page(two)
    page.evaluate("document.querySelector('#curves').scrollIntoView()")
    page.locator('#charts .u-over').nth(1).wait_for()
    assert 'discriminator from iteration 20' in page.locator('#curves-legend').text_content()
    first = page.locator('#charts .plot').first
    first.focus()
    before = page.locator('#charts canvas').nth(1).evaluate('one => one.toDataURL()')
    page.keyboard.press('+')
    page.wait_for_timeout(200)
    assert page.locator('#charts canvas').nth(1).evaluate('one => one.toDataURL()') != before
    page.click('#curves-reset')
    page.wait_for_timeout(200)
    assert page.locator('#charts canvas').nth(1).evaluate('one => one.toDataURL()') == before
    page.locator('#curves-smooth').fill('0.6')
    page.check('#curves-log')
    page.select_option('#curves-x', 'hours')
    page.locator('#charts .u-over').first.wait_for()
    legend = page.locator('#charts .u-legend').first.text_content()
    assert 'first, raw' in legend
    assert 'second, smoothed' in legend
    assert 'lowest' in first.get_attribute('aria-label')


def test_compared_with_another_run(two, open_page):
    page = open_page(two)
    assert page.locator('[data-base]:visible .verdict').first.text_content() == 'better'
    page.select_option('#base', label='second')
    assert page.locator('[data-base]:visible .verdict').first.text_content() == 'worse'


def test_theme_is_chosen_and_kept(two, open_page):
    page = open_page(two, color_scheme='light')
    page.select_option('#theme', 'dark')
    assert page.evaluate('getComputedStyle(document.body).backgroundColor') == 'rgb(20, 23, 26)'
    page.reload()
    assert page.evaluate('getComputedStyle(document.body).backgroundColor') == 'rgb(20, 23, 26)'


@pytest.mark.parametrize('width', [320, 390, 1920])
def test_nothing_is_wider_than_the_screen(two, open_page, width):
    page = open_page(two, viewport={'width': width, 'height': 800})
    assert page.evaluate('document.documentElement.scrollWidth') <= width
    open_first(page)
    assert page.locator('#viewer').evaluate('viewer => viewer.scrollWidth <= viewer.clientWidth')


def test_hostile_names_are_texts(tmp_path, open_page):
    hostile = '<img src=x onerror=alert(1)>"\'&.png'
    run = make_run(tmp_path / '<script>alert(3)<')
    make_evaluation(run / 'evaluation', [hostile, *NAMES])
    (run / 'tiny.py').write_text("model = dict(note='</script><img src=x onerror=alert(2)>')\n")
    page = open_page(write_report([run], tmp_path / 'out'))
    assert hostile in tiles(page)
    page.locator('#wall .tile', has_text='onerror').click()
    assert page.locator('#viewer-title').text_content() == hostile
    assert page.locator('h1').text_content() == '<script>alert(3)<'


@pytest.mark.parametrize('rows', [0, 1])
def test_a_run_that_has_hardly_begun(tmp_path, open_page, violations, rows):
    page = open_page(write_report([make_run(tmp_path / 'run', rows=rows)], tmp_path / 'out'))
    assert 'No run has scores' in page.locator('#wall-count').text_content()
    assert violations(page) == []
    if rows:
        page.evaluate("document.querySelector('#curves').scrollIntoView()")
        page.locator('#charts .u-over').first.wait_for()
    else:
        assert 'No run has a log yet' in page.locator('#curves-note').text_content()


def test_an_empty_run(tmp_path, open_page):
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run/run.json').write_text(json.dumps({}))
    page = open_page(write_report([tmp_path / 'run'], tmp_path / 'out'))
    assert 'No iteration is logged yet' in page.locator('#summary').text_content()


def test_500_pictures_and_half_a_log(tmp_path, open_page):
    names = [f'{number:04}.png' for number in range(500)]
    run = make_run(tmp_path / 'run')
    make_evaluation(run / 'evaluation', names, side=64)
    with open(run / 'log.jsonl', 'a') as file:
        file.write('{"phase": "tr')
    report = write_report([run], tmp_path / 'out', pictures=500)
    start = time.perf_counter()
    page = open_page(report)
    assert len(tiles(page)) == 500
    assert time.perf_counter() - start < 10
    # Full pictures are fetched when opened, thumbnails when near.
    fetched = page.evaluate("performance.getEntriesByType('resource').map(one => one.name)")
    assert not any('/pictures/o' in name for name in fetched)
    page.select_option('#wall-order', 'best')
    assert len(tiles(page)) == 500


def test_new_data_come_without_losing_the_place(tmp_path, open_page):
    run = make_run(tmp_path / 'run', rows=10)
    make_evaluation(run / 'evaluation', NAMES, side=64)
    page = open_page(write_report([run], tmp_path / 'out', live=True))
    page.select_option('#wall-order', 'best')
    page.locator('#config-0 summary').click()
    open_first(page)
    place = page.evaluate('scrollY')
    page.keyboard.press('+')
    zoomed = transforms(page)
    make_run(run, rows=20)
    write_report([run], tmp_path / 'out', live=False)
    page.wait_for_function("document.querySelector('#summary').textContent.includes('20 of 40')", timeout=15000)
    assert transforms(page) == zoomed
    page.keyboard.press('Escape')
    assert page.input_value('#wall-order') == 'best'
    assert page.locator('#config-0').get_attribute('open') is not None
    assert page.evaluate('scrollY') == pytest.approx(place, abs=60)


def test_channels_of_a_picture(two, open_page):
    page = open_page(two)
    assert 'No channel maps' in page.locator('#latents').text_content()  # of the first
    maps = page.locator('#maps-runs .map')
    assert [one.get_attribute('aria-label') for one in maps.all()] == [f'Channel {n} of second' for n in range(4)]
    positions = [one.evaluate('map => getComputedStyle(map).backgroundPositionY') for one in maps.all()]
    assert [float(place.removesuffix('%')) for place in positions] == pytest.approx([0, 100 / 3, 200 / 3, 100], abs=0.1)
    before = maps.first.get_attribute('style')
    page.select_option('#maps-picture', NAMES[1])
    assert maps.first.get_attribute('style') != before


def test_what_is_not_there_has_no_controls(tmp_path, open_page):
    make_evaluation(tmp_path / 'scores', NAMES, kept=[])
    page = open_page(write_report([tmp_path / 'scores'], tmp_path / 'out'))
    assert not page.locator('#curves-controls').is_visible()
    assert not page.locator('#maps').is_visible()
    assert 'no pictures of them are there' in page.locator('#wall-count').text_content()


def test_it_prints_on_white_without_controls(two, open_page):
    page = open_page(two, color_scheme='dark')
    page.emulate_media(media='print')
    assert not page.locator('.controls').first.is_visible()
    assert page.evaluate('getComputedStyle(document.body).backgroundColor') == 'rgb(255, 255, 255)'
    assert page.pdf(format='A4').startswith(b'%PDF')
