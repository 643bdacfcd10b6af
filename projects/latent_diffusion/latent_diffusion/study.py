"""The comparison: autoencoders scored, their latents cached, a flow trained on them with each seed, its samples scored.

Everything lies in one folder, each result in a JSON file that is written last, so the same command goes on:

    study.json                           the settings
    crops/train, crops/val               the pictures
    reference.npz                        features of the training crops
    NAME/model_N/                        an autoencoder: latents/, latents_val/, evaluation/, autoencoder.json
    NAME/seed_N/                         a flow: last.pth, samples.png, diffusion.json
"""

import json
import time
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch

from wfvae_toolkit.analysis.ablation_runs import training_seconds
from wfvae_toolkit.checkpoints import fingerprint, list_checkpoints, read_model
from wfvae_toolkit.datasets import ImageFiles, open_images
from wfvae_toolkit.evaluation import (
    ReconstructionEvaluator,
    build_evaluation_data,
    check_scored,
    evaluate_protocols,
    write_results,
)
from wfvae_toolkit.evaluation.set_statistics import Moments, ReferenceStatistics, frechet_distance
from wfvae_toolkit.inference import Reconstructor
from wfvae_toolkit.latents import CachedLatents, CacheSettings, LatentCache, LatentStatistics, measure_latents
from wfvae_toolkit.latents.write_cache import default_what
from wfvae_toolkit.models.perceptual.features import find_features
from wfvae_toolkit.utils.device import default_device
from wfvae_toolkit.utils.errors import SettingError, UserError
from wfvae_toolkit.utils.files import write_json
from wfvae_toolkit.utils.pixels import to_bytes
from wfvae_toolkit.utils.progress import progress
from wfvae_toolkit.utils.seeding import mix_seed, standard_normal
from wfvae_toolkit.visualization.pictures import write_picture

from .crops import write_crops
from .flow import losses_by_time, sample, share_of_white_noise
from .train import FlowSettings, LabelledLatents, train_flow

CROPS = 'crops'  # their folder in that of the study
MEASURED = 1500  # crops whose latents give mean and std
SHOWN = 64  # samples in a picture
BATCH = 16  # pictures through an autoencoder or a feature network


@dataclass(frozen=True)
class StudySettings:
    """What all rows of a study have in common.

    Args:
        data (str): pictures; the flows are trained on crops of them.
        val (str): pictures; scores are computed on crops of them.
        size (int): edge of the crops in px.
        crops, val_crops (int): how many.
        steps (int): updates of each flow.
        samples (int): made by each flow.
        real (int): training crops that the samples are compared with.
        features (str): network of the Fréchet distances, see ``models.perceptual.features``.
        by_class (bool): the first folder below ``data`` is a picture's class.
        guidance (float): of samples with classes.
        flow (dict): further settings of `FlowSettings`.
    """

    data: str
    val: str
    steps: int
    size: int = 64
    crops: int = 6000
    val_crops: int = 600
    samples: int = 600
    real: int = 2000
    features: str = 'stlpips-vgg'
    by_class: bool = False
    guidance: float = 1.0
    flow: dict = field(default_factory=dict)

    def __post_init__(self):
        for name in ('steps', 'size', 'crops', 'val_crops', 'samples', 'real'):
            if getattr(self, name) < 1:
                raise SettingError(f'{name}={getattr(self, name)}: use 1 or more')
        if self.guidance != 1.0 and not self.by_class:
            raise SettingError(f'guidance={self.guidance}: only with classes')


@dataclass
class Row:
    """A row of the table: a name, and the autoencoder of each seed.

    ``repeated``: whether every seed has an autoencoder of its own. Otherwise all seeds have one and the same, and
    intervals say nothing about the training of the autoencoder.
    """

    name: str
    models: dict[int, Path | str]
    repeated: bool

    def number(self, seed):
        """Number of the autoencoder of a seed."""
        return seed if self.repeated else 0


