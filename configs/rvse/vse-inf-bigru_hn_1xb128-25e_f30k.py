# VSE-infinity with a BiGRU, as its authors published it, Flickr30K. Not in the paper's tables.
_base_ = [
    './_base_/vse_inf_bigru.py',
    '../_base_/datasets/f30k_precomp.py',
    '../_base_/schedules/rvse_adamw_20e.py',
    './_base_/runtime.py',
]
train_cfg = dict(max_epochs=25)
