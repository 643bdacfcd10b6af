"""What a training will take on rented GPUs: hours, memory, data, communication. An estimate from counted work.

Every operation of an update is counted on fake tensors: its FLOPs (a multiply and an add are two) and the bytes that it
reads and writes. It takes the longer of the two times that the stated rates give, as in the roofline model (Williams et
al. 2009). Launch times of kernels, and what the GPU does at the same time, are left out.
"""

import math
import time
from dataclasses import dataclass, replace

import torch

from wfvae_toolkit.datasets.order import EpochOrder
from wfvae_toolkit.models.sizes import size_text
from wfvae_toolkit.training.memory import AFTER, BEFORE, DISCRIMINATOR, JOINT, VALIDATION, shape_of
from wfvae_toolkit.utils.errors import SettingError

from .benchmark import Bench
from .kernels import record


@dataclass(frozen=True)
class GPU:
    """Data sheet: FLOP/s of matrix products without sparsity, bytes/s of memory, bytes, bytes/s to other GPUs."""

    low_precision: float  # bf16 and fp16
    fp32: float
    bandwidth: float
    memory: int
    link: float  # one direction, inside a machine


GPUS = {
    'H100': GPU(989e12, 67e12, 3.35e12, 80e9, 450e9),  # SXM
    'H200': GPU(989e12, 67e12, 4.8e12, 141e9, 450e9),
    'A100': GPU(312e12, 19.5e12, 2.039e12, 80e9, 300e9),  # SXM, 80 GB
    'RTX4090': GPU(165e12, 82.6e12, 1.008e12, 24e9, 32e9),  # PCIe 4.0 in place of NVLink
}


@dataclass(frozen=True)
class Rates:
    """What is assumed. Shares are of the GPU's data sheet; all of them can be set on the command line.

    Attributes:
        matrix_share, memory_share, link_share (float): that real kernels and NCCL reach.
        network (float): bytes/s between machines, of each machine.
        image_bytes (float): of a file of the dataset.
        decode_s (float): seconds of one core for a file; 65 ms for a 12-megapixel JPEG (docs/benchmarks.md).
        cores (int): of a machine.
        val_images (int): of a validation.
        disk (float): bytes/s that a checkpoint is written with.
    """

    matrix_share: float = 0.5
    memory_share: float = 0.8
    link_share: float = 0.7
    network: float = 12.5e9
    image_bytes: float = 3e6
    decode_s: float = 0.065
    cores: int = 64
    val_images: int = 1000
    disk: float = 1e9


@dataclass(frozen=True)
class Cost:
    """Seconds of a piece of work, FLOPs, bytes; of the seconds, those of operations that the matrix units limit."""

    seconds: float
    matrix_seconds: float
    flops: float
    moved: float


def cost_of(work, gpu, rates):
    """Work of a `WorkMeter` on one GPU -> Cost."""
    seconds = matrix = flops = moved = 0.0
    for (operations, size, low), count in work.items():
        arithmetic = operations / ((gpu.low_precision if low else gpu.fp32) * rates.matrix_share)
        memory = size / (gpu.bandwidth * rates.memory_share)
        seconds += count * max(arithmetic, memory)
        matrix += count * arithmetic * (arithmetic > memory)
        flops += count * operations
        moved += count * size
    return Cost(seconds, matrix, flops, moved)


@dataclass(frozen=True)
class Plan:
    """Estimate of a run, or of one of its stages; seconds unless the name says otherwise.

    Attributes:
        updates (int): how many.
        turns (dict[str, Cost]): phase -> one micro-batch and its share of the update.
        update_s (float): mean over the run's updates, with waiting for the other processes.
        communication_s (float): of an update, as if nothing else ran meanwhile; DDP hides a part behind the backward.
        reduced_bytes (dict[str, int]): turn -> gradients that an update adds up over the processes.
        images_per_s (float): that the data has to give, over all processes.
        limits (dict[str, float]): seconds of an update that each part alone would take: the GPUs, communication, the
            cores that decode.
    """

    gpus: int
    updates: int
    turns: dict
    update_s: float
    communication_s: float
    reduced_bytes: dict
    images_per_s: float
    limits: dict
    validation_s: float
    checkpoint_s: float
    checkpoint_bytes: int
    hours: float
    validation_share: float
    checkpoint_share: float
    forecast: object


