# RVSE++ Table 5, row 9: VSE-infinity (BERT), Flickr30K
_base_ = [
    './_base_/vse_inf_bert.py',
    '../_base_/datasets/f30k_precomp.py',
    '../_base_/schedules/rvse_adamw_bert_30e.py',
    './_base_/runtime.py',
]
train_cfg = dict(max_epochs=25)
