"""Settings of every run: loop, optimizers, hooks, logs."""

default_scope = 'wfvae_toolkit'
work_dir = None  # None: work_dirs/<config's name>
load_from = None  # a MODEL, or dict(path=, weights='ema', allow_missing=['discriminator.*'])
randomness = dict(seed=0)
env_cfg = dict(cudnn_benchmark=True, mp_cfg=dict(mp_start_method=None, opencv_num_threads=0))
model_wrapper_cfg = None  # options of DDP
log_level = 'INFO'

# An iteration is one update of weights; with alternate turns both networks' updates count.
train_cfg = dict(type='UpdateLoop', max_iters=1_000_000, val_interval=5000, accumulation=1, max_bad_files=100,
                 max_skipped=20)
val_cfg = dict(type='EvaluationLoop')

optim_wrapper = dict(
    constructor='TurnOptimizers',
    # Losses are sums over an image, so gradients are large: the clip only catches explosions.
    autoencoder=dict(
        optimizer=dict(type='AdamW', lr=1e-5, betas=(0.9, 0.999), weight_decay=1e-4, fused=True),
        clip_grad=dict(max_norm=1e5)),
    discriminator=dict(
        optimizer=dict(type='AdamW', lr=4e-5, betas=(0.9, 0.999), weight_decay=1e-4, fused=True),
        clip_grad=dict(max_norm=1e5)))

default_hooks = dict(
    header=dict(type='RunHeaderHook'),
    memory=dict(type='MemoryForecastHook'),
    learning_rate=dict(type='LearningRateHook', warmup_iters=1000, decay='constant'),
    discriminator=dict(type='DiscriminatorWarmupHook', start_iter=0),
    ema=dict(type='EMAHook', decay=0.999),
    pictures=dict(type='PicturesHook', count=4),
    flat_fields=dict(type='FlatFieldHook', interval=1),
    logger=dict(type='LoggerHook', interval=50),
    curves=dict(type='LossCurvesHook'),
    checkpoint=dict(type='CheckpointHook', interval=5000, max_keep_ckpts=3, save_best='PSNR'))
custom_hooks = []

visualizer = dict(type='Visualizer', vis_backends=[dict(type='TensorboardVisBackend')])

val_evaluator = dict(
    type='ReconstructionEvaluator',
    quantize=True,
    metrics=dict(
        PSNR=dict(type='PSNR'),
        SSIM=dict(type='SSIM'),
        STLPIPS=dict(type='STLPIPS', net='alex', optional=True),
        # Published figures use AlexNet. Its trunk needs a download or a file; without both the metric is left out.
        LPIPS=dict(type='LPIPS', net='alex', optional=True)))
