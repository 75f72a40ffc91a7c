# RVSE++ Table 7, row 10, and half of Table 2, row 4, Table 4, row 5, and Table 7, row 12: BFAN
# (prob) with SelHN, Flickr30K
_base_ = './bfan-prob_hn_1xb128-15e_f30k.py'
model = dict(loss=dict(_delete_=True, type='SelHNLoss', margin=0.2, eps=0.01))
