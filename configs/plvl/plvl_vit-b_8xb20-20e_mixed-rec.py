# PLVL Tables 1 and 2, pre-trained setting, step 1: REC alone on the mixed corpus, lambda_det 0.5
_base_ = [
    './_base_/plvl_vit-b.py',
    '../_base_/datasets/mixed_pretrain_448.py',
    '../_base_/schedules/plvl_150e.py',
    './_base_/runtime.py',
]
model = dict(head=dict(groups=(('center',), ('offset', 'size')), det_weight=0.5))
train_cfg = dict(max_epochs=20)
auto_scale_lr = dict(base_batch_size=160)
default_hooks = dict(checkpoint=dict(save_best='grounding/rec_acc50'))
