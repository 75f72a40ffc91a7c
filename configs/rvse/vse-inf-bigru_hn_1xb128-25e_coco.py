# VSE-infinity with a BiGRU, as its authors published it, COCO. Not in the paper's tables.
_base_ = [
    './_base_/vse_inf_bigru.py',
    '../_base_/datasets/coco_precomp.py',
    '../_base_/schedules/rvse_adamw_20e.py',
    './_base_/runtime.py',
]
model = dict(text_encoder=dict(vocab_size=11354))
train_cfg = dict(max_epochs=25)
