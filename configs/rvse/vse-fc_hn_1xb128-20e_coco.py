# RVSE++ Table 3, row 2 (COCO 5K), and Table 10, row 2 (COCO 1K): VSE (FC) with HN
_base_ = [
    './_base_/vse_fc.py',
    '../_base_/datasets/coco_precomp.py',
    '../_base_/schedules/rvse_adamw_20e.py',
    './_base_/runtime.py',
]
model = dict(
    text_encoder=dict(vocab_size=11354),
    loss=dict(_delete_=True, type='HardNegativeLoss', margin=0.2),
)
