# Continue from BFAN (prob) trained with hard negatives, with AOQ, Flickr30K. Not in the paper.
# RVSE_AOQ_BASE: its checkpoint, if it is elsewhere.
import os

_base_ = [
    './_base_/bfan_aoq_from_hn.py',
    '../_base_/datasets/f30k_precomp_offline.py',
    '../_base_/schedules/rvse_adam_15e.py',
    './_base_/runtime.py',
]
load_from = os.environ.get('RVSE_AOQ_BASE', 'work_dirs/bfan-prob_hn_1xb128-15e_f30k/epoch_15.pth')
model = dict(similarity=dict(focus='prob'))
train_dataloader = dict(dataset=dict(together=False, owners=False))
