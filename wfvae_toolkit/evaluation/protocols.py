"""Named protocols: all that decides a score besides the model and the pictures, as other projects have it.

Two published tables differ by more than their models: resizing, rounding, the window of SSIM, the network of LPIPS,
averaging and the statistics that FID compares with. A protocol fixes these. Its numbers may stand beside those of the
tables that it names, if the pictures are the same.
"""

from dataclasses import dataclass, field, replace

from wfvae_toolkit.datasets.preparations import ADMCrop, PillowBilinear, TensorBilinear
from wfvae_toolkit.utils.errors import SettingError, is_number

OURS = 'ours'
# Settings of a config's row that a protocol keeps: where files are, not what is computed.
_FILES = ('trunk_weights', 'weights', 'reference', 'interval')


@dataclass(frozen=True)
class Protocol:
    """How to score.

    Attributes:
        name (str): as ``--protocol`` takes it.
        source (str): the script that it follows.
        beside (str): tables beside which its numbers may stand.
        preparation (type | None): makes the square that is scored from a whole picture; None: the config's pipeline.
        resolution (int | None): edge of that square, px.
        latent (str): 'mean' of the posterior, or a 'sample' of it.
        metrics (dict): rows that it sets, name -> config.
        remark (str): what of the script it does not follow.
    """

    name: str
    source: str
    beside: str
    preparation: type | None = None
    resolution: int | None = None
    latent: str = 'mean'
    metrics: dict = field(default_factory=dict)
    remark: str = ''

    def rows(self, metrics):
        """The rows of an evaluator: its own, then those of ``metrics`` (dict) with other names.

        Of a row with one of its names only the paths of files are kept.
        """
        own = {name: {**row, **{key: value for key, value in (metrics.get(name) or {}).items()
                                if key in _FILES and _takes(row, key)}}
               for name, row in self.metrics.items()}
        return {**own, **{name: row for name, row in metrics.items() if name not in own}}

    def build_preparation(self):
        """The preparation, None for the config's pipeline."""
        return None if self.preparation is None else self.preparation(self.resolution)

    def facts(self):
        """Entries of a summary's protocol."""
        entries = {'protocol': self.name, 'may_stand_beside': self.beside}
        if self.source:
            entries['follows'] = self.source
        if self.remark:
            entries['differs_from_it'] = self.remark
        return entries


def find_protocol(name, resolution=None):
    """Protocol by name, at another ``resolution`` in px.

    Raises:
        SettingError: no such protocol, or a resolution for 'ours'.
    """
    if name not in PROTOCOLS:
        raise SettingError(f'protocol={name!r}: use one of {", ".join(PROTOCOLS)}')
    protocol = PROTOCOLS[name]
    if resolution is None:
        return protocol
    if protocol.preparation is None:
        raise SettingError(f'resolution={resolution!r}: protocol {name!r} scores what val_dataloader.dataset.pipeline '
                           'makes; set the size there')
    if not is_number(resolution, 1, whole=True):
        raise SettingError(f'resolution={resolution!r}: a number of pixels from 1 is needed')
    return replace(protocol, resolution=resolution)


def _takes(row, key):
    """Whether a path of the config's row has a meaning in the protocol's."""
    of = {'LPIPS': ('trunk_weights',), 'FrechetDistance': ('weights', 'reference', 'interval')}
    return key in of.get(row['type'], ())


def _lpips(net, pixels, **settings):
    return dict(type='LPIPS', net=net, pixels=pixels, optional=True, **settings)


def _fid(features, pixels):
    return dict(type='FrechetDistance', features=features, pixels=pixels, optional=True)


def _torchmetrics_ssim(**settings):
    """Both SSIMs of torchmetrics, whose version no script pins."""
    return dict(SSIM=dict(type='SSIM', border='reflect', **settings), SSIM_valid=dict(type='SSIM', **settings))


_TORCHMETRICS = ('the script does not say which version of torchmetrics it had: SSIM is that of 1.4.2 and later (all '
                 'pixels, reflected borders), SSIM_valid that of earlier ones (valid region)')
_READING = ('files are read upright by their EXIF orientation, with alpha over white; the script reads them by '
            "Pillow's convert('RGB')")
_SAMPLE = "the noise of a picture's latents depends on its name alone"

PROTOCOLS = {protocol.name: protocol for protocol in (
    Protocol(
        OURS, '', 'tables of this toolkit that were made with the same pipeline; no published table'),
    Protocol(
        'va-vae', 'evaluate_tokenizer.py of hustvl/LightningDiT',
        'VA-VAE (arXiv 2501.01423) and papers that score by its script, such as EQ-VAE (2502.09509)',
        TensorBilinear, 256, 'sample',
        dict(PSNR=dict(type='PSNR', pixels='va-vae'),
             **_torchmetrics_ssim(values=(-1, 1), pixels='clamped', mean_of_batches=8),
             LPIPS=_lpips('vgg', 'raw', mean_of_batches=8), FID=_fid('inception-pytorch-fid', 'va-vae')),
        f'batches of 8 are taken in the order of the data set, as by one process without shuffling; {_SAMPLE}; '
        f'{_TORCHMETRICS}; {_READING}'),
    Protocol(
        'dc-ae', 'aecore/evaluator.py of mit-han-lab/efficientvit',
        'DC-AE (arXiv 2410.10733), DC-AE 1.5 (2508.00413) and DC-Gen, at the resolution of their row (256 or 512 px)',
        ADMCrop, 256, 'mean',
        dict(PSNR=dict(type='PSNR', pixels='dc-ae'),
             **_torchmetrics_ssim(values=(0, 255), pixels='dc-ae'),
             LPIPS=_lpips('alex', 'dc-ae'), FID=_fid('inception-pytorch-fid', 'dc-ae')),
        'FID compares with the same squares, unless the row FID of the config names a reference; the script compares '
        f'with a file of the validation set; {_TORCHMETRICS}; {_READING}'),
    Protocol(
        'rae', 'src/eval of bytetriper/RAE', 'RAE (arXiv 2510.11690)',
        ADMCrop, 256, 'mean',
        dict(PSNR=dict(type='PSNR', least_error=1e-10, pixels='rae'),
             **_torchmetrics_ssim(pixels='rae'),
             LPIPS=_lpips('vgg', 'rae'), FID=_fid('inception', 'rae')),
        f'{_TORCHMETRICS}; {_READING}'),
    Protocol(
        'ldm', 'eval.py of lavinal712/AutoencoderKL',
        'the table of lavinal712/AutoencoderKL (SD-VAE, SDXL-VAE, FLUX.1 and others)',
        PillowBilinear, 256, 'sample',
        dict(PSNR=dict(type='PSNR', pixels='clamped'),
             SSIM=dict(type='SSIM', uniform_window=7, sample_covariance=True, pixels='clamped'),
             LPIPS=_lpips('vgg', 'raw'), FID=_fid('inception-pytorch-fid', 'ldm')),
        f'another version of the script has an 11x11 uniform window for SSIM; {_SAMPLE}; '
        f'{_READING}'),
)}
