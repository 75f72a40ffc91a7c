# Image classification in mmpretrain's scope: keep the checkpoint of the best top-1 accuracy.
_base_ = '../../_base_/default_runtime.py'
default_scope = 'mmpretrain'
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1', rule='greater'))
