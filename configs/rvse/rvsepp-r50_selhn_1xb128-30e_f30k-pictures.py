# RVSE++ (BERT) with SelHN on Flickr30K's pictures, without precomputed regions. Not in the paper.
_base_ = [
    './_base_/rvsepp_r50.py',
    './_base_/f30k_pictures.py',
    './_base_/adamw_bert_r50_30e.py',
    './_base_/runtime.py',
]
