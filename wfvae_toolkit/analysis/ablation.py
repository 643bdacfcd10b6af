"""A study: several configs, each trained with several seeds under one budget, scored on the same images."""

import json
from dataclasses import dataclass
from pathlib import Path

from wfvae_toolkit.utils.config import load_config
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.files import write_json

from .config_diff import compare_configs, format_changes

# Of the configs' own lengths these keep their share: a shorter run is the whole run, shorter.
_SCALED = ('default_hooks.learning_rate.warmup_iters', 'default_hooks.discriminator.start_iter',
           'default_hooks.discriminator.train_iter')
# Scored once, by tools/test.py, not while training.
NO_VALIDATION = {'val_cfg': None, 'val_dataloader': None, 'val_evaluator': None}
SETTINGS_FILE = 'ablation.json'


@dataclass
class Run:
    """One training: ``options`` of tools/train.py by dotted key, ``scoring`` those of tools/test.py."""

    config: str
    name: str
    seed: int
    max_iters: int
    folder: Path
    options: dict
    scoring: dict

    @property
    def label(self):
        return f'{self.name}, seed {self.seed}'

    def finished(self):
        """Whether its scores are there; they are written last."""
        return (self.folder / 'evaluation/summary.json').is_file()

    def claim(self):
        """Write down the settings, or check that what is there was made with them.

        Raises:
            SettingError: a run with other settings is there; the message names them.
        """
        scoring = load_config(self.config, self.scoring).to_dict()
        settings = dict(training=load_config(self.config, self.options).to_dict(),
                        scoring={key: scoring[key] for key in NO_VALIDATION})
        settings = json.loads(json.dumps(settings, default=str))
        path = self.folder / SETTINGS_FILE
        if path.is_file():
            changes = compare_configs(json.loads(path.read_text(encoding='utf-8')), settings)
            if changes:
                raise SettingError(f'{self.folder} holds a run with other settings; take another --work-dir or remove '
                                   f'it. What differs:\n{format_changes(changes)}')
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(path, settings)


def plan_runs(configs, seeds, max_iters, folder, options=None):
    """All runs of a study, every config's first seed before any second one.

    Args:
        configs (list[str]): paths or ``package::file.py``; the first is the one that the others are compared with.
        seeds (list[int]): ``randomness.seed`` of each run.
        max_iters (dict[str, int]): updates by name of the config, of ``config_names``.
        folder (str | Path): gets NAME/seed_N.
        options (dict): settings of all runs by dotted key; they win over what the budget scales.

    Raises:
        SettingError: a seed twice, or options that set what the budget and the seeds set.
    """
    options = dict(options or {})
    taken = {'train_cfg.max_iters', 'randomness.seed'} & options.keys()
    if taken:
        raise SettingError(f'--cfg-options {" ".join(sorted(taken))}: the budget and --seeds set these already; leave '
                           'them out')
    if len(set(seeds)) < len(seeds):
        raise SettingError(f'--seeds {" ".join(map(str, seeds))}: give each seed once')
    runs = []
    for seed in seeds:
        for name, config in config_names(configs).items():
            iterations = max_iters[name]
            training = {**budget_options(load_config(config, options), iterations), **NO_VALIDATION, **{
                key: value for key, value in options.items() if key.partition('.')[0] not in NO_VALIDATION}}
            runs.append(Run(config, name, seed, iterations, Path(folder) / name / f'seed_{seed}',
                            {**training, 'randomness.seed': seed}, options))
    return runs


def config_names(configs):
    """Name -> config, in order; SettingError if two files have one name."""
    names = {Path(config.rpartition('::')[2]).stem: config for config in configs}
    if len(names) < len(configs):
        raise SettingError(f'{" ".join(configs)}: give each config once; no two may have the same file name')
    return names


def budget_options(cfg, max_iters):
    """Settings that make a config's run ``max_iters`` updates long.

    The warm-up of the learning rate and the start of the discriminator keep their share of the run; a run leaves four
    checkpoints or more on its way, so that little is lost when it is interrupted.
    """
    share = max_iters / cfg.train_cfg.max_iters
    options = {'train_cfg.max_iters': max_iters}
    for key in _SCALED:
        *path, last = key.split('.')
        hook = cfg.get(path[0], {}).get(path[1])
        if hook is not None and hook.get(last) is not None:
            options[key] = round(share * hook[last])
    checkpoint = cfg.get('default_hooks', {}).get('checkpoint')
    if checkpoint is not None:
        options['default_hooks.checkpoint.interval'] = min(checkpoint.interval, max(1, max_iters // 4))
    return options
