"""Settings of MMEngine that work differently here: one sentence each, shown when a config uses one."""

import fnmatch

# Pattern of a dotted key of a config -> what to use in its place. The first pattern that matches counts.
KEYS = {
    'seed': 'use randomness=dict(seed=...)',
    'deterministic': 'use randomness=dict(deterministic=True)',
    'cudnn_benchmark': 'use env_cfg=dict(cudnn_benchmark=True)',
    'dist_params': 'give --launcher on the command line',
    'optimizer': 'use optim_wrapper.autoencoder.optimizer and optim_wrapper.discriminator.optimizer',
    'optimizer_config': 'use optim_wrapper.autoencoder.clip_grad and optim_wrapper.discriminator.clip_grad',
    'lr': 'use optim_wrapper.autoencoder.optimizer.lr and optim_wrapper.discriminator.optimizer.lr',
    'lr_config': 'use default_hooks.learning_rate, or param_scheduler',
    'auto_scale_lr': 'rates are used as they are given; scale optim_wrapper.autoencoder.optimizer.lr yourself',
    'log_processor': 'default_hooks.logger averages over its own interval; use default_hooks.logger.interval',
    'log_config': 'use default_hooks.logger, and visualizer',
    'checkpoint_config': 'use default_hooks.checkpoint',
    'evaluation': 'use val_evaluator and train_cfg.val_interval',
    'workflow': 'use train_cfg.val_interval',
    'runner': 'use train_cfg',
    'resume_from': 'give --resume CHECKPOINT on the command line; from Python, set cfg.resume after load_config',
    'test_dataloader': 'tools/test.py scores val_dataloader; change that one by --cfg-options',
    'test_cfg': 'tools/test.py needs none; leave it out',
    'test_evaluator': 'tools/test.py scores with val_evaluator; change that one by --cfg-options',
    'tta_*': 'there is no test-time augmentation; leave it out',
    'strategy': 'several GPUs train by DDP: tools/dist_train.sh CONFIG GPUS; leave it out',
    'compile': 'use model.compile',
    'activation_checkpointing': 'use model.autoencoder.checkpoint_activations=True',
    'efficient_conv_bn_eval': 'no network here has batch norm in evaluation; leave it out',
    'sync_bn': "the discriminator's batch norm is synchronised over GPUs without a setting; leave it out",
    'find_unused_parameters': 'use model_wrapper_cfg=dict(find_unused_parameters=True)',
    'accumulation': 'use train_cfg.accumulation',
    'batch_size': 'use train_dataloader.batch_size and val_dataloader.batch_size',
    'epochs': 'training is counted in updates of weights; use train_cfg.max_iters',
    'max_epochs': 'training is counted in updates of weights; use train_cfg.max_iters',
    'total_epochs': 'training is counted in updates of weights; use train_cfg.max_iters',
    'vis_backends': 'use visualizer=dict(vis_backends=[...])',
    'randomness.diff_rank_seed': 'the order of samples needs one seed on all ranks, and noise differs by rank anyway; '
                                 'leave it out',
    'env_cfg.dist_cfg': '--launcher opens the process group before the config is read, nccl on GPUs and gloo '
                        'without; leave it out',
    'model_wrapper_cfg.type': 'the model wraps its own passes in DistributedDataParallel; give only its options, such '
                              'as dict(find_unused_parameters=True)',
    'optim_wrapper*.accumulative_counts': 'use train_cfg.accumulation, micro-batches per update of each network',
    'optim_wrapper*.dtype': "use model.precision: 'fp16', 'bf16' or 'fp32'",
    'optim_wrapper*.loss_scale': "model.precision='fp16' scales by itself; leave it out",
    'optim_wrapper*.clip_grad.type': 'the L2 norm of all gradients is clipped; leave it out',
    'optim_wrapper*.type': "there is one wrapper, which knows turns; for AmpOptimWrapper use model.precision='bf16' or "
                           "'fp16'; leave type out",
    'optim_wrapper.optimizer': 'each network has its own; use optim_wrapper.autoencoder.optimizer and '
                               'optim_wrapper.discriminator.optimizer',
    'optim_wrapper.clip_grad': 'each network has its own; use optim_wrapper.autoencoder.clip_grad and '
                               'optim_wrapper.discriminator.clip_grad',
    'optim_wrapper*.clip_grad.norm_type': 'the norm is L2; leave it out',
    'optim_wrapper*.clip_grad.clip_value': 'the L2 norm of all gradients is clipped; use max_norm',
    'optim_wrapper*.clip_grad.error_if_nonfinite': 'leave it out; an update that is not finite is skipped, see '
                                                   'train_cfg.max_skipped',
    '*_dataloader.sampler': 'the order of samples is a function of randomness.seed; use shuffle=False for that of the '
                            'files',
    '*_dataloader.batch_sampler': 'batches are cut from the order of samples; use batch_size',
    '*_dataloader.collate_fn': 'batches hold uint8 pictures; leave it out',
    '*_dataloader.drop_last': 'training draws without end, evaluation takes every picture; leave it out',
    '*_dataloader.num_batch_per_epoch': 'training is counted in updates of weights; use train_cfg.max_iters',
}

