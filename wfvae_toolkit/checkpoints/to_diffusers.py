"""A trained model as a folder that diffusers loads (extra ``diffusers``)."""

import json
import re
from dataclasses import replace
from pathlib import Path

import torch

from wfvae_toolkit.models.activations import ActivationMonitor
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.files import atomic_folder, write_json

from .card import CARD_NAME, model_card
from .folders import RECORD_NAME
from .native import ACTIVATIONS, plain_data
from .read import read_model
from .trained import CheckpointError

EXPORTED = 'WFVAE2Image'
STATISTICS = ('channels', 'scalar')


def write_diffusers(model, output, latent_statistics=None, license=None, half=False):
    """TrainedModel -> a folder with ``config.json``, safetensors, a modelling file and a README. Returns their paths.

    Args:
        model (TrainedModel): of a WFVAE2Image.
        output (str | Path): the folder.
        latent_statistics (str): ``'channels'`` writes ``latents_mean`` and ``latents_std``; ``'scalar'`` one
            ``scaling_factor`` and ``shift_factor`` of all channels together, for pipelines that read no others. None:
            ``'channels'``, or neither for a model whose latents were never measured.
        license (str): the Hub's identifier for the README, such as ``'apache-2.0'``; None: unknown.
        half (bool): round the weights to float16, which halves the file. Readers compute in float32 as before.

    Raises:
        SettingError: another autoencoder, or a part of a plug-in, whose source an exported folder cannot hold. An
            unknown ``latent_statistics``, or any where the latents were never measured. A license that is not an
            identifier.
        CheckpointError: what was written, loaded again, does not give the results of the model, with ``half`` of the
            rounded model; or a weight is too large for float16.
        MissingLibrary: diffusers is not installed.
    """
    check_exportable(model, 'diffusers')
    if latent_statistics not in (None, *STATISTICS):
        raise SettingError(f'latent_statistics={latent_statistics!r}: use one of {", ".join(STATISTICS)}')
    if latent_statistics is not None and model.statistics is None:
        raise SettingError(f'{model.path} has no latent statistics to write: run tools/measure_latents.py first, or '
                           'leave --latent-statistics out, and latents stay raw')
    if license is not None and not re.fullmatch(r'[a-z0-9][a-z0-9.+-]*', license):
        raise SettingError(f'license={license!r}: use the identifier of the Hub, such as apache-2.0 or other')
    from wfvae_toolkit.models.diffusers_model import AutoencoderWFVAE2

    if half:
        model = replace(model, state=_rounded(model))
    native = model.build()
    settings = {key: value for key, value in plain_data(model.config).items()
                if key not in ('type', 'checkpoint_activations')}
    exported = AutoencoderWFVAE2(**settings, **scaling(model.statistics, latent_statistics)).eval()
    exported.load_state_dict(native.state_dict())
    foreign = exported.foreign_parts()
    if foreign:
        raise SettingError(f'{", ".join(foreign)}: a plug-in registers it, and an exported folder can hold only the '
                           "toolkit's own parts")
    with atomic_folder(output) as folder:
        (exported.half() if half else exported).save_pretrained(folder)
        _write_card(model, native, folder, license)
        _compare(native, AutoencoderWFVAE2.from_pretrained(folder, low_cpu_mem_usage=False), output)
        _compare(native, read_model(folder).build(), output)
        names = sorted(path.name for path in folder.iterdir())
    return [Path(output) / name for name in names]


def _rounded(model):
    """The state of a TrainedModel, each float rounded to float16; CheckpointError for one beyond its range."""
    rounded = {name: value.half().to(value.dtype) if value.is_floating_point() else value
               for name, value in model.state.items()}
    for name, value in rounded.items():
        if not value.isfinite().all():
            raise CheckpointError(f'{model.path}: {name} holds {model.state[name].abs().max():g}, float16 ends at '
                                  '65504; export it without half')
    return rounded


def _write_card(model, native, folder, license):
    """README.md and, of a model that was measured, the record of its activations."""
    activations = model.meta.get(ACTIVATIONS)
    if activations is None:
        activations = {**_made_up_activations(native), 'images': 0}
    else:
        write_json(folder / RECORD_NAME, {ACTIVATIONS: activations})
    card = model_card(replace(model, meta={**model.meta, ACTIVATIONS: activations}), license)
    (folder / CARD_NAME).write_text(card, encoding='utf-8')


@torch.inference_mode()
def _made_up_activations(native):
    """Of noise: too large a value shows that float16 fails, a small one shows nothing."""
    images, _ = example(native, rows=8, columns=8)
    with ActivationMonitor(native) as monitor:
        native(images)
    return monitor.largest()


def check_exportable(model, form):
    """SettingError unless the model is one whose code this form can carry."""
    if model.config['type'] != EXPORTED:
        raise SettingError(f'{model.path}: a {model.config["type"]}; --to {form} takes only {EXPORTED}')


def scaling(statistics, kind='channels'):
    """LatentStatistics, or None -> the settings from which a pipeline of diffusers scales latents."""
    if statistics is None:
        return {}
    if kind == 'scalar':
        mean, std = statistics.pooled()
        return dict(scaling_factor=1 / std, shift_factor=mean)
    return dict(latents_mean=list(statistics.mean), latents_std=list(statistics.std))


def make_pipeline_portable(folder, component='vae'):
    """Let a pipeline that was saved with this toolkit load without it, with ``trust_remote_code=True``.

    Args:
        folder (str | Path): what ``DiffusionPipeline.save_pretrained`` wrote.
        component (str): the pipeline's name for its autoencoder.

    Raises:
        CheckpointError: no such pipeline, or its autoencoder was saved without its source.
    """
    from wfvae_toolkit.models.modelling_file import MODELLING_FILE

    path = Path(folder) / 'model_index.json'
    try:
        index = json.loads(path.read_text(encoding='utf-8'))
        name = index[component][1]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(f'{path}: no readable pipeline with a {component} ({error})') from None
    source = path.parent / component / f'{MODELLING_FILE}.py'
    if not source.is_file():
        raise CheckpointError(f'{source}: missing; only an AutoencoderWFVAE2 of this toolkit\'s parts is portable')
    write_json(path, {**index, component: [MODELLING_FILE, name]})


def example(autoencoder, rows=2, columns=3, batch=2):
    """Images and latents (noise of unit variance, always the same) to compare an exported model on, on its device."""
    generator = torch.Generator().manual_seed(0)
    factor, device = autoencoder.downsample_factor, next(autoencoder.parameters()).device
    images = torch.randn(batch, 3, rows * factor, columns * factor, generator=generator).clamp(-1, 1)
    latents = torch.randn(batch, autoencoder.latent_channels, rows, columns, generator=generator)
    return images.to(device), latents.to(device)


@torch.inference_mode()
def _compare(native, loaded, folder):
    images, latents = example(native)
    expected, posterior = native.encode(images).latent_dist, loaded.encode(images).latent_dist
    samples = (one.sample(torch.Generator().manual_seed(0)) for one in (posterior, expected))
    pairs = {'latents': (posterior.mode(), expected.mode()), 'samples': tuple(samples),
             'images': (loaded.decode(latents).sample, native.decode(latents).sample)}
    for name, (result, wanted) in pairs.items():
        if not torch.equal(result, wanted):
            raise CheckpointError(f'{folder}: its {name} differ from those of the model by up to '
                                  f'{(result - wanted).abs().max():.2g}')
