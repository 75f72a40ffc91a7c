# RVSE++ Table 6, row 9 (COCO 1K), and Table 11, row 6 (COCO 5K): VSE-infinity (BERT)
_base_ = [
    './_base_/vse_inf_bert.py',
    '../_base_/datasets/coco_precomp.py',
    '../_base_/schedules/rvse_adamw_bert_30e.py',
    './_base_/runtime.py',
]
train_cfg = dict(max_epochs=25)
