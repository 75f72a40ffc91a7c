# Train RVSE++ (BERT) with SelHN on your own images, without precomputed regions. Not in the paper.
_base_ = [
    './_base_/rvsepp_r50.py',
    '../_base_/datasets/own_pictures.py',
    '../_base_/schedules/rvse_adamw_bert_r50_30e.py',
    './_base_/runtime.py',
]
