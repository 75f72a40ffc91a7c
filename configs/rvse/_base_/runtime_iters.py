# As runtime.py, for short runs counted in iterations: one checkpoint, at iteration 600.
_base_ = '../../_base_/default_runtime.py'
default_hooks = dict(
    checkpoint=dict(
        by_epoch=False, interval=600, max_keep_ckpts=1, save_best='matching/rsum', rule='greater'
    ),
    logger=dict(interval=5),
    visualization=dict(type='MatchingVisualizationHook'),
    tokenize=dict(type='TokenizeInLoaderHook'),
)
visualizer = dict(type='RetrievalVisualizer')
log_processor = dict(by_epoch=False, window_size=5)
