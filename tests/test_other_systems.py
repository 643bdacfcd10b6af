"""Windows and macOS, as far as Linux shows them: what they lack is hidden."""

import json
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HIDING = ROOT / 'tests/data/other_systems'


@pytest.mark.slow
def test_without_what_windows_lacks_it_trains_resumes_evaluates_and_reconstructs(launch, tmp_path):
    done = launch(sys.executable, HIDING / 'run.py', tmp_path,
                  env={'PYTHONPATH': os.pathsep.join(map(str, [HIDING, ROOT]))})
    assert {path.name for path in (tmp_path / 'run').glob('iter_*.pth')} == {'iter_2.pth', 'iter_4.pth'}
    assert 'resumed' in done.stdout + done.stderr
    assert json.loads((tmp_path / 'scores/summary.json').read_text(encoding='utf-8'))['images'] == 8
    assert [path.name for path in (tmp_path / 'reconstructed').iterdir()] == ['teal.png']
    assert int(done.stdout.rpartition('peak ')[2]) > 2**26
