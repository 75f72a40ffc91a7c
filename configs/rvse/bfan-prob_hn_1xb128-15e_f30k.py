# RVSE++ Table 7, row 9, and half of Table 2, row 3, Table 4, row 1, Table 5, row 3, and Table 7,
# row 11: BFAN (prob), Flickr30K
_base_ = './scan-t2i-avg_hn_1xb128-30e_f30k.py'
model = dict(similarity=dict(_delete_=True, type='BFANSimilarity', focus='prob'))
train_cfg = dict(max_epochs=15)
# The released decay, by 10 at epoch 15, lies behind the last epoch.
param_scheduler = [dict(type='ConstantLR', factor=1.0, by_epoch=True)]