def plan_rows(models, seeds):
    """MODEL arguments -> list of Row.

    ``tools/ablate.py`` writes a folder for each config, with a run in ``seed_N`` for each seed. Such a folder is one
    row: seed N takes the run in ``seed_N``. A folder that holds such folders gives a row for each of them. Anything
    else is one MODEL for all seeds. ``NAME=`` before an argument names its row.

    Raises:
        SettingError: a name twice, or seeds given twice.
    """
    if len(set(seeds)) < len(seeds):
        raise SettingError(f'--seeds {" ".join(map(str, seeds))}: give each seed once')
    rows = []
    for text in models:
        name, separator, path = text.partition('=')
        name, path = (name, path) if separator else (None, text)
        folder = Path(path).expanduser()
        groups = [folder] if _seed_runs(folder) else sorted(
            (group for group in folder.iterdir() if _seed_runs(group)), key=_first_written) if folder.is_dir() else []
        if name and len(groups) > 1:
            raise SettingError(f'{text}: holds {len(groups)} configs; give each a name of its own, or none')
        for group in groups:
            rows.append(Row(name or group.resolve().name, {seed: group / f'seed_{seed}' for seed in seeds}, True))
        if not groups:
            model = folder if folder.exists() else path
            rows.append(Row(name or folder.resolve().name, dict.fromkeys(seeds, model), False))
    names = [row.name for row in rows]
    for name in names:
        if name in ('', CROPS) or Path(name).name != name:
            raise SettingError(f'{name!r} cannot name a row, which has a folder beside {CROPS}/; NAME=MODEL gives '
                               'another name')
    if len(set(names)) < len(names):
        raise SettingError(f'{", ".join(names)}: two rows have one name; NAME=MODEL gives another')
    return rows


def _seed_runs(folder):
    return folder.is_dir() and any(folder.glob('seed_*/iter_*.pth'))


def _first_written(group):
    """Order of an ablation's configs: that in which their runs began."""
    begun = [path.stat().st_mtime_ns for path in group.glob('seed_*/ablation.json')]
    return min(begun, default=0), group.name


