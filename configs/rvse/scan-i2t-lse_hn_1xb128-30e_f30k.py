# RVSE++ Tables 2 and 5, row 1, and Table 7, row 5, the other half: SCAN i2t LSE, whose mean with
# t2i AVG is its authors' best on Flickr30K
_base_ = './scan-t2i-avg_hn_1xb128-30e_f30k.py'
model = dict(similarity=dict(direction='i2t', aggregation='LSE'))
