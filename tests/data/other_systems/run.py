"""Trains, resumes, evaluates and reconstructs: ``python run.py FOLDER``."""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def main(folder):
    config = str(ROOT / 'tests/data/configs/made_up.py')
    options = ['train_dataloader.num_workers=1', 'val_dataloader.num_workers=1', 'default_hooks.checkpoint.interval=2',
               'train_cfg.val_interval=2']
    for iterations in (2, 4):
        tool('train')([config, '--work-dir', f'{folder}/run', '--resume', '--cfg-options', *options,
                       f'train_cfg.max_iters={iterations}', f'experiment_name=other_systems_{iterations}'])
    tool('test')([config, f'{folder}/run', '--work-dir', f'{folder}/scores', '--no-report', '--cfg-options', *options])
    from PIL import Image
    Path(folder, 'pictures').mkdir()
    Image.new('RGB', (40, 24), 'teal').save(f'{folder}/pictures/teal.png')
    tool('reconstruct')([f'{folder}/run', f'{folder}/pictures', f'{folder}/reconstructed'])

    from wfvae_toolkit.utils.device import peak_memory_bytes
    print('peak', peak_memory_bytes())


if __name__ == '__main__':
    main(sys.argv[1])
