"""How fast training pictures are loaded: ours, and other libraries with the same crops of the same files."""

import importlib
import io
import itertools
import multiprocessing
import os
import resource
import statistics
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from PIL import Image

from wfvae_toolkit.datasets import build_dataloader, write_shards
from wfvae_toolkit.utils.errors import MissingLibrary, SettingError, import_extra
from wfvae_toolkit.utils.torchvision_shim import import_torchvision

from .benchmark.timing import resident_bytes

BATCH = 8
# Name -> size of the JPEGs, (width, height), and edge of the crops, in px.
CASES = {'1024': ((1024, 1024), 256), '12mp': ((4000, 3000), 1024)}
OURS = ('folder', 'shards', 'table')
READERS = (*OURS, *(f'{name}, fast' for name in OURS), 'webdataset', 'webdataset, rgb8', 'litdata', 'torchvision')


@dataclass(frozen=True)
class Load:
    """Cost of a number of pictures.

    Attributes:
        pictures (int): that were loaded.
        stored_bytes (int): of their files.
        cpu_s (float): time on all cores, of the process and its workers.
        wall_s (float): time from the first to the last batch.
    """

    pictures: int
    stored_bytes: int
    cpu_s: float
    wall_s: float

    @property
    def per_core(self):
        """Pictures a second that one core loads."""
        return self.pictures / self.cpu_s


