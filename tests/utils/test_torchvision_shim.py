import importlib
import subprocess
import sys

import pytest

from wfvae_toolkit.utils import torchvision_shim
from wfvae_toolkit.utils.torchvision_shim import import_lpips, import_torchvision

# What a CUDA build does beside a CPU torch: a submodule loads, then an operator that is not there is described.
MISMATCHED = """
from . import part
import torch
torch.library.register_fake('torchvision::nms')(lambda dets, scores, threshold: dets)
torch.library.register_fake('torchvision::qnms')(lambda dets, scores, threshold: dets)
"""
PROGRAM = """
from wfvae_toolkit.utils.torchvision_shim import import_torchvision
torchvision = import_torchvision()
assert torchvision.part.loads == 1, 'a module of the failed import was kept'
assert import_torchvision() is torchvision
"""


def test_import_gives_the_working_package():
    torchvision = import_torchvision()
    assert torchvision is import_torchvision() is sys.modules['torchvision']
    assert torchvision.models.alexnet is not None
    assert import_lpips().LPIPS is not None


def test_import_survives_a_build_that_does_not_fit(tmp_path):
    package = tmp_path / 'torchvision'
    package.mkdir()
    (package / '__init__.py').write_text(MISMATCHED)
    (package / 'part.py').write_text('loads = 1\n')
    path = [str(tmp_path), *sys.path]
    subprocess.run([sys.executable, '-c', f'import sys; sys.path[:] = {path!r}\n{PROGRAM}'], check=True)


def test_other_errors_pass_through(monkeypatch):
    def fail(name):
        raise RuntimeError('driver too old')

    monkeypatch.setattr(importlib, 'import_module', fail)
    with pytest.raises(RuntimeError, match='driver too old'):
        import_torchvision()


@pytest.mark.parametrize(('name', 'call'), [('torchvision', import_torchvision), ('lpips', import_lpips)])
def test_missing_package_says_what_to_install(monkeypatch, name, call):
    import_torchvision()
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=f'pip install {name}'):
        call()


def test_missing_dependency_is_not_mistaken_for_the_package(monkeypatch):
    def fail(name):
        raise ModuleNotFoundError("No module named 'PIL'", name='PIL')

    monkeypatch.setattr(torchvision_shim.importlib, 'import_module', fail)
    with pytest.raises(ModuleNotFoundError, match='PIL'):
        import_torchvision()
