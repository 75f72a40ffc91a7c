# RVSE++ Table 7, row 1: SCAN i2t AVG, Flickr30K
_base_ = './scan-t2i-avg_hn_1xb128-30e_f30k.py'
model = dict(similarity=dict(direction='i2t'))
