# RVSE++ Table 6, row 12 (COCO 1K), and Table 11, row 9 (COCO 5K): RVSE++ (BERT)
_base_ = [
    './_base_/rvsepp.py',
    '../_base_/datasets/coco_precomp.py',
    '../_base_/schedules/rvse_adamw_bert_30e.py',
    './_base_/runtime.py',
]