# Settings of parts, by the part's name.
SETTINGS = {
    'UpdateLoop': {
        'by_epoch': 'leave it out; the loop counts iterations, updates of weights',
        'max_epochs': 'set max_iters, updates of weights',
        'val_begin': 'validation starts at the first multiple of val_interval',
        'dynamic_intervals': 'val_interval is one number',
    },
    'CheckpointHook': {
        'by_epoch': 'leave it out; interval counts iterations',
        'rule': 'leave it out; the metric says itself which way is better (best_is_higher checks it)',
        'greater_keys': 'leave it out; the metric says itself which way is better',
        'less_keys': 'leave it out; the metric says itself which way is better',
        'save_last': 'leave it out; the end of a run is always saved',
        'save_optimizer': 'leave it out; every checkpoint can be resumed. tools/convert.py writes the weights alone',
        'save_param_scheduler': 'leave it out; rates are computed from the iteration',
        'out_dir': 'leave it out; checkpoints are in the work dir, see --work-dir',
        'published_keys': 'leave it out; tools/convert.py writes the weights alone',
        'filename_tmpl': 'leave it out; files are called iter_N.pth',
        'save_begin': 'leave it out; the first checkpoint is that of iteration `interval`',
    },
    'EMAHook': {
        'ema_type': 'leave it out; average = decay * average + (1 - decay) * weights',
        'momentum': 'set decay, which is 1 - momentum',
        'update_buffers': "leave it out; buffers are averaged too",
        'begin_iter': 'leave it out; in the first iterations the decay is lower, so that the start is forgotten',
        'begin_epoch': 'leave it out; in the first iterations the decay is lower, so that the start is forgotten',
        'evaluate_on_ema': 'leave it out; both are scored, the raw weights under raw/',
        'evaluate_on_origin': 'leave it out; both are scored, the raw weights under raw/',
        'strict_load': 'leave it out; loading is strict',
    },
    'EarlyStoppingHook': {
        'strict': 'leave it out; a column that is not measured is always an error',
    },
    'LoggerHook': {
        'by_epoch': 'leave it out; interval counts iterations',
        'log_metric_by_epoch': 'leave it out; every row has its iteration',
        'ignore_last': 'leave it out; the last row may cover fewer iterations',
        'interval_exp_name': 'leave it out; the name is in the name of the log file',
        'out_dir': 'leave it out; everything is written to --work-dir',
    },
}

# MMEngine's own parts that a run cannot have, by the class's name.
PARTS = {
    'IterBasedTrainLoop': "leave type out: UpdateLoop's iteration is one update of weights",
    'EpochBasedTrainLoop': "leave type out: UpdateLoop counts updates of weights, train_cfg.max_iters",
    'ValLoop': 'leave type out: EvaluationLoop scores averaged and raw weights',
    'TestLoop': 'tools/test.py CONFIG MODEL scores a checkpoint',
    'Evaluator': "use ReconstructionEvaluator, of which a BaseMetric may be a row: metrics=dict(NAME=dict(type='...'))",
    'ConcatDataset': 'use MixedDataset, whose sources have weights',
    'ClassBalancedDataset': 'use MixedDataset, whose sources have weights',
    'RepeatDataset': 'training draws without end; use the dataset itself',
    'ImgDataPreprocessor': 'leave it out; pictures are uint8 and become [-1, 1] on the device, without mean and std',
    'BaseDataPreprocessor': 'leave it out; pictures are uint8 and become [-1, 1] on the device',
    'CheckpointHook': "dict(type='CheckpointHook', ...) without the scope is this toolkit's, whose files are resumed "
                      'exactly',
    'EMAHook': "dict(type='EMAHook', decay=0.999) without the scope is this toolkit's, which averages the autoencoder "
               'alone and swaps nothing',
    'LoggerHook': "dict(type='LoggerHook', interval=50) without the scope is this toolkit's, which writes log.jsonl, "
                  'train.csv and val.csv',
    'EarlyStoppingHook': "dict(type='EarlyStoppingHook', monitor='PSNR') without the scope is this toolkit's, which "
                         'goes on counting in a resumed run',
    'ParamSchedulerHook': 'set param_scheduler; its hook comes with it',
    'DistSamplerSeedHook': 'leave it out; the order of samples is a function of randomness.seed and their number',
    'SyncBuffersHook': 'leave it out; buffers are the same on all ranks, and a mean over ranks would round them',
    'NaiveVisualizationHook': "dict(type='PicturesHook', count=4) writes the pictures of a validation",
    'PrepareTTAHook': 'there is no test-time augmentation',
    'NPUProfilerHook': "ProfilerHook profiles CPU and GPU",
}


def of_key(path, part=''):
    """The sentence for a dotted key of MMEngine, or for a setting of the part called ``part``; else None."""
    said = SETTINGS.get(part, {}).get(path.rpartition('.')[2])
    return said or next((text for pattern, text in KEYS.items() if fnmatch.fnmatchcase(path, pattern)), None)


def of_part(part):
    """The sentence for a part of MMEngine that a run cannot have; None for any other."""
    own = getattr(part, '__module__', '').startswith('mmengine.')
    return PARTS.get(part.__name__) if own else None
