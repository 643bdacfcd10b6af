import ast
import json
import sys

import pytest
import torch

from wfvae_toolkit import AutoencoderWFVAE2
from wfvae_toolkit.models import modelling_file
from wfvae_toolkit.models.diffusers_model import PART_REGISTRIES
from wfvae_toolkit.models.modelling_file import MODELLING_FILE, modelling_source

# Loads, runs, saves and loads again; what is not torch, diffusers or theirs cannot be imported.
PROGRAM = '''
import sys

if 'blind' in sys.argv:
    sys.modules.update(dict.fromkeys(['wfvae_toolkit', 'mmengine', 'pywt', 'torchvision', 'transformers']))
import diffusers, torch

try:
    import wfvae_toolkit
except ImportError:
    pass
else:
    sys.exit('the toolkit is here')
data = torch.load('data.pt')
for folder, again in (('exported', 'again'), ('again', 'more')):
    vae = diffusers.AutoModel.from_pretrained(folder, trust_remote_code=True)
    with torch.no_grad():
        posterior = vae.encode(data['images']).latent_dist
        assert torch.equal(posterior.sample(torch.Generator().manual_seed(1)), data['latents'])
        assert torch.equal(vae.decode(data['latents']).sample, data['sample'])
    vae.save_pretrained(again)
try:
    type(vae).from_config({**vae.config, 'wavelet': {'type': 'subprocess.Popen'}})
except ValueError as error:
    assert 'no registry holds' in str(error)
else:
    sys.exit('built an unknown part')
transformer = diffusers.DiTTransformer2DModel(num_attention_heads=2, attention_head_dim=4, in_channels=3, num_layers=1,
                                              out_channels=3, sample_size=4, patch_size=2, norm_num_groups=1)
pipeline = diffusers.DiTPipeline(transformer, vae, diffusers.DDIMScheduler())
pipeline.save_pretrained('pipeline')
loaded = diffusers.DiTPipeline.from_pretrained('pipeline', trust_remote_code=True)
with torch.no_grad():
    assert torch.equal(loaded.vae.decode(data['latents']).sample, data['sample'])
assert loaded([1], num_inference_steps=2, output_type='np').images.shape == (1, 16, 16, 3)
assert diffusers.DiTPipeline.from_pretrained('pipeline', vae=vae).vae is vae
'''


@pytest.fixture
def exported(tmp_path, make_images, request):
    """A folder with ``exported``, a saved model with a wavelet of PyWavelets, and ``data.pt``, its results."""
    torch.manual_seed(0)
    vae = AutoencoderWFVAE2(latent_channels=3, widths=(8, 12), flow_width=4, scaling_factor=0.5,
                            wavelet=dict(type='DiscreteWavelet', name='db3'),
                            posterior=getattr(request, 'param', None)).eval()
    vae.save_pretrained(tmp_path / 'exported')
    images = make_images()
    with torch.no_grad():
        latents = vae.encode(images).latent_dist.sample(torch.Generator().manual_seed(1))
        torch.save(dict(images=images, latents=latents, sample=vae.decode(latents).sample), tmp_path / 'data.pt')
    return tmp_path


@pytest.mark.parametrize('exported', [
    None, pytest.param(dict(type='DeterministicPosterior'), marks=pytest.mark.slow)], indirect=True,
                         ids=['Gaussian', 'no variance'])
def test_works_without_the_toolkit(launch, exported):
    launch(sys.executable, '-c', PROGRAM, 'blind', cwd=exported, env={'HF_MODULES_CACHE': str(exported / 'cache'),
                                                                      'PYTHONPATH': ''})
    index = json.loads((exported / 'pipeline/model_index.json').read_text())
    assert index['vae'] == [MODELLING_FILE, 'AutoencoderWFVAE2']
    for folder in ('again', 'more', 'pipeline/vae'):
        assert (exported / folder / f'{MODELLING_FILE}.py').read_text() == modelling_source()
    settings = [json.loads((exported / folder / 'config.json').read_text()) for folder in ('exported', 'more')]
    assert {**settings[0], '_name_or_path': 'again'} == settings[1]


@pytest.mark.slow
def test_works_in_an_environment_of_torch_and_diffusers(launch, exported, request):
    constraints = request.config.rootpath / 'requirements/constraints.txt'
    launch(sys.executable, '-m', 'venv', exported / 'venv')
    python = exported / 'venv/bin/python'
    launch(python, '-m', 'pip', 'install', '-q', 'torch', 'diffusers', '-c', constraints)
    launch(python, '-c', PROGRAM, cwd=exported, env={'HF_MODULES_CACHE': str(exported / 'cache'), 'PYTHONPATH': ''})


def test_holds_every_part_and_imports_torch_and_diffusers_alone():
    tree = ast.parse(modelling_source())
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    for registry in PART_REGISTRIES:
        own = {name for name, part in registry.module_dict.items() if part.__module__.startswith('wfvae_toolkit')}
        assert own
        assert own <= classes
    imported = {name.partition('.')[0] for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))
                for name in ([node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])}
    # diffusers itself requires huggingface_hub.
    assert imported - sys.stdlib_module_names == {'torch', 'diffusers', 'huggingface_hub'}
    assert 'Apache License' in modelling_source().partition('import')[0]


@pytest.mark.parametrize(('source', 'message'), [
    ('from ..utils import files', 'cannot use it'),
    ('def late():\n    from .posterior import DiagonalGaussian', 'line 2: import names .* at the top'),
    ('from .posterior import DiagonalGaussian as Gaussian', 'line 1: import names .* at the top'),
    ('from .posterior import DiagonalGaussian\nLOGVAR_RANGE = 1', 'LOGVAR_RANGE is defined in'),
])
def test_modules_that_cannot_stand_in_one_file_are_named(tmp_path, monkeypatch, source, message):
    import wfvae_toolkit.models

    (tmp_path / 'odd.py').write_text(source)
    monkeypatch.setattr(wfvae_toolkit.models, '__path__', [*wfvae_toolkit.models.__path__, str(tmp_path)])
    monkeypatch.setattr(modelling_file, '_ROOTS', ('wfvae_toolkit.models.odd',))
    with pytest.raises(ValueError, match=message):
        modelling_source.__wrapped__()
