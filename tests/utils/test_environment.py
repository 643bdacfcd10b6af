import torch

from wfvae_toolkit.utils.device import device_name
from wfvae_toolkit.utils.environment import describe_environment, describe_machine, describe_versions


def test_a_machine_is_its_processor_kernels_and_threads(monkeypatch):
    monkeypatch.delenv('ONEDNN_MAX_CPU_ISA', raising=False)
    machine = describe_machine()
    assert machine['cpu']
    assert machine['kernels'] == torch.backends.cpu.get_cpu_capability()
    assert machine['threads'] == torch.get_num_threads()
    assert machine.get('gpu') == device_name()
    monkeypatch.setenv('ONEDNN_MAX_CPU_ISA', 'AVX2')
    assert describe_machine()['kernels'] == f'{machine["kernels"]}, oneDNN up to AVX2'
    assert machine['cpu'] in describe_environment()['device']


def test_versions_name_what_numbers_depend_on():
    versions = describe_versions()
    assert torch.__version__.startswith(versions['torch'].partition('+')[0])
    assert {'wfvae_toolkit', 'python', 'mmengine', 'numpy', 'pillow'} <= versions.keys()
