"""One pass over a dataset: reconstruct and score, under one protocol or several."""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from wfvae_toolkit.datasets import ImageDataset, PictureCounts, build_dataloader, describe_pipeline
from wfvae_toolkit.datasets.preparations import Pipeline, PreparingCollate, prepare
from wfvae_toolkit.models.sizes import fit_to_factor
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.errors import UserError, located
from wfvae_toolkit.utils.files import printable
from wfvae_toolkit.utils.finite import check_finite
from wfvae_toolkit.utils.pixels import from_bytes
from wfvae_toolkit.utils.seeding import mix_seed, standard_normal

from .metric import UnfitPicture

_SHOWN = 3  # files in an error
LATENTS = {'mean': "the posterior's mean", 'sample': 'a sample of the posterior, with noise by the name of the picture'}


class NothingScored(UserError, RuntimeError):
    """An evaluation in which no image could be scored."""


@dataclass(frozen=True)
class Plan:
    """How the pictures of one loader become those of each evaluator.

    Attributes:
        preparations (dict[str, callable | None]): by the name of the evaluator; see `preparations`. If all are None,
            the loader's own pipeline makes the pictures.
        pipeline (Sequence[dict] | None): of the protocol 'ours'; None: not known.
    """

    preparations: dict
    pipeline: Sequence | None = None

    @property
    def collate(self):
        """For the loader, which then reads whole pictures and gives a dict of `Batch`; None: it gives a `Batch`."""
        return PreparingCollate(self.preparations.values()) if any(self.preparations.values()) else None

    def views(self, evaluators):
        """Evaluators by name -> list of `View`."""
        members, found = {}, {}
        for name, evaluator in evaluators.items():
            preparation = self.preparations[name]
            key = preparation and preparation.name
            found[key] = preparation
            members.setdefault(key, {})[name] = evaluator
        ours = 'not stated' if self.pipeline is None else describe_pipeline(self.pipeline)
        return [View(found[key], of_one, ours if found[key] is None else found[key].description)
                for key, of_one in members.items()]


def plan_preparations(evaluators, pipeline):
    """Evaluators by name, and the pipeline of the protocol 'ours' -> Plan.

    Where a protocol makes its own squares, the pictures are read whole, once for all protocols.
    """
    preparations = {name: evaluator.protocol.build_preparation() for name, evaluator in evaluators.items()}
    if any(preparations.values()):
        ours = Pipeline(pipeline)
        preparations = {name: preparation or ours for name, preparation in preparations.items()}
    return Plan(preparations, pipeline)


@dataclass(frozen=True)
class EvaluationData:
    """The images of an evaluation.

    Attributes:
        loader (Iterable): this rank's share.
        plan (Plan): how each evaluator gets them.
        dataset (ImageDataset | None): that the loader reads.
    """

    loader: Iterable
    plan: Plan
    dataset: ImageDataset | None = None


def build_evaluation_data(cfg, evaluators, say=None):
    """This rank's share of the images for `evaluate_protocols` -> EvaluationData.

    Args:
        cfg (dict): as of ``build_dataloader``; its pipeline is that of the protocol 'ours'.
        evaluators (dict[str, ReconstructionEvaluator]): by name.
        say (callable): called with lines on files that are not used.
    """
    dataset = cfg.get('dataset') if isinstance(cfg, dict) else None
    with located('val_dataloader.dataset'):
        plan = plan_preparations(evaluators, dataset.get('pipeline', ()) if isinstance(dataset, dict) else ())
    if plan.collate:
        cfg = {**cfg, 'dataset': {**cfg['dataset'], 'pipeline': []}}
    loader = build_dataloader(cfg, training=False, rank=distributed.rank(), world_size=distributed.world_size(),
                              say=say, collate=plan.collate)
    return EvaluationData(loader, plan, loader.dataset)


def evaluate(autoencoders, dataloader, evaluator, device, on_batch=None, protocol=None):
    """`evaluate_protocols` with one evaluator, of a loader's images -> EvaluationSummary; ``on_batch`` gets no name."""
    show = None if on_batch is None else lambda _, *batch: on_batch(*batch)
    data = EvaluationData(dataloader, Plan({'': None}))
    return evaluate_protocols(autoencoders, data, {'': evaluator}, device, show, protocol)['']


@torch.inference_mode()
def evaluate_protocols(autoencoders, data, evaluators, device, on_batch=None, protocol=None):
    """Score autoencoders on images, each of any size, by several evaluators in one pass.

    Sides that an autoencoder's factor does not divide are padded by reflection on the right and below. The original
    pixels are scored. Evaluators that score equal images share their reconstructions.

    Args:
        autoencoders (dict[str, nn.Module]): name of the weights -> autoencoder; ``''`` is the main one, another
            name prefixes its columns (``raw/PSNR``). They are put in evaluation mode.
        data (EvaluationData): this rank's share of the images.
        evaluators (dict[str, ReconstructionEvaluator]): by name; they collect values; reset first.
        device (torch.device): where autoencoders and metrics compute.
        on_batch (callable): called with (name, number, batch, target, {weights: reconstruction}), images in [-1, 1].
        protocol (dict): what the caller knows of the measurement (crop, checkpoint, ...), for the summaries.

    Returns:
        dict[str, EvaluationSummary]: of all ranks. Files that are unreadable, or too small for a metric, are in
            ``skipped``.

    Raises:
        NotFinite: a reconstruction holds NaN or infinity; the message names picture, weights and stage.
    """
    for autoencoder in autoencoders.values():
        autoencoder.eval()
    views, factor = data.plan.views(evaluators), autoencoders[''].downsample_factor
    for view in views:
        view.begin()
    for number, batches in enumerate(data.loader):
        for view in views:
            batch = view.of(batches)
            view.note(batch)
            for group in batch.groups():
                target = to_target(group.images, device)
                view.filled_up += len(group) * any(side % factor for side in target.shape[-2:])
                made = {latent: reconstruct_all(autoencoders, target, group.paths, latent) for latent in view.latents}
                for name, evaluator in view.evaluators.items():
                    pictures = made[evaluator.protocol.latent]
                    _score(evaluator, group, target, pictures, autoencoders)
                    if on_batch is not None:
                        on_batch(name, number, group, target,
                                 {weights: found for weights, (_, found) in pictures.items()})
    summaries = {name: summary for view in views for name, summary in view.summarize(protocol, factor).items()}
    return {name: summaries[name] for name in evaluators}


