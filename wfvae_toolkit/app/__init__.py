"""A page to try models on pictures: `shown` computes all that it shows, `page` serves it with Gradio."""

from .shown import Shown, look_at, metrics_of, read_picture, result_html

__all__ = ['Shown', 'look_at', 'metrics_of', 'read_picture', 'result_html']
