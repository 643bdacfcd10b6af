"""An accelerator rehearsed without one: no tensor of another device gets in, and what waits for it is stated."""

import json
import sys

import pytest
import torch

from tests import accelerator as stand_in
from wfvae_toolkit.utils.device import as_float64, default_device
from wfvae_toolkit.utils.distributed import LaunchError, process_group

pytestmark = pytest.mark.skipif(not stand_in.EXISTS, reason='this torch knows no device written in Python')

# An update waits once, for its one check of the gradients.
UPDATE = 'training/train_step.py _apply: reads (_local_scalar_dense)'
# Where else a run may wait. The loader of these tests does not pin its batches, as that of the configs does.
ELSEWHERE = {
    'start': {'training/runner.py wrap_model', 'training/rehearsal.py _picture'},
    'resume': {'training/resume.py _load_strictly', 'training/optimizers.py load_state_dict',
               'hooks/ema.py after_load_checkpoint'},
    'batch': {'training/preprocessor.py forward'},
    'row of the log': {'hooks/logger.py _mean_sums'},
    'validation': {'evaluation/run.py to_target', 'evaluation/evaluator.py _measure', 'utils/finite.py all_finite',
                   'evaluation/flat_fields.py measure_flat_fields', 'evaluation/flat_fields.py periodic_parts',
                   'hooks/pictures.py after_val_iter', 'hooks/pictures.py patch_scores'},
}


@pytest.fixture(scope='module')
def rehearse(launch, photos, tmp_path_factory):
    def run(*arguments):
        folder = tmp_path_factory.mktemp('rehearsal')
        print(launch(sys.executable, '-m', 'tests.rehearsal', photos, folder, *arguments).stdout)
        return json.loads((folder / 'rehearsal.json').read_text(encoding='utf-8'))
    return run


@pytest.fixture(scope='module')
def rehearsed(rehearse):
    return rehearse()


def test_an_update_waits_once(rehearsed):
    assert len(rehearsed['updates']) >= 4
    for waits in rehearsed['updates'].values():
        assert waits == {UPDATE: 2}


@pytest.mark.slow
def test_an_update_of_every_ablation_waits_once(rehearse):
    found = rehearse('--ablations')
    updates = found['updates']
    assert len(updates) > 30
    assert UPDATE in found['fp16']
    assert {place for waits in updates.values() for place in waits} == {UPDATE}


def test_a_run_is_that_of_the_cpu(rehearsed):
    assert rehearsed['run']['different'] == []
    assert {wait.partition(':')[0] for wait in rehearsed['run']['waits']} == {
        UPDATE.partition(':')[0], *(place for places in ELSEWHERE.values() for place in places)}
    assert rehearsed['run']['waits'][UPDATE] == 4
    assert rehearsed['run']['waits with --device cpu'] == {}


def test_tools_compute_what_the_cpu_computes_with_and_without_float64(rehearsed):
    assert rehearsed['tools'] == {'float64': [], 'no float64': []}


def test_several_processes_on_a_device_that_torch_does_not_join(monkeypatch):
    for name, value in dict(RANK=0, WORLD_SIZE=2, LOCAL_RANK=0, MASTER_ADDR='127.0.0.1', MASTER_PORT=1).items():
        monkeypatch.setenv(name, str(value))
    with stand_in.accelerator(), pytest.raises(LaunchError, match='2 processes: torch joins none on strict; use one'), \
            process_group('pytorch'):
        pass


@pytest.mark.parametrize('float64', [True, False])
def test_the_stand_in_refuses_two_devices_and_counts_what_waits(float64):
    with stand_in.accelerator(float64) as mode:
        here = torch.ones(2, 3, device=default_device())
        with pytest.raises(RuntimeError, match='tensors on strict and on the CPU'):
            here + torch.ones(3)
        assert (here + torch.tensor(1.0)).device.type == stand_in.NAME
        mode.waits.clear()
        assert float(here.sum()) == 6
        assert here.cpu().device.type == 'cpu'
        torch.ones(3).to(here.device)
        torch.ones(3).pin_memory().to(here.device, non_blocking=True)
        assert list(mode.waits.values()) == [1, 1, 1]
        if not float64:
            with pytest.raises(TypeError, match='no float64'):
                here.double()
        assert as_float64(here).dtype == torch.float64
    assert default_device().type != stand_in.NAME
