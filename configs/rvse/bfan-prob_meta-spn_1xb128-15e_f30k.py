# RVSE++ Table 4, row 4, half: BFAN (prob) with Meta-SPN, Flickr30K
_base_ = './bfan-prob_hn_1xb128-15e_f30k.py'
model = dict(type='MetaWeightedMatcher', loss=dict(_delete_=True, type='MetaSPNLoss', margin=0.2))
