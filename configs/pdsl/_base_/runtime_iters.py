# Runs counted in iterations.
_base_ = ['../../_base_/default_runtime.py']
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=10000, save_best='coco/segm_mAP_50', rule='greater'),
    visualization=dict(type='PredictionVisualizationHook'),
)
visualizer = dict(type='InstanceVisualizer')
log_processor = dict(by_epoch=False)
