"""Scores of two folders of pictures, paired by name; no model is needed."""

import os
from dataclasses import dataclass
from pathlib import PurePosixPath

import torch

from wfvae_toolkit.datasets import count_images, load_batches, open_images
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.environment import describe_environment
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.files import printable
from wfvae_toolkit.utils.progress import progress
from wfvae_toolkit.utils.urls import shown_url

from .kept import picture_files, random_images, write_kept
from .metric import UnfitPicture
from .run import check_scored, plan_preparations, target_of, to_target

ORIGINAL = '.original'  # what tools/reconstruct.py --beside adds to the name of a picture that it copies
LISTED = 20  # names in a message; it counts the others


@dataclass(frozen=True)
class Pairs:
    """Pairs of images of two data sets; names are relative paths.

    Attributes:
        names (list[str]): of the real pictures, in their dataset's order.
        real, reconstructed (list[int]): numbers in the two datasets, pair by pair.
        only_real, only_reconstructed (list[str]): without a partner.
    """

    names: list
    real: list
    reconstructed: list
    only_real: list
    only_reconstructed: list

    def unmatched(self):
        """A message of both sides, or '' if every picture has its partner."""
        sides = {'only among the real': self.only_real, 'only among the reconstructed': self.only_reconstructed}
        return '; '.join(f'{side}: {_listed(names)}' for side, names in sides.items() if names)


def pair_images(real, reconstructed):
    """Pair the pictures of two datasets whose relative paths agree but for the suffix: a.jpg with a.png.

    ``NAME.original.png`` beside a reconstruction of NAME, the copy of an original, stays out.

    Raises:
        SettingError: two pictures of one side have the same path but for the suffix.
    """
    stems, others = _by_stem(real), _by_stem(reconstructed)
    common = [stem for stem in stems if stem in others]
    only_reconstructed = [number for stem, number in others.items() if stem not in stems
                          and not (stem.endswith(ORIGINAL) and stem.removesuffix(ORIGINAL) in others)]
    return Pairs(
        names=[real.path(stems[stem]) for stem in common],
        real=[stems[stem] for stem in common],
        reconstructed=[others[stem] for stem in common],
        only_real=[real.path(number) for stem, number in stems.items() if stem not in others],
        only_reconstructed=[reconstructed.path(number) for number in only_reconstructed])


def compare_folders(real, reconstructed, evaluator, device, keep=None, **options):
    """`compare_by_protocols` with one evaluator -> its EvaluationSummary; ``keep`` is a folder."""
    return compare_by_protocols(real, reconstructed, {'': evaluator}, device, keep=keep and {'': keep}, **options)['']


