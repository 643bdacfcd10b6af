"""Two pictures under one divider, in a notebook."""

import base64
import html
import io
from pathlib import Path

from PIL import Image

from wfvae_toolkit.utils.errors import SettingError, is_number
from wfvae_toolkit.utils.pixels import to_bytes

from .inputs import to_batch

# The report's component, with its licence.
VENDOR = Path(__file__).resolve().parents[1] / 'report/assets/vendor'

PAGE = '''<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{component}
html, body {{ margin: 0; overflow: hidden; }}
img-comparison-slider {{ display: block; width: 100%; }}
img-comparison-slider {{ --divider-width: 2px; --divider-color: #fff; --divider-shadow: 0 0 0 1px #000; }}
img-comparison-slider:focus-visible {{ outline: 3px solid #0a7; outline-offset: -3px; }}
img {{ display: block; width: 100%; image-rendering: pixelated; }}
span {{ position: absolute; bottom: 0; left: 0; padding: 0 .4em; }}
span {{ font: 13px/1.6 sans-serif; color: #fff; background: #000b; }}
span + span {{ left: auto; right: 0; }}
</style><main><img-comparison-slider role="slider" aria-label="{title}" aria-valuemin="0" aria-valuemax="100"
aria-valuenow="50"><img slot="first" src="{first}" alt="{left}"><img slot="second" src="{second}" alt="{right}">
</img-comparison-slider><span>{left}</span><span>{right}</span></main><script>{script}
document.querySelector('img-comparison-slider').addEventListener('slide', (event) =>
  event.target.setAttribute('aria-valuenow', Math.round(event.target.value)));</script>'''


class ComparisonSlider:
    """A picture and its reconstruction under a divider that follows mouse, touch and arrow keys.

    Jupyter shows it when it is the last value of a cell. It holds pictures (lossless) and scripts itself and loads
    nothing.

    Args:
        original, reconstruction: one picture each, of one size, as `wfvae_toolkit.inference.inputs.to_batch` takes it:
            a path, a PIL image, an array or a tensor.
        labels (tuple[str, str]): shown on the left and on the right.
        width (int): CSS px at most (default: the pictures' own width). A larger one shows single pixels.

    Raises:
        SettingError: several pictures, two sizes, or a setting that is none.
        MissingFile: a path that is not there.
    """

    def __init__(self, original, reconstruction, labels=('original', 'reconstruction'), width=None):
        batches = [to_batch(original), to_batch(reconstruction)]
        shapes = [tuple(batch.shape) for batch in batches]
        if shapes[0] != shapes[1] or shapes[0][0] != 1:
            raise SettingError(f'pictures of shapes {shapes[0]} and {shapes[1]}: a slider shows two of one size')
        if not (isinstance(labels, (list, tuple)) and len(labels) == 2):
            raise SettingError(f'labels={labels!r}: use a text for the left and one for the right')
        if width is not None and not is_number(width, 1, whole=True):
            raise SettingError(f'width={width!r}: use a whole number of px')
        self.pictures = [Image.fromarray(to_bytes(batch[0]).permute(1, 2, 0).cpu().numpy()) for batch in batches]
        self.labels = [str(label) for label in labels]
        self.width = width or shapes[0][-1]

    def _repr_html_(self):
        """A frame of its own, which neither takes from the notebook's page nor adds to it."""
        left, right = (html.escape(label) for label in self.labels)
        component = {suffix: (VENDOR / f'img-comparison-slider.{suffix}').read_text(encoding='utf-8')
                     for suffix in ('css', 'js')}
        first, second = map(_data_url, self.pictures)
        page = PAGE.format(title=f'{left} | {right}', left=left, right=right, first=first, second=second,
                           component=component['css'], script=component['js'])
        width, height = self.pictures[0].size
        return (f'<iframe title="{left} | {right}" sandbox="allow-scripts" style="width: {self.width}px; '
                f'max-width: 100%; aspect-ratio: {width} / {height}; border: 0" srcdoc="{html.escape(page)}"></iframe>')


def _data_url(picture):
    """A PIL image as a lossless WebP in a URL."""
    file = io.BytesIO()
    picture.save(file, 'WEBP', lossless=True)
    return f'data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}'
