# Keep the checkpoint with the highest RSUM as the best one.
_base_ = '../../_base_/default_runtime.py'
default_hooks = dict(
    checkpoint=dict(save_best='matching/rsum', rule='greater'),
    visualization=dict(type='MatchingVisualizationHook'),
    tokenize=dict(type='TokenizeInLoaderHook'),
)
visualizer = dict(type='RetrievalVisualizer')
