# PLVL Tables 1 and 2, pre-trained setting, step 2 with all values of the released code
# PLVL_PRETRAINED: the checkpoint of step 1, if it is elsewhere.
import os

_base_ = [
    './_base_/plvl_vit-b_released.py',
    '../_base_/datasets/mixed_coco_448.py',
    '../_base_/schedules/plvl_150e_released.py',
    './_base_/runtime.py',
]
model = dict(head=dict(det_weight=0.05))
train_dataloader = dict(
    drop_last=True,  # of an epoch, the batch that is not full
    dataset=dict(pipeline=_base_.released_train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=_base_.released_test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(protocol='released')
test_evaluator = val_evaluator
auto_scale_lr = dict(base_batch_size=160)
load_from = os.environ.get(
    'PLVL_PRETRAINED', 'work_dirs/plvl_vit-b-released_8xb20-20e_mixed-rec/epoch_20.pth'
)
