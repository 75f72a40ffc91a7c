# Keep two best checkpoints, as the released code does: by the accuracy of boxes (REC) and by the
# mean IoU of masks (RES) on the validation data. A config for one task names its own metric.
_base_ = '../../_base_/default_runtime.py'
default_hooks = dict(
    checkpoint=dict(save_best=['grounding/rec_acc50', 'grounding/res_miou'], rule='greater'),
    visualization=dict(type='PredictionVisualizationHook', interval=10),
)
visualizer = dict(type='GroundingVisualizer')
