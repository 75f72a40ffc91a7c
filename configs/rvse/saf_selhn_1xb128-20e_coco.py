# RVSE++ Table 8, row 4 (COCO 1K), and Table 9, row 4 (COCO 5K), half: SAF of SGRAF with SelHN
_base_ = [
    './_base_/saf.py',
    '../_base_/datasets/coco_precomp.py',
    '../_base_/schedules/rvse_adam_20e.py',
    './_base_/runtime.py',
]
model = dict(
    text_encoder=dict(vocab_size=11353),
    loss=dict(_delete_=True, type='SelHNLoss', margin=0.2, eps=0.01),
)
optim_wrapper = dict(optimizer=dict(lr=2e-4))
