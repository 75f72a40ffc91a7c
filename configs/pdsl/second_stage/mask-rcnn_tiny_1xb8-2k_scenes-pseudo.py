# The second stage on synthetic scenes: a small Mask R-CNN trains on what PDSL found in its training
# images. Not in the paper.
_base_ = [
    '../_base_/mask-rcnn_tiny.py',
    '../../_base_/datasets/scenes_pseudo_128.py',
    '../../_base_/schedules/pdsl_muon_600i.py',
    '../../_base_/default_runtime.py',
]
train_cfg = dict(max_iters=2000, val_interval=1000)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=100, by_epoch=False),
    dict(type='CosineAnnealingLR', by_epoch=False),
]
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=1000, save_best='coco/segm_mAP_50', rule='greater'),
    visualization=dict(type='PredictionVisualizationHook'),
)
visualizer = dict(type='InstanceVisualizer')
log_processor = dict(by_epoch=False)
