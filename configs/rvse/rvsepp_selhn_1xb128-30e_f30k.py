# RVSE++ Table 5, row 12, and Figure 8: RVSE++ (BERT), Flickr30K
_base_ = [
    './_base_/rvsepp.py',
    '../_base_/datasets/f30k_precomp.py',
    '../_base_/schedules/rvse_adamw_bert_30e.py',
    './_base_/runtime.py',
]
