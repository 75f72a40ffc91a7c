# BFAN (prob) with AOQ that goes on from the model of hard negatives, Flickr30K. Not in the paper.
import os

_base_ = './bfan-equal_aoq-from-hn_1xb128-15e_f30k.py'
load_from = os.environ.get('RVSE_AOQ_BASE', 'work_dirs/bfan-prob_hn_1xb128-15e_f30k/epoch_15.pth')
model = dict(similarity=dict(focus='prob'))
