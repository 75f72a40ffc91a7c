# Two best checkpoints are kept, as released: by the accuracy of boxes (REC) and by the mean IoU of
# masks (RES) on the validation data. A config for one task names its own.
_base_ = '../../_base_/default_runtime.py'
default_hooks = dict(
    checkpoint=dict(save_best=['grounding/rec_acc50', 'grounding/res_miou'], rule='greater')
)
