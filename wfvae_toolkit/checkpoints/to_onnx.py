"""A trained model as two ONNX files (extra ``onnx``)."""

from pathlib import Path

import torch

from wfvae_toolkit.utils.errors import import_extra
from wfvae_toolkit.utils.files import atomic_folder, write_json

from .halves import compare_halves, describe_halves, make_halves
from .to_diffusers import check_exportable
from .trained import CheckpointError

OPSET = 20
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
    with atomic_folder(output) as folder:
        for half in make_halves(autoencoder):
            _export(half, folder / f'{half.name}.onnx')
        _compare(autoencoder, folder)
        write_json(folder / 'config.json', describe_halves(model, autoencoder))
        names = sorted(path.name for path in folder.iterdir())
    return [Path(output) / name for name in names]


def _export(half, path):
    weights_bytes = sum(value.numel() * value.element_size() for value in half.network.state_dict().values())
    try:
        with torch.no_grad():
            torch.onnx.export(half.network, (half.argument,), path, dynamo=True, opset_version=OPSET,
                              input_names=[half.argument_name], output_names=half.outputs,
                              dynamic_shapes={half.argument_name: half.dynamic}, verbose=False,
                              external_data=weights_bytes > _SINGLE_FILE_BYTES)
    except torch.onnx.errors.OnnxExporterError as error:
        raise CheckpointError(f'{path}: a part of the model cannot be written as ONNX: {error}') from error


def _compare(autoencoder, folder):
    """CheckpointError unless onnxruntime's results on the CPU are the model's."""
    import onnxruntime

    def runner(name):
        session = onnxruntime.InferenceSession(folder / f'{name}.onnx', providers=['CPUExecutionProvider'])
        argument = session.get_inputs()[0].name
        return lambda tensor: [torch.from_numpy(result) for result in session.run(None, {argument: tensor.numpy()})]

    compare_halves(autoencoder, runner('encoder'), runner('decoder'), folder)