def write_pictures(folder, case, count):
    """Fill ``folder`` with ``count`` JPEGs of quality 90, as a folder, as shards and as a parquet file.

    They are enlarged parts of photographs of scikit-image.
    """
    data, parquet = import_extra('skimage.data', 'demo'), import_extra('pyarrow.parquet', 'parquet')
    arrow = import_extra('pyarrow', 'parquet')
    photographs = [Image.fromarray(getattr(data, name)()) for name in ('astronaut', 'coffee', 'chelsea', 'rocket')]
    (folder / 'pictures/all').mkdir(parents=True)
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        left, top = 7 * number % 100, 11 * number % 80
        part = photograph.crop((left, top, left + 280, top + 210)).resize(CASES[case][0], Image.Resampling.BICUBIC)
        part.save(folder / f'pictures/all/{number:05d}.jpg', quality=90)
    # Eight: webdataset gives each worker shards of its own.
    total = sum(path.stat().st_size for path in (folder / 'pictures/all').iterdir())
    write_shards(folder / 'pictures', folder / 'shards', str(-(-total // 8)))
    (folder / 'table').mkdir()
    rows = [{'bytes': path.read_bytes(), 'path': path.name} for path in sorted((folder / 'pictures/all').iterdir())]
    kind = arrow.struct([('bytes', arrow.binary()), ('path', arrow.string())])
    parquet.write_table(arrow.table({'image': arrow.array(rows, kind)}), folder / 'table/all.parquet',
                        compression='none', row_group_size=100)


def batches_of(reader, folder, case, workers):
    """Endless batches (BATCH, 3, crop, crop) uint8 of a name in `READERS`, and of its library's workers."""
    crop = CASES[case][1]
    if reader.partition(',')[0] in OURS:
        return _ours(reader, folder, crop, workers)
    transforms = import_torchvision().transforms
    crops = transforms.Compose([
        transforms.Resize(crop, transforms.InterpolationMode.BICUBIC, antialias=True), transforms.RandomCrop(crop)])
    if reader == 'torchvision':
        datasets = import_torchvision().datasets
        dataset = datasets.ImageFolder(folder / 'pictures', transforms.Compose([crops, transforms.PILToTensor()]))
        loader = torch.utils.data.DataLoader(dataset, BATCH, shuffle=True, num_workers=workers)
        return (images for images, _ in _again(loader))
    if reader == 'litdata':
        return _litdata(folder, crops, workers)
    return _webdataset(folder, crops, reader == 'webdataset, rgb8', workers)


def _ours(reader, folder, crop, workers):
    name, _, decoder = reader.partition(', ')
    kind, place = {'folder': ('ImageFolder', 'pictures'), 'shards': ('ImageShards', 'shards'),
                   'table': ('ImageTable', 'table')}[name]
    dataset = dict(type=kind, data_root=str(folder / place), decoder=decoder or 'exact', pipeline=[
        dict(type='ResizeShortSide', size=crop), dict(type='RandomCrop', size=crop)])
    return (batch.images for batch in build_dataloader(
        dict(batch_size=BATCH, num_workers=workers, dataset=dataset), training=True))


def _webdataset(folder, crops, by_tensor, workers):
    """As its documentation has it: a shuffled buffer, decoding, a map, batches made by the workers."""
    webdataset, transforms = _other_library('webdataset'), import_torchvision().transforms
    shards = sorted(str(path) for path in (folder / 'shards').glob('*.tar'))
    dataset = webdataset.WebDataset(shards, shardshuffle=False, empty_check=False).shuffle(100)
    dataset = dataset.decode('torchrgb8' if by_tensor else 'pil').to_tuple('jpg')
    to_tensor = crops if by_tensor else transforms.Compose([crops, transforms.PILToTensor()])
    dataset = dataset.map_tuple(to_tensor).batched(BATCH, partial=False)
    loader = webdataset.WebLoader(dataset, batch_size=None, num_workers=workers)
    return (images for images, in _again(loader))


def _litdata(folder, crops, workers):
    """Its optimized chunks, which hold the bytes of the JPEGs, decoded by Pillow."""
    litdata, transforms = _other_library('litdata'), import_torchvision().transforms
    to_tensor = transforms.Compose([crops, transforms.PILToTensor()])

    class Crops(litdata.StreamingDataset):
        def __getitem__(self, index):
            with Image.open(io.BytesIO(super().__getitem__(index)['image'])) as image:
                return to_tensor(image.convert('RGB'))
    dataset = Crops(str(folder / 'litdata'), shuffle=True, drop_last=False)
    return _again(litdata.StreamingDataLoader(dataset, batch_size=BATCH, num_workers=workers, drop_last=True))


def _write_litdata(folder):
    chunks = folder / 'litdata'
    if not chunks.exists():
        paths = sorted(map(str, (folder / 'pictures/all').iterdir()))
        _other_library('litdata').optimize(fn=_litdata_sample, inputs=paths, output_dir=str(chunks), num_workers=1,
                                           chunk_bytes='64MB')


def _other_library(package):
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingLibrary(f'{package} cannot be imported: {error}. Use pip install {package}, or --readers without '
                             'it') from error


def _litdata_sample(path):
    return {'image': Path(path).read_bytes()}


def _again(loader):
    while True:
        yield from loader


def measure(reader, folder, case, workers, pictures, cold=False):
    """`Load` of one reader, in a process of its own.

    Args:
        reader (str): of `READERS`.
        folder (Path): of `write_pictures`.
        case (str): of `CASES`.
        workers (int): processes that load; 0: the one that asks.
        pictures (int): how many are loaded; without workers, two batches before them do not count.
        cold (bool): take the files out of the system's cache first.
    """
    if reader == 'litdata':
        _write_litdata(folder)
    if cold:
        _forget(folder)
    cpu_s, wall_s, loaded = _in_process(_measure, reader, folder, case, workers, pictures)
    sizes = [path.stat().st_size for path in (folder / 'pictures/all').iterdir()]
    return Load(loaded, round(loaded * statistics.mean(sizes)), cpu_s, wall_s)


def _in_process(work, *arguments):
    """``work(*arguments)``, computed in a process of its own with one thread."""
    context = multiprocessing.get_context('fork')
    results = context.SimpleQueue()

    def run():
        torch.set_num_threads(1)
        results.put(work(*arguments))
    process = context.Process(target=run)
    process.start()
    process.join()
    if process.exitcode:
        raise SettingError(f'{work.__name__}{arguments}: its process ended with status {process.exitcode}')
    return results.get()


def _measure(reader, folder, case, workers, pictures):
    batches = batches_of(reader, folder, case, workers)
    first = sum(len(next(batches)) for _ in range(2))
    begin, before_s, loaded = time.perf_counter(), _seconds(resource.RUSAGE_SELF), 0
    while loaded < pictures:
        loaded += len(next(batches))
    wall_s, own_s = time.perf_counter() - begin, _seconds(resource.RUSAGE_SELF) - before_s
    del batches
    # Of workers only the whole time is known, once they have ended: it includes the first batches, and those that
    # they have read ahead.
    workers_s = _seconds(resource.RUSAGE_CHILDREN)
    return (own_s + workers_s, wall_s * (loaded + first) / loaded if workers else wall_s,
            loaded + first if workers else loaded)


def _seconds(whose):
    usage = resource.getrusage(whose)
    return usage.ru_utime + usage.ru_stime


def _both_seconds():
    return _seconds(resource.RUSAGE_SELF) + _seconds(resource.RUSAGE_CHILDREN)


def _forget(folder):
    """Ask the system to drop the files under a folder from its cache."""
    for path in Path(folder).rglob('*'):
        if path.is_file():
            with open(path, 'rb') as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


# many samples ------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Opening:
    """Cost of opening shards with many samples; processor seconds.

    Attributes:
        entries (int): samples.
        index_s (float): to make the index; `open_s` to read it at a later start, with all else up to the loader.
        memory_bytes (int): resident, of the opened dataset and the order of an epoch.
        worker_bytes (int): that a worker does not share with other processes, after its first batches.
        first_batch_s (dict[int, float]): position -> until the first batch from there on.
    """

    entries: int
    index_s: float
    open_s: float
    memory_bytes: int
    worker_bytes: int
    first_batch_s: dict


def write_many(folder, entries, shards=10):
    """Fill ``folder`` with tar shards of ``entries`` PNG files of 16 x 16 px, 1 KiB each in the tar file."""
    content = io.BytesIO()
    Image.new('RGB', (16, 16), (200, 100, 50)).save(content, 'png')
    padded = content.getvalue().ljust(tarfile.BLOCKSIZE, b'\0')
    folder.mkdir(parents=True)
    for shard in range(shards):
        with open(folder / f'{shard:05d}.tar', 'wb') as file:
            for number in range(shard, entries, shards):
                info = tarfile.TarInfo(f'{number:09d}.png')
                info.size = len(content.getvalue())
                file.write(info.tobuf(tarfile.USTAR_FORMAT) + padded)
            file.write(bytes(2 * tarfile.BLOCKSIZE))


def measure_opening(folder, entries):
    """`Opening` of shards that `write_many` makes in ``folder``."""
    write_many(folder, entries)
    positions = (0, entries // 2, entries, 3 * entries + 17)
    index_s, *_ = _in_process(_open_many, folder, ())
    open_s, memory_bytes, worker_bytes, first_batch_s = _in_process(_open_many, folder, positions)
    return Opening(entries, index_s, open_s, memory_bytes, worker_bytes, first_batch_s)


def _open_many(folder, positions):
    def loader(position=0, **options):
        found = build_dataloader(dict(batch_size=BATCH, num_workers=options.pop('workers', 0), dataset=dict(
            type='ImageShards', data_root=str(folder), pipeline=[dict(type='RandomCrop', size=16)])), training=True,
            **options)
        found.sampler.set_position(position)
        return found

    before_s, before = _both_seconds(), resident_bytes()
    dataset = loader().dataset
    open_s = _both_seconds() - before_s
    if not positions:
        return (open_s,)
    batches = iter(loader(dataset=dataset, workers=1))
    for _ in range(3):
        next(batches)
    worker, = psutil.Process().children()
    memory_bytes, worker_bytes = resident_bytes() - before, worker.memory_full_info().uss
    next(iter(loader(dataset=dataset)))  # imports and opens files
    first_batch_s = {position: [] for position in positions}
    for position in positions * 5:
        begin = time.process_time()
        next(iter(loader(position, dataset=dataset)))
        first_batch_s[position].append(time.process_time() - begin)
    return open_s, memory_bytes, worker_bytes, {
        position: statistics.median(seconds) for position, seconds in first_batch_s.items()}


def describe_opening(opening):
    """Opening -> lines of text."""
    first = opening.first_batch_s[0]
    return [
        f'{opening.entries:,} samples in tar shards: index made in {opening.index_s:.1f} s of processor time, '
        f'{opening.entries / opening.index_s:,.0f} members a second and core',
        f'opened again in {opening.open_s:.2f} s; {opening.memory_bytes / 1e6:.0f} MB of memory, which workers share; '
        f'{opening.worker_bytes / 1e6:.0f} MB more in each',
        *(f'first batch from position {position:,}: {1e3 * seconds:.1f} ms, {seconds / first:.2f} of the time from 0'
          for position, seconds in opening.first_batch_s.items())]


def compare(readers, folder, case, workers, pictures, rounds, cold=False, report=print):
    """{reader: list of `Load`}, one a round; readers take turns, so that other work on the machine falls on all."""
    found = {reader: [] for reader in readers}
    for _, reader in itertools.product(range(rounds), readers):
        found[reader].append(measure(reader, folder, case, workers, pictures, cold))
        report(f'{reader}: {found[reader][-1].per_core:.1f} pictures/s a core')
    return found


def format_loads(found, against=None):
    """{reader: list of `Load`} -> lines of a Markdown table; a ratio is the median of the rounds' ratios."""
    lines = ['| reader | pictures/s a core | MB/s a core | pictures/s |', '| --- | --- | --- | --- |']
    if against:
        lines = [f'{lines[0]} against {against} |', f'{lines[1]} --- |']
    for reader, loads in found.items():
        per_core, megabytes, per_second = (statistics.median(values) for values in zip(
            *((load.per_core, load.stored_bytes / load.cpu_s / 1e6, load.pictures / load.wall_s) for load in loads),
            strict=True))
        row = f'| {reader} | {per_core:.1f} | {megabytes:.1f} | {per_second:.1f} |'
        if against:
            ratios = [load.per_core / other.per_core for load, other in zip(loads, found[against], strict=True)]
            row += f' {statistics.median(ratios):.2f} |'
        lines.append(row)
    return lines
