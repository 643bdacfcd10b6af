import base64
import html
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from wfvae_toolkit.inference import ComparisonSlider
from wfvae_toolkit.utils.errors import MissingFile, SettingError

BLACK, GREY = torch.full((3, 4, 6), -1.0), torch.zeros(1, 3, 4, 6)


def page_of(slider):
    """The page inside the frame, as a browser reads it."""
    return html.unescape(re.search(r'srcdoc="([^"]*)"', slider._repr_html_())[1])


def test_the_frame_holds_both_pictures_unchanged():
    levels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    page = page_of(ComparisonSlider(levels, GREY))
    shown = [np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
             for data in re.findall(r'data:image/webp;base64,([^"]*)"', page)]
    assert len(shown) == 2
    assert (shown[0] == levels).all()
    assert (shown[1] == 128).all()


def test_the_frame_loads_nothing():
    page = page_of(ComparisonSlider(BLACK, GREY))
    assert "customElements.define('img-comparison-slider'" in page.replace('"', "'")
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert 'http' not in re.sub(r'http://www\.w3\.org/\S*', '', page)


def test_labels_are_escaped_in_the_frame_and_around_it():
    slider = ComparisonSlider(BLACK, GREY, labels=('a"><script>alert(1)</script>', '<b>'))
    assert '<script>alert' not in page_of(slider)
    assert '<b>' not in page_of(slider)
    assert slider._repr_html_().count('<') == 2  # the frame's own tags


def test_the_width_is_the_pictures_own_or_the_given_one():
    assert 'width: 6px' in ComparisonSlider(BLACK, GREY)._repr_html_()
    assert 'width: 60px' in ComparisonSlider(BLACK, GREY, width=60)._repr_html_()


@pytest.mark.parametrize(('settings', 'named'), [
    (dict(original=torch.zeros(3, 4, 4)), '4, 4'),
    (dict(original=torch.zeros(2, 3, 4, 6), reconstruction=torch.zeros(2, 3, 4, 6)), '2, 3, 4, 6'),
    (dict(labels=('one',)), 'one'),
    (dict(width=0), 'width=0')])
def test_what_is_no_pair_of_pictures_is_refused(settings, named):
    with pytest.raises(SettingError, match=named):
        ComparisonSlider(**{**dict(original=BLACK, reconstruction=GREY), **settings})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingFile, match='gone.png'):
        ComparisonSlider(tmp_path / 'gone.png', GREY)
