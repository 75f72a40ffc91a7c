# RVSE++ Table 6, row 1, and Table 11, row 1, the other half: SCAN i2t LSE, COCO
_base_ = [
    './_base_/scan.py',
    '../_base_/datasets/coco_precomp.py',
    '../_base_/schedules/rvse_adam_20e.py',
    './_base_/runtime.py',
]
model = dict(
    text_encoder=dict(vocab_size=11353),
    similarity=dict(direction='i2t', aggregation='LSE', lambda_lse=20.0),
)
