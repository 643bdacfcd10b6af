"""Several trainings in one set of processes, whose start costs more than they do: ``several_runs.py ARGUMENTS.json``.

The file holds a list of argument lists of tools/train.py, all but ``--launcher``.
"""

import json
import runpy
import sys
from pathlib import Path

from wfvae_toolkit.utils.distributed import process_group

train = runpy.run_path(str(Path(__file__).parents[3] / 'tools/train.py'))['main']
with process_group('pytorch'):
    for arguments in json.loads(Path(sys.argv[1]).read_text(encoding='utf-8')):
        train(arguments)
