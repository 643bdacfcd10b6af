"""The schema: every key of every shipped config counts; misspelt, moved or of a wrong type it is refused."""

import collections
from pathlib import Path

import pytest

from tests.config_mistakes import mistakes
from wfvae_toolkit.schema import SECTIONS, check_config, effective_settings
from wfvae_toolkit.utils import conventions
from wfvae_toolkit.utils.config import load_config
from wfvae_toolkit.utils.errors import UserError

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
SHIPPED = sorted(path for path in CONFIGS.rglob('*.py') if path.parent.name != '_base_')
# In the quick tests: what the others inherit from.
BASES = [path for path in SHIPPED if path.parent.name not in ('ablations', 'recipe')]
DEMO = 'wfvae_toolkit::wfvae2_demo.py'
# What a run checks itself, since anything may be given: tests/tools/test_wrong_settings.py.
KINDS = 'train_dataloader.dataset.sources.text.dataset.kinds'
BY_THE_RUN = {('wrong type', 'default_hooks.checkpoint.save_best'),
              # SOAP takes any name: tests/training/test_optimizers.py.
              *(('misspelt', f'optim_wrapper.autoencoder.optimizer.{name}')
                for name in ('lr', 'betas', 'weight_decay', 'precondition_frequency')),
              # They default to None, or have no default.
              *(('wrong type', f'model.{name}') for name in (
                  'autoencoder.decoder_widths', 'autoencoder.decoder_flow_width', 'losses.distillation.teacher')),
              ('wrong type', KINDS), ('wrong type', f'{KINDS}.text'), ('misspelt', f'{KINDS}.text')}


def message_of(cfg):
    """What the check says of a config; None if it passes."""
    try:
        check_config(cfg)
    except UserError as error:
        return str(error)


def unnoticed(files, once):
    """(counts by kind, mistakes that the check lets pass) of configs; ``once``: each mistake in one config only."""
    counts, passed, seen = collections.Counter(), set(), set()
    for file in files:
        for kind, path, value, make in mistakes(load_config(file).to_dict()):
            if once and (kind, path, repr(value)) in seen:
                continue
            seen.add((kind, path, repr(value)))
            counts[kind] += 1
            said = message_of(make())
            if said is None:
                passed.add((kind, path))
            elif not any(name in said for name in path.split('.') if not name.isdigit()):
                passed.add((kind, path, said))
    return counts, passed


def test_every_mistake_in_a_shipped_config_is_refused():
    counts, passed = unnoticed(BASES, once=True)
    assert min(counts.values()) > 100
    assert passed <= BY_THE_RUN


@pytest.mark.slow
def test_every_mistake_in_every_shipped_config_is_refused():
    counts, passed = unnoticed(SHIPPED, once=False)
    print(f'{sum(counts.values())} mistakes in {len(SHIPPED)} configs: {dict(counts)}')
    assert sum(counts.values()) > 20_000
    assert passed <= BY_THE_RUN


@pytest.fixture(scope='module')
def demo():
    return load_config(DEMO).to_dict()


@pytest.mark.parametrize(('change', 'words'), [
    (dict(seed=3), 'seed: nothing reads it here; use randomness=dict(seed=...)'),
    (dict(optimizer=dict(type='SGD', lr=0.1)), 'use optim_wrapper.autoencoder.optimizer'),
    (dict(default_hook={}), 'the config has no default_hook; did you mean default_hooks?'),
    (dict(resumee=True), 'did you mean resume?'),
    (dict(max_iters=3), 'the config has no max_iters; did you mean train_cfg.max_iters?'),
    (dict(auto_scale_lr=dict(enable=True)), 'auto_scale_lr: '),
    (dict(log_processor=dict(window_size=20)), 'default_hooks.logger.interval'),
    (dict(test_dataloader=dict(batch_size=1)), 'tools/test.py scores val_dataloader'),
    (dict(env_cfg=dict(dist_cfg=dict(backend='nccl'))), 'env_cfg.dist_cfg: nothing reads it here; --launcher opens'),
    (dict(env_cfg=dict(mp_cfg=dict(mp_start_methd='fork'))), 'did you mean env_cfg.mp_cfg.mp_start_method?'),
    (dict(visualizer=dict(type='Visualizer', vis_backends=[dict(type='TensorboardVisBackend', savedir='x')])),
     'did you mean visualizer.vis_backends.0.save_dir?'),
    (dict(custom_hooks=[dict(type='EarlyStoppingHook', monitor='PSNR', patiense=3)]),
     'did you mean custom_hooks.0.patience?'),
    (dict(custom_hooks=[dict(type='EarlyStoppingHook', monitor='PSNR', patience='3')]),
     "'3': a whole number is needed"),
    (dict(custom_hooks=[dict(type='EarlyStoppingHook')]), 'custom_hooks.0: monitor is missing'),
    (dict(randomness=dict(seed=0, diff_rank_seed=True)), 'one seed on all ranks'),
    (dict(model_wrapper_cfg=dict(bucket_cap=1)), 'did you mean model_wrapper_cfg.bucket_cap_mb?'),
])
def test_a_key_that_nothing_reads_is_refused_with_what_to_use(demo, change, words):
    assert words in message_of({**demo, **change})


