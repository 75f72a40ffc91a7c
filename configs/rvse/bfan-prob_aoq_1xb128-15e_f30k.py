# RVSE++ Table 4, row 3, half: BFAN (prob) with AOQ as released, Flickr30K
_base_ = './bfan-equal_aoq_1xb128-15e_f30k.py'
model = dict(similarity=dict(focus='prob'))
