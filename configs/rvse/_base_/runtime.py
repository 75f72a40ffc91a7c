# The best checkpoint is that of the highest RSUM.
_base_ = '../../_base_/default_runtime.py'
default_hooks = dict(
    checkpoint=dict(save_best='matching/rsum', rule='greater'),
    visualization=dict(type='MatchingVisualizationHook'),  # tools/test.py --show-dir
)
