# How every run behaves: logging, checkpoints, progress, repeatability. The classes come from
# projects.common, which every project imports (its config names itself in custom_imports).
default_scope = 'mmdet'
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='MainProcessLoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # A task's config adds save_best='<its metric>' and rule.
    checkpoint=dict(type='AtomicCheckpointHook', interval=1, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    # mode='skip' leaves batches with a NaN out and counts them. It comes before mean_loss, which
    # mixes the losses of the processes.
    nonfinite_loss=dict(type='NonFiniteLossHook', mode='stop'),
    mean_loss=dict(type='MeanLossHook'),
    progress=dict(type='ProgressBarHook'),
    # Not in custom_hooks, which leaf configs replace.
    reproducibility=dict(type='ReproducibilityHook'),
)
env_cfg = dict(
    cudnn_benchmark=False,
    # float32 products in TF32 on a GPU, as PyTorch did when the papers were written
    tf32=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),  # the tools take gloo where there is no GPU
)
# tools/train.py --tensorboard adds TensorboardVisBackend.
visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer')
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)
log_level = 'INFO'
load_from = None
resume = False
# seed=None draws one and logs it; deterministic=True also forbids CUDA kernels that are not.
randomness = dict(seed=None, deterministic=False)
