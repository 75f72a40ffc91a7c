# RVSE++ half of Table 6, row 8, Table 8, row 3 (COCO 1K), Table 9, row 3, and Table 11, row 5
# (COCO 5K): SGR of SGRAF
_base_ = [
    './_base_/sgr.py',
    '../_base_/datasets/coco_precomp.py',
    '../_base_/schedules/rvse_adam_20e.py',
    './_base_/runtime.py',
]
model = dict(text_encoder=dict(vocab_size=11353))
optim_wrapper = dict(optimizer=dict(lr=2e-4))
