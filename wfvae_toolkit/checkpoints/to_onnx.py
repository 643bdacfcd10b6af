"""A trained model as two ONNX files (extra ``onnx``)."""

from pathlib import Path

import torch
from torch import nn

from wfvae_toolkit.utils.errors import import_extra
from wfvae_toolkit.utils.files import atomic_folder, write_json

from .settings import complete
from .to_diffusers import check_exportable, example
from .trained import CheckpointError

OPSET = 20
TOLERANCE = 1e-4
# Latent rows and columns, and images a batch, other than those that are traced.
_CHECKED = ((4, 5, 1), (7, 3, 3))
# A file of ONNX holds at most 2 GiB; larger weights stand beside it.
_SINGLE_FILE_BYTES = 2**30


def write_onnx(model, output):
    """``encoder.onnx``, ``decoder.onnx`` and ``config.json``, for any batch, height and width; run and compared.

    ``encoder.onnx``: ``image`` (B, 3, H, W) in [-1, 1] -> ``posterior_mean`` and, of GaussianPosterior,
    ``posterior_logvar``, raw latents (B, C, H/f, W/f). ``decoder.onnx``: ``latents``, raw -> ``image``. H and W must
    be multiples of f.

    Args:
        model (TrainedModel): of a WFVAE2Image.
        output (str | Path): the folder. The paths of its files are returned.

    Raises:
        SettingError: another autoencoder.
        CheckpointError: a part that ONNX cannot express, or onnxruntime gives other results (over 1e-4) at sizes
            other than the traced one; the message names them.
        MissingLibrary: onnx, onnxscript or onnxruntime is not installed.
    """
    check_exportable(model, 'onnx')
    for package in ('onnx', 'onnxscript', 'onnxruntime'):
        import_extra(package, 'onnx')
    autoencoder = model.build()
    factor = autoencoder.downsample_factor
    batch, height, width = (torch.export.Dim(name) for name in ('batch', 'height', 'width'))
    images, latents = example(autoencoder, rows=3, columns=4)
    with torch.inference_mode():
        outputs = _output_names(autoencoder.encode(images).latent_dist)
    with atomic_folder(output) as folder:
        _export(_Encoder(autoencoder), images, {0: batch, 2: factor * height, 3: factor * width}, outputs,
                folder / 'encoder.onnx')
        _export(_Decoder(autoencoder), latents, {0: batch, 2: height, 3: width}, ['image'], folder / 'decoder.onnx')
        _compare(autoencoder, folder)
        statistics = model.statistics
        write_json(folder / 'config.json', dict(
            downsample_factor=factor, latent_channels=autoencoder.latent_channels,
            posterior=complete(model.config)['posterior'],
            latents_mean=None if statistics is None else list(statistics.mean),
            latents_std=None if statistics is None else list(statistics.std),
            largest_activations=model.meta.get('largest_activations')))
        names = sorted(path.name for path in folder.iterdir())
    return [Path(output) / name for name in names]


class _Encoder(nn.Module):
    def __init__(self, autoencoder):
        super().__init__()
        self.encoder, self.posterior_kind = autoencoder.encoder, autoencoder.posterior_kind

    def forward(self, image):
        return self.posterior_kind(self.encoder(image)[0]).tensors


class _Decoder(nn.Module):
    def __init__(self, autoencoder):
        super().__init__()
        self.decoder = autoencoder.decoder

    def forward(self, latents):
        return self.decoder(latents)[0]


def _export(half, argument, dynamic, outputs, path):
    weights_bytes = sum(value.numel() * value.element_size() for value in half.state_dict().values())
    name = 'image' if isinstance(half, _Encoder) else 'latents'
    try:
        with torch.no_grad():
            torch.onnx.export(half, (argument,), path, dynamo=True, opset_version=OPSET, input_names=[name],
                              output_names=outputs, dynamic_shapes={name: dynamic}, verbose=False,
                              external_data=weights_bytes > _SINGLE_FILE_BYTES)
    except torch.onnx.errors.OnnxExporterError as error:
        raise CheckpointError(f'{path}: a part of the model cannot be written as ONNX: {error}') from error


def _output_names(posterior):
    return [f'posterior_{name}' for name in posterior.names]


def _compare(autoencoder, folder):
    """CheckpointError unless onnxruntime's results on the CPU are the model's."""
    import onnxruntime

    encoder, decoder = (onnxruntime.InferenceSession(folder / name, providers=['CPUExecutionProvider'])
                        for name in ('encoder.onnx', 'decoder.onnx'))
    for rows, columns, batch in _CHECKED:
        images, latents = example(autoencoder, rows, columns, batch)
        with torch.inference_mode():
            posterior = autoencoder.encode(images).latent_dist
            expected = [*posterior.tensors, autoencoder.decode(latents).sample]
        results = [*encoder.run(None, {'image': images.numpy()}), *decoder.run(None, {'latents': latents.numpy()})]
        for name, result, wanted in zip((*_output_names(posterior), 'image'), results, expected, strict=True):
            error = (torch.from_numpy(result) - wanted).abs().max()
            if not error <= TOLERANCE:
                raise CheckpointError(f'{folder}: {name} differs by {error:.2g} for images of '
                                      f'{tuple(images.shape)}; at most {TOLERANCE} was expected')