def make_plan(cfg, forecaster, gpus=8, gpus_per_machine=8, gpu=GPUS['H100'], rates=Rates(), stage=0):
    """Plan of a config's run, or of one stage of it.

    Args:
        cfg (Config): of ``load_config``.
        forecaster (Forecaster): of the same config.
        gpus, gpus_per_machine (int): all of the run's; the second divides the first, unless it is larger.
        gpu (GPU): which.
        rates (Rates): what is assumed.
        stage (int): number in ``forecaster.stages``.

    Raises:
        SettingError: numbers that cannot be.
    """
    if gpus < 1 or gpus_per_machine < 1 or gpus > gpus_per_machine and gpus % gpus_per_machine:
        raise SettingError(f'{gpus} GPUs, {gpus_per_machine} a machine: whole machines are needed')
    load = replace(forecaster.loads[stage], world_size=gpus)
    first = forecaster(replace(load, accumulation=1), work=True)
    second = forecaster(replace(load, accumulation=2), work=True) if load.accumulation > 1 else first
    forecast = replace(second, load=load)  # further micro-batches meet no more than the second
    turns = _cost_of_turns(first, second, load, gpu, rates)
    reduced = {turn: sum(p.numel() * p.element_size() for p in getattr(forecaster.model, turn).parameters()
                         if p.requires_grad) for turn in ('autoencoder', 'discriminator')
               if getattr(forecaster.model, turn) is not None}
    starts = [*(stage.start_iter for stage in forecaster.stages), cfg.train_cfg.max_iters]
    iterations = starts[stage + 1] - starts[stage]
    shares = _shares_of_turns(turns, min(load.start_iter / iterations, 1.0))
    compute = sum(share * turns[name].seconds for name, share in shares.items())
    bytes_an_update = sum(share * sum(reduced[turn] for turn in _NETWORKS[name]) for name, share in shares.items())
    communication = all_reduce_seconds(bytes_an_update, gpus, gpus_per_machine, gpu, rates)
    images = load.batch * load.accumulation * gpus
    cores = rates.cores * max(1, gpus // gpus_per_machine)
    limits = {'arithmetic and memory of the GPUs': compute, 'communication': communication,
              'decoding of images': images * rates.decode_s / cores}
    # Communication is taken as not hidden at all; the data is read meanwhile.
    update = max(compute + communication, limits['decoding of images'])
    validation = _validation_seconds(turns, load, rates, gpus)
    saved = sum(dict(forecast.phases[-1].parts).get(kind, 0) for kind in ('parameters', 'average', 'optimizers'))
    interval = cfg.train_cfg.get('val_interval', 1000)
    checkpoints = ((cfg.get('default_hooks') or {}).get('checkpoint') or {}).get('interval', math.inf)
    total = iterations * (update + validation / interval + saved / rates.disk / checkpoints)
    return Plan(gpus, iterations, turns, update, communication, reduced, images / update, limits, validation,
                saved / rates.disk, saved, total / 3600, iterations * validation / interval / total,
                iterations * saved / rates.disk / checkpoints / total, forecast)


_NETWORKS = {BEFORE: ('autoencoder',), AFTER: ('autoencoder',), DISCRIMINATOR: ('discriminator',),
             JOINT: ('autoencoder', 'discriminator')}


def _cost_of_turns(one, two, load, gpu, rates):
    """Phase -> Cost of an update with all of its micro-batches; of validation, of one batch.

    ``one``, ``two``: Forecasts of an update of as many micro-batches.
    """
    costs = {}
    for first, second in zip(one.phases, two.phases, strict=True):
        if not first.work:
            continue
        once, twice = cost_of(first.work, gpu, rates), cost_of(second.work, gpu, rates)
        more = 0 if first.name == VALIDATION else load.accumulation - 1
        costs[first.name] = Cost(*(getattr(once, name) + more * (getattr(twice, name) - getattr(once, name))
                                   for name in ('seconds', 'matrix_seconds', 'flops', 'moved')))
    return costs


def _shares_of_turns(turns, before):
    """Phase -> share of the run's updates; ``before``: of those before the discriminator starts."""
    if BEFORE not in turns:
        before = 0.0
    shares = {BEFORE: before} if before else {}
    after = 1.0 - before
    if JOINT in turns:
        return {**shares, JOINT: after}
    if DISCRIMINATOR in turns:
        return {**shares, AFTER: after / 2, DISCRIMINATOR: after / 2}
    return {**shares, AFTER: after}


def _validation_seconds(turns, load, rates, gpus):
    if VALIDATION not in turns:
        return 0.0
    return math.ceil(rates.val_images / (load.val_batch * gpus)) * turns[VALIDATION].seconds


def all_reduce_seconds(size, gpus, gpus_per_machine, gpu, rates):
    """Time of adding up ``size`` bytes over all processes by rings: 2 (n - 1) / n of the bytes over the slowest link.

    Between machines each one's network carries the ring of all its GPUs.
    """
    inside = min(gpus, gpus_per_machine)
    machines = max(1, gpus // gpus_per_machine)
    seconds = 2 * (inside - 1) / inside * size / (gpu.link * rates.link_share)
    return seconds + 2 * (machines - 1) / machines * size / (rates.network * rates.link_share)


# what is printed --------------------------------------------------------------------------------

def describe_plan(plan, name, gpu_name, gpu, rates):
    """Plan -> lines of text."""
    load, largest = plan.forecast.load, plan.forecast.largest
    lines = [f'{name} on {plan.gpus} {gpu_name}: an estimate from counted work and stated rates, not a measurement',
             f'rates: {rates.matrix_share:g} of {gpu.low_precision / 1e12:g} TFLOP/s in bf16 and fp16 and of '
             f'{gpu.fp32 / 1e12:g} in fp32, {rates.memory_share:g} of {gpu.bandwidth / 1e12:g} TB/s, '
             f'{rates.link_share:g} of {gpu.link / 1e9:g} GB/s between GPUs and of {8 * rates.network / 1e9:g} Gbit/s '
             f'between machines; {rates.image_bytes / 1e6:g} MB and {1e3 * rates.decode_s:g} ms of a core an image, '
             f'{rates.cores} cores a machine; {rates.disk / 1e9:g} GB/s for checkpoints', '']
    for turn, cost in plan.turns.items():
        what = (f'{load.val_batch} x {size_text(shape_of(load.val_size))} px' if turn == VALIDATION else
                f'{load.accumulation} x {load.batch} x {size_text(load.shape)} px')
        lines.append(f'{turn}, {what} a GPU: {cost.seconds:.3f} s, {cost.flops / 1e12:.2f} TFLOP (a multiply and an '
                     f'add are 2), {cost.moved / 1e9:.0f} GB moved, matrix units limit '
                     f'{cost.matrix_seconds / cost.seconds:.0%} of it')
    reduced = ', '.join(f'{turn} {size / 1e6:.0f} MB' for turn, size in plan.reduced_bytes.items())
    limiting = max(plan.limits, key=plan.limits.get)
    lines += [
        f'update: {plan.update_s:.3f} s in the mean',
        f'communication: gradients of the {reduced}; {1e3 * plan.communication_s:.1f} ms an update if nothing hides '
        f'it, {plan.communication_s / plan.update_s:.1%}',
        f'memory: {largest.peak_bytes / 1e9:.1f} of {gpu.memory / 1e9:g} GB in the {largest.name}'
        + ('' if largest.peak_bytes <= gpu.memory else ': DOES NOT FIT, see memory_forecast.py --gpu-memory'),
        f'storage: {plan.images_per_s:.1f} images/s, {plan.images_per_s * rates.image_bytes / 1e6:.0f} MB/s; '
        f'{plan.images_per_s * rates.decode_s:.1f} cores decode',
        f'validation: {plan.validation_s:.1f} s for {rates.val_images} images, {plan.validation_share:.1%} of the run',
        f'checkpoint: {plan.checkpoint_bytes / 1e9:.2f} GB, {plan.checkpoint_s:.1f} s, {plan.checkpoint_share:.1%} of '
        'the run',
        f'limit: {limiting} ('
        + ', '.join(f'{part} {seconds:.3f} s' for part, seconds in plan.limits.items()) + ' an update)',
        f'{plan.updates:,} updates: {plan.hours:,.0f} hours, {plan.hours * plan.gpus:,.0f} GPU hours']
    return lines


def growth(cfg, forecaster, gpu, rates):
    """Lines of a Markdown table: what an update costs with other sizes, batches and numbers of GPUs, all counted."""
    load = forecaster.load
    main = AFTER if JOINT not in [phase.name for phase in forecaster().phases] else JOINT
    yield f'| {main} | TFLOP | GB moved | seconds | peak GiB | FLOP for the first row |'
    yield '| --- | --- | --- | --- | --- | --- |'
    first = None
    factor = forecaster.model.autoencoder.downsample_factor
    *smaller, edge = [load.edge // part // factor * factor for part in (4, 2, 1)]
    for batch, size in [*((1, size) for size in smaller if size >= 64), (1, edge), (2, edge), (4, edge)]:
        changed = replace(load, batch=batch, size=size, accumulation=1, val_batch=None)
        phase = next(phase for phase in forecaster(changed, work=True).phases if phase.name == main)
        cost = cost_of(phase.work, gpu, rates)
        first = first or cost.flops
        yield (f'| {batch} x {size} px | {cost.flops / 1e12:.3f} | {cost.moved / 1e9:.1f} | {cost.seconds:.4f} | '
               f'{phase.peak_bytes / 2**30:.2f} | {cost.flops / first:.2f} |')
    yield ''
    yield '| GPUs | link | all-reduce, ms | share of an update | images/s | MB/s from storage |'
    yield '| --- | --- | --- | --- | --- | --- |'
    for gpus, per_machine, link in ((8, 8, 'NVLink'), (64, 64, 'NVLink'), (8, 1, 'network'), (64, 8, 'both')):
        plan = make_plan(cfg, forecaster, gpus, per_machine, gpu, replace(rates, cores=10**6))
        yield (f'| {gpus} | {link} | {1e3 * plan.communication_s:.1f} | {plan.communication_s / plan.update_s:.1%} | '
               f'{plan.images_per_s:.0f} | {plan.images_per_s * rates.image_bytes / 1e6:.0f} |')


def measured_growth(cfg, sizes=(64, 128, 256), batches=(1, 2, 4), lengths=(10**4, 10**5, 10**6, 10**7)):
    """Lines of Markdown tables: seconds of this processor for an autoencoder turn, and for the order of a dataset.

    Processor time of one thread, which other programs on the machine do not change much; the lesser of two calls.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = cfg.model.to_dict()
    yield '| autoencoder turn | processor seconds | for the first | FLOP for the first |'
    yield '| --- | --- | --- | --- |'
    first = None
    for batch, size in [*((1, size) for size in sizes), *((batch, sizes[0]) for batch in batches[1:])]:
        work = Bench(model, size, batch).work('autoencoder_turn', 'ours')
        flops, seconds = record(work).flops, _processor_seconds(work)
        first = first or (seconds, flops)
        yield f'| {batch} x {size} px | {seconds:.3f} | {seconds / first[0]:.2f} | {flops / first[1]:.2f} |'
    yield ''
    yield '| entries of the dataset | order of an epoch, ms |'
    yield '| --- | --- |'
    for length in lengths:
        yield f'| {length:,} | {1e3 * _processor_seconds(lambda n=length: EpochOrder(n, (0,))(0)):.2f} |'
    torch.set_num_threads(threads)


def _processor_seconds(work):
    seconds = []
    for _ in range(3):  # the first call is not counted
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds[1:])


def find_gpu(name):
    """Data sheet of a GPU of `GPUS`; SettingError for another name."""
    if name not in GPUS:
        raise SettingError(f'--gpu {name!r}: use one of {", ".join(GPUS)}')
    return GPUS[name]
