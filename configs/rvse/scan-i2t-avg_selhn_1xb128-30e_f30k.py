# RVSE++ Table 7, row 2, and half of Table 2, row 2, and Table 7, row 6: SCAN i2t AVG with SelHN,
# Flickr30K
_base_ = './scan-i2t-avg_hn_1xb128-30e_f30k.py'
model = dict(loss=dict(_delete_=True, type='SelHNLoss', margin=0.2, eps=0.01))
