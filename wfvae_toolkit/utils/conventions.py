"""What MMEngine's users write that works otherwise here: one sentence each, said where it is refused."""

# Top-level keys of a config.
SECTIONS = {
    'auto_scale_lr': 'set the rates themselves: optim_wrapper.autoencoder.optimizer.lr and that of the discriminator',
    'log_processor': 'default_hooks.logger.interval is the number of iterations that a logged mean covers',
    'data_preprocessor': 'images are uint8 and become [-1, 1] on the device; no mean and std are set',
    'test_dataloader': 'tools/test.py CONFIG MODEL scores val_dataloader; name other images by --cfg-options '
                       'val_dataloader.dataset.data_root=FOLDER',
    'test_cfg': 'tools/test.py CONFIG MODEL scores a checkpoint by val_cfg',
    'test_evaluator': 'tools/test.py CONFIG MODEL scores a checkpoint by val_evaluator',
    'compile': 'set model.compile, options of torch.compile for encoder and decoder, {} for its defaults',
    'activation_checkpointing': 'set model.autoencoder.checkpoint_activations=True',
    'efficient_conv_bn_eval': 'no network here has batch norm in evaluation',
    'sync_bn': "the discriminator's batch norm is synchronised over GPUs without a setting",
    'find_unused_parameters': 'set model_wrapper_cfg=dict(find_unused_parameters=True)',
    'seed': 'set randomness=dict(seed=0)',
    'optimizer': "set optim_wrapper.autoencoder.optimizer and optim_wrapper.discriminator.optimizer",
    'optimizer_config': 'set optim_wrapper.autoencoder.clip_grad and optim_wrapper.discriminator.clip_grad',
    'lr_config': 'set default_hooks.learning_rate, or param_scheduler',
    'resume': 'say --resume on the command line; from Python, cfg.resume = True, or a path, after load_config',
    'resume_from': 'say --resume CHECKPOINT on the command line; from Python, cfg.resume = PATH after load_config',
    'launcher': 'say --launcher on the command line',
    'evaluation': 'set val_evaluator and train_cfg.val_interval',
    'checkpoint_config': 'set default_hooks.checkpoint',
    'log_config': 'set default_hooks.logger and visualizer',
    'workflow': 'set train_cfg.val_interval',
    'total_epochs': 'set train_cfg.max_iters, updates of weights',
    'max_epochs': 'set train_cfg.max_iters, updates of weights',
    'strategy': 'several GPUs train by DDP: tools/dist_train.sh CONFIG GPUS',
    'tta_model': 'there is no test-time augmentation',
    'tta_pipeline': 'there is no test-time augmentation',
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

# MMEngine's hooks that a run cannot have, by the class's name.
HOOKS = {
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

# Keys of optim_wrapper.autoencoder and optim_wrapper.discriminator.
OPTIMIZER_ROW = {
    'accumulative_counts': 'set train_cfg.accumulation, micro-batches an update of either network',
    'dtype': "set model.precision: 'fp16', 'bf16' or 'fp32'",
    'loss_scale': "model.precision='fp16' scales by itself",
    'use_fsdp': 'several GPUs train by DDP: tools/dist_train.sh CONFIG GPUS',
}
OPTIMIZER_WRAPPERS = {
    'AmpOptimWrapper': "set model.precision='fp16' or 'bf16', and leave type out",
    'ApexOptimWrapper': "set model.precision='fp16' or 'bf16', and leave type out",
}
