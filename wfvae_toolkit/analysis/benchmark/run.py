"""Works x models -> one table: seconds, ratio, share of the limit, peak memory, FLOPs."""

import json
import multiprocessing
import tempfile
from dataclasses import asdict, dataclass, replace
from functools import partial

import torch

from wfvae_toolkit.utils.plugins import import_modules

from ..kernels import record
from .limit import Limit
from .networks import INFERENCE, TURNS
from .pipelines import data_works, evaluation_works
from .timing import AllocatedWork, interleave, peak_bytes, ratio, summarize

WORKS = (*INFERENCE, *TURNS, 'data', 'evaluation')
_LIMIT = 'limit of {}'


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        seconds, low, high (float): median of the rounds, and its quartiles.
        images_per_second (float): at the median.
        times_first (float): this model's time over the first model's of the same work, median of the rounds' ratios.
        limit_ratio (float): time of the matrix arithmetic alone over this time; None where there is none.
        peak_bytes (int): weights and activations; None where it was not measured.
        kept_bytes (int): of an autoencoder turn, kept for its backward; exact.
        flops (int): of matrix arithmetic.
        limit_parts (dict[str, float]): operation -> its seconds of the limit, each kernel timed alone.
    """

    work: str
    model: str
    seconds: float
    low: float
    high: float
    images_per_second: float
    times_first: float
    limit_ratio: float | None
    peak_bytes: int | None
    kept_bytes: int | None
    flops: int | None
    limit_parts: dict[str, float] | None


def run_benchmark(bench, works, models, rounds=5, memory=True, limit=True, report=lambda row: None):
    """Time every work of every model, the models of one work in turns.

    Args:
        bench (Bench): model, size, batch, precision, device.
        works (list[str]): of WORKS; ``data`` and ``evaluation`` have models of their own.
        models (list[str]): 'ours', 'plain', 'joint', 'checkpointed', 'AutoencoderKL', 'AutoencoderTiny',
            'AutoencoderDC' or a MODEL, also with '@bf16'.
        rounds (int): timed calls.
        memory (bool): measure peak memory too, on a CPU in a process of its own.
        limit (bool | list[str]): time the limit of every model too, or of these.
        report (callable): called with each Row as it is there.

    Returns:
        list[Row]
    """
    rows = []
    for work in works:
        for row in _one_work(bench, work, models, rounds, memory, limit):
            rows.append(row)
            report(row)
    return rows


def format_rows(rows):
    """Rows -> Markdown table."""
    lines = ['| work | model | ms (quartiles) | images/s | time / first | limit / time | peak MiB | kept MiB | GFLOP |',
             '| --- | --- | --- | --- | --- | --- | --- | --- | --- |']
    for row in rows:
        cells = (f'{1e3 * row.seconds:.1f} ({1e3 * row.low:.1f}-{1e3 * row.high:.1f})',
                 f'{row.images_per_second:.2f}', f'{row.times_first:.2f}',
                 _cell(row.limit_ratio, '.2f'), _cell(row.peak_bytes and row.peak_bytes / 2**20, '.0f'),
                 _cell(row.kept_bytes and row.kept_bytes / 2**20, '.0f'), _cell(row.flops and row.flops / 1e9, '.1f'))
        lines.append(f'| {row.work} | {row.model} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def to_json(rows):
    """Rows -> JSON text: a list of objects with Row's fields."""
    return json.dumps([asdict(row) for row in rows], indent=2) + '\n'


def _one_work(bench, work, models, rounds, memory, limit):
    if work == 'data':
        with tempfile.TemporaryDirectory() as folder:
            yield from _rows(work, data_works(folder), 1, rounds, torch.device('cpu'))
        return
    if work == 'evaluation':
        functions = evaluation_works(bench.size, bench.batch)
        bench, memory = replace(bench, device=torch.device('cpu'), compile=False), False
    elif bench.device.type == 'cuda':
        torch.compiler.reset()  # torch compiles a function for eight modules and settings at most
        functions = {model: AllocatedWork(partial(bench.work, work, model), bench.device) for model in models}
    else:
        functions = {model: bench.work(work, model) for model in models}
    with torch.compiler.set_stance('force_eager'):
        recorded = {model: record(function) for model, function in functions.items()}
    flops = {model: kernels.flops for model, kernels in recorded.items()}
    wanted = limit if isinstance(limit, (list, tuple)) else list(recorded) if limit else ()
    limits = {model: Limit(recorded[model], bench.device) for model in wanted if model in recorded}
    kept = {model: bench.kept_bytes(model) for model in functions
            if memory and work == 'autoencoder_turn' and not bench.compile}
    peak = partial(_peak, bench, work, functions) if memory else None
    yield from _rows(work, functions, bench.batch, rounds, bench.device, limits, peak, kept, flops)


def _rows(work, functions, images, rounds, device, limits=None, peak=None, kept=None, flops=None):
    parts = {model: dict(limit.seconds_of_operations) for model, limit in (limits or {}).items()}
    limits = {_LIMIT.format(model): function for model, function in (limits or {}).items()}
    times = interleave({**functions, **limits}, rounds, device)
    first = times[next(iter(functions))]
    for model in functions:
        timing = summarize(times[model])
        alone = times.get(_LIMIT.format(model))
        yield Row(work, model, timing.seconds, timing.low, timing.high, images / timing.seconds,
                  ratio(times[model], first), alone and ratio(alone, times[model]),
                  peak and peak(model), *(column.get(model) if column else None for column in (kept, flops, parts)))


def _peak(bench, work, functions, model):
    if bench.device.type == 'cuda':
        return functions[model].peak_bytes()
    # A fresh process: the allocator of this one holds on to memory.
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        return pool.apply(_peak_in_child, (bench, work, model, torch.get_num_threads()))


def _peak_in_child(bench, work, model, threads):
    torch.set_num_threads(threads)
    import_modules(bench.imports)
    return peak_bytes(lambda: bench.work(work, model))


def _cell(value, form):
    return '' if value is None else format(value, form)
