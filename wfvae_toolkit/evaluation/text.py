"""How much of the text in pictures can still be read in their reconstructions."""

import functools
import importlib.util
import logging
from importlib import import_module

import torch

from wfvae_toolkit.registry import METRICS
from wfvae_toolkit.utils.distributed import on_main
from wfvae_toolkit.utils.errors import MissingLibrary, SettingError, is_number

from .statistics import statistics
from .whole_set import WholeSetMetric, WholeSetScore

READERS = ('rapidocr', 'tesseract')


@METRICS.register_module()
class TextSimilarity(WholeSetMetric):
    """1 - edit distance / length between the text that OCR reads in an image and in its reconstruction.

    The normalised edit distance of benchmarks for text (NED, higher is better), with what is read in the image itself
    in place of a transcript: it needs none, and what OCR cannot read in the image does not count. The length is that of
    the longer text. Mean over the images with at least ``least`` characters; spaces do not count.

    Args:
        reader (str): 'rapidocr' (pip install rapidocr: PaddleOCR's models come with it), 'tesseract' (pip install
            pytesseract, and the program tesseract-ocr), or the dotted path of a function: uint8 array (H, W, 3), RGB
            -> str.
        least (int): characters that an image must have.

    Raises:
        MissingLibrary: the reader is not installed.
        SettingError: no such reader, or a number below 1.
    """

    higher_is_better = True

    def __init__(self, reader='rapidocr', least=8):
        super().__init__()
        if not is_number(least, 1, whole=True):
            raise SettingError(f'TextSimilarity: least={least!r}; a whole number of characters from 1')
        self.read, self.least = find_reader(reader), least
        self.add_rows('similarity')  # NaN: too little text
        self.description = (f'1 - edit distance / length of the text that {reader} reads in image and reconstruction, '
                            f'mean over images with {least} characters or more')

    def update(self, images, reconstructions):
        pairs = zip(images, reconstructions, strict=True)
        self.similarity.append(torch.tensor([self._of_pair(*pair) for pair in pairs], dtype=torch.float64))

    def _of_pair(self, image, reconstruction):
        text = self._text(image)
        return text_similarity(text, self._text(reconstruction)) if len(text) >= self.least else float('nan')

    def _text(self, image):
        levels = image.clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0).cpu().contiguous().numpy()
        return ''.join(self.read(levels).split())

    def compute(self):
        return on_main(self._compute)

    def _compute(self):
        scored = self.similarity[~self.similarity.isnan()].tolist()
        note = f'text in {len(scored)} of {len(self.similarity)} images'
        if not scored:
            return WholeSetScore(float('nan'), notes=(note,))
        found = statistics(scored)
        return WholeSetScore(found['mean'], found['ci95'], notes=(note,))


def text_similarity(one, other):
    """1 - edit distance / length of the longer of two texts; 1 for two empty ones."""
    longest = max(len(one), len(other))
    return 1 - edit_distance(one, other) / longest if longest else 1.0


def edit_distance(one, other):
    """Fewest insertions, deletions and replacements of single characters between two texts (Levenshtein 1966)."""
    row = list(range(len(other) + 1))
    for place, letter in enumerate(one, 1):
        before, row[0] = row[0], place
        for column, candidate in enumerate(other, 1):
            before, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, before + (letter != candidate))
    return row[-1]


def find_reader(name):
    """A reader by name or dotted path: uint8 array (H, W, 3), RGB -> str. Raises as `TextSimilarity`."""
    if name == 'rapidocr':
        return _rapidocr()
    if name == 'tesseract':
        return _tesseract()
    module, _, function = name.rpartition('.')
    if not module:
        raise SettingError(f'reader={name!r}: use one of {", ".join(READERS)}, or the dotted path of a function')
    try:
        return getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise SettingError(f'reader={name!r}: {error}') from error


@functools.cache
def _rapidocr():
    if importlib.util.find_spec('rapidocr') is None:
        raise MissingLibrary("reader='rapidocr': rapidocr is not installed; pip install rapidocr (its models come with "
                             "it), or use reader='tesseract'")
    engine = import_module('rapidocr').RapidOCR(params={'Global.log_level': 'error'})
    logging.getLogger('RapidOCR').setLevel(logging.ERROR)
    # It expects BGR, as OpenCV reads files.
    return lambda levels: ' '.join(engine(levels[:, :, ::-1].copy()).txts or ())


@functools.cache
def _tesseract():
    if importlib.util.find_spec('pytesseract') is None:
        raise MissingLibrary("reader='tesseract': pytesseract is not installed; pip install pytesseract, and install "
                             'the program tesseract-ocr')
    pytesseract = import_module('pytesseract')
    try:
        pytesseract.get_tesseract_version()
    except pytesseract.TesseractNotFoundError as error:
        raise MissingLibrary("reader='tesseract': there is no program tesseract; install tesseract-ocr, of Debian for "
                             'example') from error
    return pytesseract.image_to_string