class Study:
    """Rows, seeds and settings in a folder; `run` does what is not done yet.

    Raises:
        SettingError: the folder holds a study with other settings; the message names them.
    """

    def __init__(self, folder, rows, seeds, settings, say=print):
        self.folder, self.rows, self.seeds, self.settings, self.say = Path(folder), rows, seeds, settings, say
        self.failures = {}  # (name of the row, seed) -> reason
        path, now = self.folder / 'study.json', json.loads(json.dumps(asdict(settings)))
        if path.is_file():
            before = json.loads(path.read_text(encoding='utf-8'))['settings']
            other = [f'{name} was {before[name]!r} and is {now[name]!r}' for name in now if before[name] != now[name]]
            if other:
                raise SettingError(f'{self.folder} holds a study with other settings: {"; ".join(other)}; use another '
                                   '--work-dir, or the same settings')
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(path, {'settings': now})

    def run(self):
        """Fill the folder. What fails with an error that the user can fix is counted in ``failures``.

        Raises:
            CheckpointError: a MODEL that all seeds share cannot be read: told before hours of work.
        """
        for row in self.rows:
            if not row.repeated:
                read_model(row.models[self.seeds[0]])
        self._crop()
        for seed in self.seeds:
            for row in self.rows:
                try:
                    self._autoencoder(row, seed)
                    self._diffusion(row, seed)
                except UserError as error:
                    self.failures[row.name, seed] = ' '.join(str(error).split())
                    self.say(f'{row.name}, seed {seed}: FAILED: {error}')

    def results(self, row):
        """{seed: {'autoencoder': dict, 'diffusion': dict}} of a row's finished seeds."""
        found = {}
        for seed in self.seeds:
            paths = {'autoencoder': self._place(row, seed, 'model') / 'autoencoder.json',
                     'diffusion': self._place(row, seed, 'seed') / 'diffusion.json'}
            if (row.name, seed) not in self.failures and all(path.is_file() for path in paths.values()):
                found[seed] = {part: json.loads(path.read_text(encoding='utf-8')) for part, path in paths.items()}
        return found

    def _place(self, row, seed, what):
        return self.folder / row.name / f'{what}_{row.number(seed) if what == "model" else seed}'

    # pictures -----------------------------------------------------------------------------------

    def _crop(self):
        for part, data, count in (('train', self.settings.data, self.settings.crops),
                                  ('val', self.settings.val, self.settings.val_crops)):
            folder = self._crops(part)
            if not folder.is_dir():
                folder.parent.mkdir(exist_ok=True)
                bad = write_crops(data, folder, count, self.settings.size)
                if bad:
                    self.say(f'{data}: {len(bad)} pictures could not be read and are left out; the first: {bad[0]}')

    def _crops(self, part):
        return self.folder / CROPS / part

    @cached_property
    def network(self):
        return find_features(self.settings.features)

    @cached_property
    def reference(self):
        """Moments of the features of training crops, spread evenly over all of them."""
        path = self.folder / 'reference.npz'
        if not path.is_file():
            crops = open_images(self._crops('train'))
            chosen = torch.linspace(0, len(crops) - 1, min(self.settings.real, len(crops))).round().long()
            rows = [self.features(torch.stack([crops[int(number)].image for number in numbers])) for numbers in
                    progress(chosen.split(BATCH), 'batches of real pictures', -(-len(chosen) // BATCH))]
            ReferenceStatistics(Moments.of_rows(torch.cat(rows)), {'features': self.network.description}).write(path)
        return ReferenceStatistics.read(path, self.network.width).moments

    @torch.inference_mode()
    def features(self, images):
        """uint8 (B, 3, H, W) -> (B, D) on the CPU."""
        device = default_device()
        return self.network.to(device)(images.to(device)).cpu()

    # the autoencoder ----------------------------------------------------------------------------

    def _autoencoder(self, row, seed):
        """Scores and latents of the autoencoder of a seed."""
        folder, path = self._place(row, seed, 'model'), row.models[seed]
        if row.repeated and not list_checkpoints(path):
            raise SettingError(f'{path}: no trained autoencoder for this seed; tools/ablate.py --seeds trains it')
        if row.repeated and (path / 'ablation.json').is_file() and not (path / 'evaluation/summary.json').is_file():
            raise SettingError(f'{path}: its training is not finished; tools/ablate.py goes on with it')
        model, done = read_model(path), folder / 'autoencoder.json'
        if done.is_file():
            if json.loads(done.read_text(encoding='utf-8'))['model'] != fingerprint(model):
                raise SettingError(f'{path} is not the model that {done} was made of; remove {folder}, or use another '
                                   '--work-dir')
            return
        start = time.perf_counter()
        folder.mkdir(parents=True, exist_ok=True)
        crops = open_images(self._crops('train'))
        reconstructor = Reconstructor(model.build())
        some = range(0, len(crops), max(1, len(crops) // MEASURED))
        measured = measure_latents(reconstructor, ImageFiles(crops.data_root, map(crops.path, some), on_bad='report'),
                                   batch_size=BATCH)
        model = replace(model, statistics=measured.statistics)
        for part, name in (('train', 'latents'), ('val', 'latents_val')):
            cache = LatentCache(model, reconstructor, open_images(self._crops(part)), (), self.settings.size,
                                folder / name, CacheSettings(default_what(reconstructor.autoencoder)), data=part)
            cache.fill(BATCH)
        scores = self._scores(reconstructor, folder / 'evaluation')
        shape = CachedLatents(folder / 'latents').latent_shape
        write_json(done, {
            'model': fingerprint(model), 'path': str(path), 'parameters': sum(
                parameter.numel() for parameter in reconstructor.autoencoder.parameters()),
            'latent_shape': list(shape), **scores, 'active_channels': measured.active and sum(measured.active),
            'kl': measured.kl and sum(measured.kl), 'latent_std': measured.global_std,
            'training_s': training_seconds(path) if Path(path, 'log.jsonl').is_file() else None,
            'scoring_s': time.perf_counter() - start})
        self.say(f'{row.name}, autoencoder {row.number(seed)}: {time.perf_counter() - start:.0f} s')

    def _scores(self, reconstructor, folder):
        """{column: mean} of the validation crops."""
        evaluator = ReconstructionEvaluator(dict(
            PSNR=dict(type='PSNR'), SSIM=dict(type='SSIM'), STLPIPS=dict(type='STLPIPS', net='alex'),
            LatentNoise=dict(type='LatentNoise', sigmas=(0.1,)),
            **dict(LatentSpectrum=dict(type='LatentSpectrum')) if self._has_spectrum(reconstructor) else {},
            rFD=dict(type='FrechetDistance', features=self.settings.features),
            iFD=dict(type='InterpolatedFrechetDistance', features=self.settings.features)))
        data = build_evaluation_data(dict(batch_size=BATCH, num_workers=0, dataset=dict(
            type='ImageFolder', data_root=str(self._crops('val')), pipeline=[])), {'': evaluator}, self.say)
        summary = evaluate_protocols({'': reconstructor.autoencoder}, data, {'': evaluator}, reconstructor.device)['']
        check_scored(summary)
        write_results(summary, folder)
        return {name: entry['mean'] for name, entry in summary.metrics.items()}

    def _has_spectrum(self, reconstructor):
        return self.settings.size // reconstructor.autoencoder.downsample_factor >= 4

    # the flow -----------------------------------------------------------------------------------

    def _diffusion(self, row, seed):
        """Train a flow with this seed, and score it."""
        folder, done = self._place(row, seed, 'seed'), self._place(row, seed, 'seed') / 'diffusion.json'
        if done.is_file():
            return
        latents = self._place(row, seed, 'model')
        settings = FlowSettings(self.settings.steps, seed, self.settings.by_class, **self.settings.flow)
        flow = train_flow(CachedLatents(latents / 'latents', seed=seed), settings, folder)
        start = time.perf_counter()
        flow.network.to(default_device())
        # The validation pictures may have other folders: their latents count as of no class.
        held_out, _ = LabelledLatents(CachedLatents(latents / 'latents_val', seed=0)).whole()
        losses = losses_by_time(flow.network, held_out)
        distance = self._sample(flow, row, seed, latents)
        write_json(done, {
            'flow_loss': sum(losses) / len(losses), 'flow_share': share_of_white_noise(losses),
            'losses_by_time': losses, 'FD': distance,
            'parameters': sum(parameter.numel() for parameter in flow.network.parameters()),
            'training_s': flow.meta['seconds'], 'scoring_s': time.perf_counter() - start})
        self.say(f'{row.name}, seed {seed}: flow loss {sum(losses) / len(losses):.4f}, Fréchet distance of samples '
                 f'{distance:.3f}; {flow.meta["seconds"]:.0f} s of training, {time.perf_counter() - start:.0f} s of '
                 'scores')

    @torch.inference_mode()
    def _sample(self, flow, row, seed, latents):
        """Fréchet distance of samples to training crops; the first samples become ``samples.png``."""
        cache = CachedLatents(latents / 'latents')
        model = replace(read_model(row.models[seed]), statistics=_statistics(cache))
        reconstructor = Reconstructor(model.build(), model.statistics)
        numbers = torch.arange(self.settings.samples)
        labels = self._labels(cache, flow.meta['classes'])
        rows, shown = [], []
        for part in progress(numbers.split(BATCH), 'batches sampled', -(-len(numbers) // BATCH)):
            # The same noise for every row of a seed.
            noise = standard_normal(cache.latent_shape, [mix_seed('evaluation', seed, int(number)) for number in part])
            made = sample(flow.network, noise.to(default_device()), None if labels is None else labels[part],
                          guidance=self.settings.guidance)
            pictures = to_bytes(reconstructor.decode(made)).cpu()
            rows.append(self.features(pictures))
            shown += pictures[:max(0, SHOWN - len(shown))]
        write_picture(_sheet(shown), self._place(row, seed, 'seed') / 'samples.png')
        return frechet_distance(self.reference, Moments.of_rows(torch.cat(rows)))

    def _labels(self, cache, classes):
        """One class for each sample, as often as in training; None without classes."""
        if not classes:
            return None
        numbers = torch.linspace(0, len(cache) - 1, self.settings.samples).round().long().tolist()
        labels = [classes.index(cache.names[number].partition('/')[0]) for number in numbers]
        return torch.tensor(labels, device=default_device())


def _statistics(cache):
    return LatentStatistics(tuple(cache.statistics['mean']), tuple(cache.statistics['std']))


def _sheet(pictures, columns=8):
    """uint8 (3, H, W) each -> (rows * H, columns * W, 3), rows filled up with black."""
    blank = torch.zeros_like(pictures[0])
    pictures = pictures + [blank] * (-len(pictures) % columns)
    lines = [torch.cat(pictures[start:start + columns], dim=2) for start in range(0, len(pictures), columns)]
    return torch.cat(lines, dim=1).permute(1, 2, 0).numpy()
