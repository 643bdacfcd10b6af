"""The device of these tests, the time left for them, and float32 that is float32."""

import os
import time

# torch reads it when it first uses cuBLAS; deterministic algorithms need it.
os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')

import pytest
import torch

DEVICE, DEADLINE = (os.environ.get(f'GPU_TESTS_{name}') for name in ('DEVICE', 'DEADLINE'))


def pytest_runtest_setup(item):
    if DEADLINE and item.get_closest_marker('gpu') and time.time() > float(DEADLINE):
        pytest.skip('no time was left')


@pytest.fixture(scope='session')
def device():
    """The first GPU; `make gpu DEVICE=cpu` compares the CPU with itself."""
    return torch.device(DEVICE or 'cuda')


@pytest.fixture(autouse=True)
def full_float32():
    """No TF32: its products have 10 bits, and no number could be compared with the CPU's."""
    backends = torch.backends.cudnn, torch.backends.cuda.matmul
    allowed = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = False
    yield
    for backend, before in zip(backends, allowed, strict=True):
        backend.allow_tf32 = before


@pytest.fixture
def any_algorithm():
    """Takes back what a deterministic run sets for the whole process."""
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False
