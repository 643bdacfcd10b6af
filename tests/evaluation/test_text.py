"""The text that OCR reads in images and in their reconstructions."""

import math

import numpy as np
import pytest
import torch

from wfvae_toolkit.datasets import SyntheticImages
from wfvae_toolkit.evaluation import ReconstructionEvaluator, text
from wfvae_toolkit.evaluation.text import edit_distance, find_reader, text_similarity
from wfvae_toolkit.utils.errors import MissingLibrary, SettingError


def letters(levels):
    """A reader for tests: the red levels of the first row are letters, and 0 is none."""
    return ''.join(chr(level) for level in levels[0, :, 0] if level)


def written(words, width=24):
    image = torch.zeros(3, 12, width)
    image[0, 0, :len(words)] = torch.tensor([ord(letter) for letter in words]) / 255
    return image


@pytest.mark.parametrize(('one', 'other', 'distance'), [
    ('kitten', 'sitting', 3), ('', 'abc', 3), ('abc', 'abc', 0), ('abc', 'acb', 2), ('flaw', 'lawn', 2)])
def test_the_edit_distance_is_that_of_the_textbook(one, other, distance):
    assert edit_distance(one, other) == edit_distance(other, one) == distance


def test_the_similarity_is_relative_to_the_longer_text():
    assert text_similarity('abcd', 'abcd') == text_similarity('', '') == 1
    assert text_similarity('abcd', '') == 0
    assert text_similarity('abcd', 'abXde') == pytest.approx(1 - 2 / 5)


def score(pairs, **settings):
    row = dict(type='TextSimilarity', reader='tests.evaluation.test_text.letters', **settings)
    evaluator = ReconstructionEvaluator({'text': row})
    for index, (one, other) in enumerate(pairs):
        target, made = (2 * written(words)[None] - 1 for words in (one, other))
        evaluator.process('', [index], [str(index)], target, made)
    return evaluator.summarize()


def test_images_with_text_count_alone():
    """Spaces do not count; an image with fewer than 8 characters is left out, and that is said."""
    summary = score([('ab cd efgh', 'abcdefgh'), ('abcdefgh', 'abcd'), ('short', 'shirt')])
    entry = summary.metrics['text']
    assert entry['mean'] == pytest.approx((1 + 0.5) / 2)
    assert entry['notes'] == ['text in 2 of 3 images']
    assert entry['higher_is_better']
    assert score([('short', 'shirt')], least=2).metrics['text']['mean'] == pytest.approx(0.8)
    assert score([('short', 'shirt')]).metrics['text']['nan'] == 1


def test_what_cannot_be_is_refused(monkeypatch):
    with pytest.raises(SettingError, match="reader='ocr': use one of rapidocr, tesseract, or the dotted path"):
        find_reader('ocr')
    with pytest.raises(SettingError, match="reader='os.nothing'"):
        find_reader('os.nothing')
    with pytest.raises(SettingError, match='least=0'):
        score([], least=0)
    monkeypatch.setattr(text.importlib.util, 'find_spec', lambda name: None)
    for name in ('rapidocr', 'tesseract'):
        find = getattr(text, f'_{name}').__wrapped__
        with pytest.raises(MissingLibrary, match=f"reader='{name}': .* is not installed; pip install"):
            find()
    text._rapidocr.cache_clear()
    evaluator = ReconstructionEvaluator({'text': dict(type='TextSimilarity', optional=True)})
    assert 'pip install rapidocr' in evaluator.not_computed['text']


@pytest.mark.slow
def test_ocr_reads_drawn_text_and_less_of_it_when_it_is_blurred():
    pytest.importorskip('rapidocr')
    images = SyntheticImages(length=4, size=192, seed=3, kinds=dict(text=1))
    row = dict(type='TextSimilarity')
    blurred = {'same': 1, 'blurred': 3}
    found = {}
    for name, shrink in blurred.items():
        evaluator = ReconstructionEvaluator({'text': row})
        for index in range(4):
            target = torch.from_numpy(np.asarray(images[index].image)).float()[None] / 127.5 - 1
            small = torch.nn.functional.interpolate(target, scale_factor=1 / shrink, mode='area')
            made = torch.nn.functional.interpolate(small, size=target.shape[-2:], mode='bicubic')
            evaluator.process('', [index], [str(index)], target, made)
        found[name] = evaluator.summarize().metrics['text']['mean']
    assert found['same'] == 1
    assert found['blurred'] < 0.8
    assert not math.isnan(found['blurred'])
