# RVSE++ Table 8, row 2 (COCO 1K), and Table 9, row 2 (COCO 5K), half: BFAN (prob) with SelHN
_base_ = [
    './_base_/bfan.py',
    '../_base_/datasets/coco_precomp.py',
    '../_base_/schedules/rvse_adam_20e.py',
    './_base_/runtime.py',
]
model = dict(
    text_encoder=dict(vocab_size=11353),
    similarity=dict(focus='prob'),
    loss=dict(_delete_=True, type='SelHNLoss', margin=0.2, eps=0.01),
)
param_scheduler = [dict(type='MultiStepLR', milestones=[15], gamma=0.1, by_epoch=True)]