@pytest.mark.parametrize(('key', 'value', 'words'), [
    ('optim_wrapper.autoencoder.accumulative_counts', 4, 'use train_cfg.accumulation'),
    ('optim_wrapper.autoencoder.type', 'AmpOptimWrapper', "use model.precision='bf16'"),
    ('optim_wrapper.type', 'AmpOptimWrapper', "use model.precision='bf16'"),
    ('optim_wrapper.autoencoder.optimizer.lr', '1e-4', "'1e-4': a number is needed, such as 0.001"),
    ('optim_wrapper.autoencoder.lr', 1e-4, 'did you mean optim_wrapper.autoencoder.optimizer.lr?'),
    ('train_cfg.by_epoch', False, 'the loop counts iterations, updates of weights'),
    ('default_hooks.checkpoint.interval', '1k', 'a whole number is needed, such as 1000'),
    ('model.autoencoder.mid_blocks.0.channels', 8, 'model.autoencoder.mid_blocks.0 has no channels'),
    ('model.losses.weight', 1e-6, "model.losses.weight: 1e-06: use dict(type='Name', ...)"),
    ('train_cfg.type', 'IterBasedTrainLoop', "UpdateLoop's iteration is one update of weights"),
])
def test_so_is_one_at_any_depth(key, value, words):
    with pytest.raises(UserError) as caught:
        load_config(DEMO, {key: value})
    assert str(caught.value).startswith(f'--cfg-options {key}: ')
    assert words in str(caught.value)


def test_a_row_that_is_misspelt_is_no_new_row(demo):
    hooks = {**demo['default_hooks'], 'chekpoint': dict(interval=3)}
    assert message_of({**demo, 'default_hooks': hooks}) == (
        'default_hooks has no chekpoint; did you mean default_hooks.checkpoint?')


def test_a_plug_in_passes_settings_to_its_parent(demo):
    from wfvae_toolkit.losses import L1Loss
    from wfvae_toolkit.registry import LOSSES

    @LOSSES.register_module()
    class LossWithKeywords(L1Loss):
        def __init__(self, eps=1e-3, **kwargs):
            super().__init__(**kwargs)

    @LOSSES.register_module()
    class LossOfAnyKeywords(L1Loss):
        def __init__(self, **anything):
            super().__init__()

    def rows(**settings):
        return {**demo, 'model': {**demo['model'], 'losses': dict(pixel=settings)}}

    try:
        check_config(rows(type='LossWithKeywords', eps=1.0, weight=2.0))
        assert 'did you mean model.losses.pixel.weight?' in message_of(rows(type='LossWithKeywords', wieght=2.0))
        check_config(rows(type='LossOfAnyKeywords', whatever=2.0))
    finally:
        for name in ('LossWithKeywords', 'LossOfAnyKeywords'):
            LOSSES.module_dict.pop(name)


def test_sentences_for_foreign_keys_are_about_keys_that_are_refused():
    for pattern in conventions.KEYS:
        assert pattern.partition('.')[0] not in SECTIONS or '.' in pattern or SECTIONS[pattern].misfit({}), pattern


# what runs

def test_effective_settings_hold_the_defaults_of_all_parts(demo):
    settings = effective_settings(demo)
    assert settings['optim_wrapper.autoencoder.optimizer.lr'] == 1.5e-3
    assert settings['optim_wrapper.autoencoder.optimizer.eps'] == 1e-8
    assert settings['model.losses.kl.weight'] == 1e-6
    assert settings['model.losses.adversarial.balance'] == ['pixel', 'perceptual']
    assert settings['model.autoencoder.mid_blocks.1.type'] == 'SpatialAttention'
    assert settings['model.autoencoder.mid_blocks.0.dropout'] == 0.0
    assert settings['default_hooks.flat_fields'] is None
    assert not any(key.endswith(('.channels', '.runner', '.params')) for key in settings)


def test_a_default_that_is_written_out_changes_nothing(demo):
    kl = {**demo['model']['losses']['kl'], 'weight': 1e-6}
    written = {**demo, 'model': {**demo['model'], 'normalize': False, 'losses': {**demo['model']['losses'], 'kl': kl}}}
    assert effective_settings(written) == effective_settings(demo)
