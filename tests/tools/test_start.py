"""What starting costs, counted in modules: seconds depend on the machine."""

import json
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
HEAVY = {'torch', 'torchvision', 'mmengine', 'numpy', 'PIL', 'cv2', 'matplotlib', 'tensorboard', 'lpips', 'diffusers'}
# Runs argv[1:] as a program, --help included, and prints which modules it has imported.
WATCH = '''
import json, runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name='__main__')
except SystemExit as end:
    assert not end.code, end.code
finally:
    print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))
'''


def imported(launch, *command):
    return set(json.loads(launch(sys.executable, '-c', *command).stdout.splitlines()[-1]))


@pytest.mark.parametrize('path', sorted(TOOLS.rglob('*.py')), ids=lambda path: path.relative_to(TOOLS).as_posix())
def test_help_imports_nothing_heavy(launch, path):
    assert not imported(launch, WATCH, path, '--help') & HEAVY


def test_the_package_imports_nothing_heavy(launch):
    loaded = imported(launch, 'import json, sys, wfvae_toolkit; print(json.dumps(sorted(sys.modules)))')
    assert 'wfvae_toolkit' in loaded
    assert not loaded & HEAVY


def test_what_is_imported_would_be_seen(launch, tmp_path):
    (tmp_path / 'tool.py').write_text('import numpy\n')
    assert 'numpy' in imported(launch, WATCH, tmp_path / 'tool.py')
