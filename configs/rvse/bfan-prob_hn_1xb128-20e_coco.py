# RVSE++ half of Table 6, row 3, Table 8, row 1 (COCO 1K), Table 9, row 1, and Table 11, row 2
# (COCO 5K): BFAN (prob)
_base_ = [
    './_base_/bfan.py',
    '../_base_/datasets/coco_precomp.py',
    '../_base_/schedules/rvse_adam_20e.py',
    './_base_/runtime.py',
]
model = dict(text_encoder=dict(vocab_size=11353), similarity=dict(focus='prob'))
param_scheduler = [dict(type='MultiStepLR', milestones=[15], gamma=0.1, by_epoch=True)]