class View:
    """Evaluators that score the same pictures.

    Attributes:
        preparation (callable | None): makes these pictures; None: the loader's pipeline.
        evaluators (dict[str, ReconstructionEvaluator]): by name.
        description (str): one line on resizing and cropping.
        latents (list[str]): what their protocols decode.
        counts (PictureCounts): of this rank.
        filled_up (int): pictures with sides that the autoencoder's factor does not divide.
    """

    def __init__(self, preparation, evaluators, description):
        self.preparation, self.evaluators, self.description = preparation, evaluators, description
        self.latents = list(dict.fromkeys(evaluator.protocol.latent for evaluator in evaluators.values()))
        self.counts, self.filled_up = PictureCounts(), 0

    def of(self, batches):
        """What the loader gave -> the `Batch` of this view."""
        return batches if self.preparation is None else batches[self.preparation.name]

    def note(self, batch):
        """Count a batch, and list its bad files."""
        self.counts.add(batch)
        for bad in batch.bad:
            for evaluator in self.evaluators.values():
                evaluator.skip(bad.path, bad.reason)

    def begin(self):
        """Forget all images, and tell the evaluators how the next ones are made."""
        for evaluator in self.evaluators.values():
            evaluator.begin(self.description)

    def summarize(self, protocol, factor):
        """{name: EvaluationSummary} of all ranks."""
        counts, filled_up = self.counts.of_all_ranks(), sum(distributed.gather(self.filled_up))
        return {name: evaluator.summarize({
            **(protocol or {}), 'pipeline': self.description, 'latent': LATENTS[evaluator.protocol.latent],
            'sizes': f'sides that {factor} does not divide are filled up by reflection, right and below; scored are '
                     f'the original pixels ({filled_up} of {counts.pictures} pictures)',
            **counts.protocol()}) for name, evaluator in self.evaluators.items()}


def target_of(sample, preparation, device):
    """A `Sample`, whole if there is a preparation -> its image, (1, 3, H, W) in [-1, 1]."""
    return to_target((sample if preparation is None else prepare(sample, preparation)).image[None], device)


def to_target(pixels, device):
    """Images of a loader, uint8 or prepared in [-1, 1] -> float32 in [-1, 1] on the device."""
    pixels = pixels.to(device)
    return from_bytes(pixels) if pixels.dtype == torch.uint8 else pixels


@torch.inference_mode()
def reconstruct_all(autoencoders, target, paths, latent='mean'):
    """Images (B, 3, H, W) -> {weights: (posterior, reconstructions)}, of autoencoders by the name of the weights.

    Args:
        latent (str): 'mean' or 'sample'; the noise of a sample depends on the path of the image alone.

    Raises:
        NotFinite: a latent or a reconstruction is not finite.
    """
    seeds = None if latent == 'mean' else [mix_seed('evaluation', zlib.crc32(printable(path).encode()))
                                           for path in paths]
    made = {}
    for weights, autoencoder in autoencoders.items():
        latent_dist, pictures = made[weights] = reconstruct(autoencoder, target, seeds)
        title = f' of the {weights} weights' if weights else ''
        latents = latent_dist.mode()
        check_finite({f'encoder{title}': latents, f'decoder{title}': pictures}, latents.dtype, paths)
    return made


def _score(evaluator, group, target, made, autoencoders):
    """Measure or skip a group of images with the reconstructions by all weights."""
    for weights, (latent_dist, reconstruction) in made.items():
        try:
            evaluator.process(weights, group.indices, group.paths, target, reconstruction, latent_dist.mode(),
                              latent_dist, autoencoders[weights])
        except UnfitPicture as error:
            for path in group.paths:
                evaluator.skip(path, str(error))


def reconstruct(autoencoder, target, seeds=None):
    """Images (B, 3, H, W) of any size -> posterior of the filled up images, and reconstructions (B, 3, H, W).

    Args:
        seeds (list[int]): of the noise of a sample of the posterior, one for each image; None decodes its mean.
    """
    height, width = target.shape[-2:]
    latent_dist = autoencoder.encode(fit_to_factor(target, autoencoder.downsample_factor, 'pad')).latent_dist
    latents = latent_dist.mode()
    if seeds is not None:
        latents = latent_dist.sample(noise=standard_normal(latents.shape[1:], seeds).to(latents))
    return latent_dist, autoencoder.decode(latents).sample[..., :height, :width]


def check_scored(summary):
    """NothingScored, which names the first files, if no image of an `EvaluationSummary` was scored."""
    if not summary.images:
        first = '; '.join(f'{bad["path"]}: {bad["reason"]}' for bad in summary.skipped[:_SHOWN])
        raise NothingScored(f'none of the {len(summary.skipped)} pictures could be scored; {first}')
