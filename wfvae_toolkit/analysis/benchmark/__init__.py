"""Speed and memory of our networks and pipelines against others and against the machine's limit."""

from .networks import BASELINES, Bench
from .run import WORKS, Row, format_rows, run_benchmark, to_json

__all__ = ['BASELINES', 'WORKS', 'Bench', 'Row', 'format_rows', 'run_benchmark', 'to_json']