def compare_by_protocols(real, reconstructed, evaluators, device, pipeline=(), max_images=None, allow_unmatched=False,
                         num_workers=0, convert_to_srgb=False, keep=None):
    """Score the pictures of one folder against those of another, all metrics in one pass; every rank must call it.

    A protocol that makes its own squares makes them on both sides. It leaves pictures alone that have its size, such as
    the saved reconstructions of such squares.

    Args:
        real, reconstructed (str | Path): folders (or manifests), paired by `pair_images`.
        evaluators (dict[str, ReconstructionEvaluator]): the metrics, by name.
        device (torch.device): where they are computed.
        pipeline (sequence of dict): transforms of both sides, of the protocol 'ours'.
        max_images (int): only the first pairs.
        allow_unmatched (bool): score the pairs although some pictures have no partner; the protocol counts those.
        num_workers (int): processes that read, a side.
        convert_to_srgb (bool): of both sides; see `ImageDataset`.
        keep (dict[str, str | Path]): by the evaluator's name, a folder that receives pictures/, the worst, the best and
            a random few pairs, and pictures.json, which lists them.

    Returns:
        dict[str, EvaluationSummary]: the same on every rank. Pairs of which a file could not be read, or that are too
            small for a metric, are in ``skipped``.

    Raises:
        NothingScored: that is so of all pairs.
        SettingError: pictures without a partner, no pair at all, or a pair of two sizes.
    """
    plan = plan_preparations(evaluators, pipeline)
    sides = [open_images(folder, () if plan.collate else pipeline, convert_to_srgb=convert_to_srgb)
             for folder in (real, reconstructed)]
    real, reconstructed = map(shown_url, (real, reconstructed))
    pairs = _checked_pairs(real, reconstructed, sides, allow_unmatched)
    count = count_images(pairs.names, max_images)
    share = range(distributed.rank(), count, distributed.world_size())
    loaders = [load_batches(side, [[numbers[index]] for index in share], num_workers, plan.collate)
               for side, numbers in zip(sides, (pairs.real, pairs.reconstructed), strict=True)]
    views = plan.views(evaluators)
    for view in views:
        view.begin()
    for index, *both in progress(zip(share, *loaders, strict=True), 'compared', len(share)):
        for view in views:
            batches = [view.of(batch) for batch in both]
            for batch in batches:
                view.counts.add(batch)
            for evaluator in view.evaluators.values():
                _score(evaluator, index, pairs.names[index], batches, device)
    summaries = {}
    for view in views:
        of_all = view.counts.of_all_ranks().protocol()
        for name, evaluator in view.evaluators.items():
            summaries[name] = evaluator.summarize({
                'real': str(real), 'reconstructed': str(reconstructed), 'pairs_of': len(pairs.names),
                'only_real': len(pairs.only_real), 'only_reconstructed': len(pairs.only_reconstructed),
                'pipeline': view.description, 'software': describe_environment()['packages'],
                'reconstructions': FROM_FILES, **of_all})
    for name, summary in summaries.items():
        check_scored(summary)
        if distributed.is_main() and keep is not None:
            _keep(summary, keep[name], plan.preparations[name], sides, pairs, count)
    return {name: summaries[name] for name in evaluators}


FROM_FILES = 'read from files, so their values were clipped and rounded to 8 bits before'


def _checked_pairs(real, reconstructed, sides, allow_unmatched):
    pairs = pair_images(*sides)
    if pairs.unmatched() and not allow_unmatched:
        raise SettingError(f'{pairs.unmatched()}; nothing is computed: --allow-unmatched scores the '
                           f'{len(pairs.names)} pairs')
    if not pairs.names:
        raise SettingError(f'{real} and {reconstructed}: no relative path is in both')
    return pairs


def _keep(summary, folder, preparation, sides, pairs, count):
    """Write the pictures of the pairs that are kept."""
    places = {printable(name): place for place, name in enumerate(pairs.names)}

    def images_of(name):
        return [target_of(side[numbers[places[name]]], preparation, 'cpu')
                for side, numbers in zip(sides, (pairs.real, pairs.reconstructed), strict=True)]

    chosen = random_images(count)
    write_kept(summary, folder, picture_files(places), images_of,
               asked_for=[name for name, place in places.items() if place in chosen])


def _score(evaluator, index, name, batches, device):
    """Measure or skip a pair; ``batches``: one picture each, real and reconstructed."""
    for side, batch in zip(('real', 'reconstructed'), batches, strict=True):
        if batch.bad:
            evaluator.skip(name, f'the {side} one: {batch.bad[0].reason}')
            return
    sizes = [f'{image.shape[2]}x{image.shape[1]}' for batch in batches for image in batch.images]
    if sizes[0] != sizes[1]:
        raise SettingError(f'{name}: the real one has {sizes[0]} px, the reconstructed one {sizes[1]}; --resolution or '
                           '--crop brings both to one size')
    target, reconstruction = (to_target(torch.stack(batch.images), device) for batch in batches)
    try:
        evaluator.process('', [index], [name], target, reconstruction)
    except UnfitPicture as error:
        evaluator.skip(name, str(error))


def _by_stem(dataset):
    """Relative path without suffix -> number."""
    stems = {}
    for number in range(len(dataset)):
        path = dataset.path(number)
        stem = str(PurePosixPath(os.path.normpath(path)).with_suffix(''))
        if stem in stems:
            raise SettingError(f'{dataset.data_root}: {dataset.path(stems[stem])} and {path} differ only in their '
                               'suffix: pairs could not be told apart; rename one')
        stems[stem] = number
    return stems


def _listed(names):
    more = f' and {len(names) - LISTED} more' if len(names) > LISTED else ''
    return f'{len(names)} ({", ".join(names[:LISTED])}{more})'
