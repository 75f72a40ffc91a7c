# PLVL Tables 1 and 2, pre-trained setting, step 1 with all values of the released code
_base_ = [
    './_base_/plvl_vit-b_released.py',
    '../_base_/datasets/mixed_pretrain_448.py',
    '../_base_/schedules/plvl_150e_released.py',
    './_base_/runtime.py',
]
model = dict(head=dict(groups=(('center',), ('offset', 'size')), det_weight=0.5))
train_cfg = dict(max_epochs=20)
train_dataloader = dict(
    drop_last=True,  # of an epoch, the batch that is not full
    dataset=dict(pipeline=_base_.released_train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=_base_.released_test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(protocol='released')
test_evaluator = val_evaluator
auto_scale_lr = dict(base_batch_size=160)
default_hooks = dict(checkpoint=dict(save_best='grounding/rec_acc50'))
